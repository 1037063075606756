internal import AegisIO
internal import CCurl
internal import LinuxSys

/// curl's transfers and connections, driven by an event loop: curl says which descriptors and times it waits for.
///
/// Everything happens on the loop's thread (hence `@unchecked Sendable`); curl calls back from inside calls to it, so that
/// nothing here may end a transfer while curl is on the stack.
@safe final class CurlEngine: @unchecked Sendable {
    let loop: EventLoop
    let limits: HTTPClientLimits
    let authorities: [UInt8]?
    private var handle: UnsafeMutablePointer<al_curl_client>?
    private var watch: LevelWatch?
    private var timer: LoopCall?
    private var transfers: [ObjectIdentifier: CurlTransfer] = [:]

    init(on loop: EventLoop, limits: HTTPClientLimits, authorities: [UInt8]? = nil) throws(HTTPClientError) {
        self.loop = loop
        self.limits = limits
        self.authorities = authorities
        guard CurlCalls.started == 0 else { throw HTTPClientError(.closed, "libcurl cannot be used here") }
        let none: UnsafeMutableRawPointer? = nil
        unsafe handle = al_curl_client_new(CurlCalls.table, none, limits.connections, limits.idleConnections)
        guard let made = unsafe handle else { throw HTTPClientError(.closed, "there is no memory for an HTTP client") }
        unsafe made.pointee.user = Unmanaged.passUnretained(self).toOpaque()
        do {
            watch = try LevelWatch(on: loop) { [weak self] events in
                for event in events { self?.ready(event) }
            } onEnd: { [weak self] in
                self?.close()
            }
        } catch {
            throw HTTPClientError(.closed, "an HTTP client cannot be made: \(error)")
        }
    }

    deinit { unsafe al_curl_client_free(handle) }

    /// How many transfers are under way.
    var count: Int { transfers.count }

    /// Starts a transfer.
    func begin(_ transfer: CurlTransfer) throws(HTTPClientError) {
        guard loop.isCurrent else {
            // What belongs on a loop that has ended runs elsewhere.
            precondition(loop.hasEnded, "not on the client's loop")
            throw .closed
        }
        guard let client = unsafe handle else { throw .closed }
        guard transfers.count < limits.transfers else {
            throw HTTPClientError(.busy, "\(limits.transfers) requests are under way already")
        }
        transfers[ObjectIdentifier(transfer)] = transfer
        let code = unsafe al_curl_begin(client, transfer.handle)
        guard code != 0 else { return }
        transfers[ObjectIdentifier(transfer)] = nil
        throw HTTPClientError(.invalidRequest, "the request cannot be sent: \(transfer.problem(code))")
    }

    /// Ends a transfer before its time, and its connection with it. Does nothing when it is over.
    func abort(_ transfer: CurlTransfer, _ error: HTTPClientError) {
        guard transfers.removeValue(forKey: ObjectIdentifier(transfer)) != nil else { return }
        if let client = unsafe handle { unsafe al_curl_end(client, transfer.handle, 1) }
        transfer.ended(.failure(error))
    }

    /// Ends everything. Idempotent.
    func close() {
        for transfer in transfers.values { abort(transfer, .closed) }
        watch?.close()
        timer?.cancel()
        timer = nil
        unsafe al_curl_client_free(handle)
        unsafe handle = nil
    }

    // MARK: What the loop tells

    private func ready(_ event: LevelWatch.Event) {
        guard let client = unsafe handle else { return }
        let directions = (event.canRead ? AL_CURL_READ : 0) | (event.canWrite ? AL_CURL_WRITE : 0)
        unsafe al_curl_ready(client, event.descriptor, Int32(directions), event.hasFailed ? 1 : 0)
        collect()
    }

    private func timeIsUp() {
        timer = nil
        guard let client = unsafe handle else { return }
        unsafe al_curl_timeout(client)
        collect()
    }

    /// Takes out what is over.
    private func collect() {
        while let client = unsafe handle {
            var code: Int32 = 0
            guard let transfer = unsafe CurlCalls.transfer(al_curl_next_done(client, &code)) else { return }
            transfers[ObjectIdentifier(transfer)] = nil
            let result = transfer.result(code)
            unsafe al_curl_end(client, transfer.handle, 0)
            transfer.ended(result)
        }
    }

    // MARK: What curl tells

    func watch(_ descriptor: Int32, directions: Int32) {
        watch?.set(
            descriptor, read: directions & Int32(AL_CURL_READ) != 0,
            write: directions & Int32(AL_CURL_WRITE) != 0)
    }

    func setTimer(_ milliseconds: Int) {
        timer?.cancel()
        timer = nil
        guard milliseconds >= 0 else { return }
        // Never at once: curl must not be called from its own call.
        timer = loop.call(after: .milliseconds(milliseconds)) { [weak self] isDue in
            if isDue { self?.timeIsUp() }
        }
    }
}
