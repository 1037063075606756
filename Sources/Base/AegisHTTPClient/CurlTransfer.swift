internal import AegisIO
internal import AegisWire
internal import CCurl
internal import LinuxSys

/// One request on its way and the answer that comes, between curl and the task that reads.
///
/// It belongs to its client's loop (hence `@unchecked Sendable`).
@safe final class CurlTransfer: @unchecked Sendable {
    let handle: UnsafeMutablePointer<al_curl_transfer>
    private let engine: CurlEngine
    private let request: ClientRequest
    private var machine: TransferMachine
    private var times: TransferTimes
    private var timer: LoopCall?
    private var waiter: CheckedContinuation<Void, Never>?
    /// The address that was refused, while none was admitted.
    private var refused: String?
    private var admittedAny = false
    /// The address that the request was sent to.
    private(set) var peer: (address: String, port: UInt16)?

    /// A transfer of a checked request, not yet begun.
    ///
    /// - Parameters:
    ///   - request: what to ask.
    ///   - address: the one to connect to instead of what the name resolves to.
    ///   - connectLimit: how long connecting may take.
    ///   - engine: who carries it out.
    /// - Throws: `.busy` when memory is out.
    init(_ request: ClientRequest, address: String?, connectLimit: Duration, engine: CurlEngine) throws(HTTPClientError)
    {
        self.engine = engine
        self.request = request
        machine = TransferMachine(maximumBody: request.maximumBody)
        var limits = request.timeouts
        limits.connect = connectLimit
        times = TransferTimes(limits, now: SystemTime.monotonic)
        let none: UnsafeMutableRawPointer? = nil
        guard let made = unsafe al_curl_transfer_new(CurlCalls.table, none) else {
            throw HTTPClientError(.busy, "there is no memory for a request")
        }
        unsafe handle = made
        unsafe handle.pointee.user = Unmanaged.passUnretained(self).toOpaque()
        configure(address, connectLimit)
    }

    deinit { unsafe al_curl_transfer_free(handle) }

    private func configure(_ address: String?, _ connectLimit: Duration) {
        unsafe al_curl_set_url(handle, request.url.text)
        let body = request.body ?? []
        unsafe body.withUnsafeBufferPointer { bytes in
            unsafe al_curl_set_method(
                handle, request.method.rawValue, bytes.baseAddress, bytes.count, request.body == nil ? 0 : 1)
        }
        for (name, value) in request.headers {
            unsafe al_curl_add_header(handle, value.isEmpty ? "\(name);" : "\(name): \(value)")
        }
        // curl's own ideas of what to say.
        unsafe al_curl_add_header(handle, "Expect:")
        if !request.headers.contains("accept") { unsafe al_curl_add_header(handle, "Accept: */*") }
        if request.body != nil, !request.headers.contains("content-type") {
            unsafe al_curl_add_header(handle, "Content-Type:")
        }
        if let address {
            unsafe al_curl_connect_to(handle, address.contains(":") ? "::[\(address)]:" : "::\(address):")
        }
        if let authorities = engine.authorities {
            unsafe authorities.withUnsafeBufferPointer { bytes in
                unsafe al_curl_trust(handle, bytes.baseAddress, bytes.count, "/etc/ssl/certs")
            }
        }
        if request.usesEnvironmentProxy { unsafe al_curl_use_environment_proxy(handle) }
        if !request.reusesConnection { unsafe al_curl_use_new_connection(handle) }
        if request.acceptsCompression { unsafe al_curl_decompress(handle) }
        let (seconds, attoseconds) = connectLimit.components
        let milliseconds = min(seconds, 1 << 20) * 1000 + attoseconds / 1_000_000_000_000_000
        unsafe al_curl_limit_connect(handle, Int(max(1, milliseconds)))
    }

    // MARK: The reader's side

    /// Starts and waits for the head.
    func begin() async throws(HTTPClientError) -> ClientResponseHead {
        if Task.isCancelled { throw .cancelled }
        try engine.begin(self)
        setTimer()
        while true {
            if let head = machine.head { return head }
            switch machine.outcome {
            case .failure(let error): throw error
            case .success, nil: await wait()
            }
        }
    }

    /// Waits for bytes of the body.
    ///
    /// - Returns: at least one byte; nil at the end.
    func read() async throws(HTTPClientError) -> [UInt8]? {
        guard waiter == nil else { throw HTTPClientError(.invalidRequest, "two tasks read the same answer") }
        while true {
            if Task.isCancelled { engine.abort(self, .cancelled) }
            let portion = machine.take()
            if case .nothingYet = portion, machine.resume() {
                times.enter(.receiving, now: SystemTime.monotonic)
                let code = unsafe al_curl_go_on(handle)
                if code != 0 { engine.abort(self, HTTPClientError(.badAnswer, problem(code))) }
                setTimer()
                continue
            }
            switch portion {
            case .bytes(let bytes): return bytes
            case .end: return nil
            case .failed(let error): throw error
            case .nothingYet: await wait()
            }
        }
    }

    /// Ends the transfer unless it is over, and its connection with it.
    func cancel() { engine.abort(self, .cancelled) }

    /// Lets the answer come to its end for a moment, then ends the transfer and its connection.
    func discard(within time: Duration, upTo bytes: Int) {
        guard machine.outcome == nil else { return }
        machine.discard(upTo: bytes)
        if machine.resume(), unsafe al_curl_go_on(handle) != 0 { return cancel() }
        engine.loop.call(after: time) { [weak self] _ in self?.cancel() }
    }

    private func wait() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                precondition(engine.loop.isCurrent, "not on the client's loop")
                waiter = continuation
            }
        } onCancel: {
            // Later, on the loop: curl itself may be on the stack here.
            engine.loop.call { [self] _ in cancel() }
        }
    }

    private func wake() {
        guard let waiting = waiter.take() else { return }
        waiting.resume()
    }

    // MARK: Time

    private func setTimer() {
        guard timer == nil, machine.outcome == nil else { return }
        let (_, at) = times.next
        let now = SystemTime.monotonic
        timer = engine.loop.call(after: .nanoseconds(Int64(clamping: at > now ? at - now : 0))) { [weak self] isDue in
            guard isDue, let self else { return }
            timer = nil
            guard let limit = times.passed(now: SystemTime.monotonic) else { return setTimer() }
            engine.abort(self, timeout(limit))
        }
    }

    private func timeout(_ limit: HTTPClientError.Limit) -> HTTPClientError {
        let length = times.length(of: limit)
        let what =
            switch limit {
            case .connect: "\(request.url.origin) could not be connected to within \(length)"
            case .firstByte: "\(request.url.origin) has not begun to answer within \(length)"
            case .idle: "\(request.url.origin) has sent nothing for \(length) in the middle of its answer"
            case .total: "the answer of \(request.url.origin) was not whole within \(length)"
            }
        return HTTPClientError(.timeout(limit), what)
    }

    /// An earlier limit counts from now on; a later one is found when the timer is due.
    private func enter(_ phase: TransferTimes.Phase) {
        let before = times.next.at
        times.enter(phase, now: SystemTime.monotonic)
        guard times.next.at < before else { return }
        timer?.cancel()
        timer = nil
        setTimer()
    }

    // MARK: What curl tells

    func line(_ bytes: [UInt8]) -> Int32 {
        let hadHead = machine.head != nil
        let goesOn = machine.line(bytes)
        if !hadHead, machine.head != nil {
            enter(.receiving)
            wake()
        }
        return Int32(goesOn ? AL_CURL_GO_ON : AL_CURL_STOP)
    }

    func body(_ bytes: UnsafeBufferPointer<UInt8>) -> Int32 {
        let arrival = unsafe machine.body(bytes)
        enter(arrival == .later ? .paused : .receiving)
        switch arrival {
        case .taken:
            wake()
            return Int32(AL_CURL_GO_ON)
        case .later: return Int32(AL_CURL_PAUSE)
        case .stop: return Int32(AL_CURL_STOP)
        }
    }

    func admits(_ address: String, _ port: UInt16, isOpen: Bool) -> Bool {
        guard request.admits?(address, port) ?? true else {
            refused = refused ?? address
            if isOpen { machine.stop(refusal(address)) }
            return false
        }
        admittedAny = true
        if isOpen {
            peer = (address, port)
            enter(.waiting)
        }
        return true
    }

    // MARK: The end

    /// What a code of curl's means here.
    func result(_ code: Int32) -> Result<Void, HTTPClientError> {
        if code == 0 { return .success(()) }
        if let refused, !admittedAny { return .failure(refusal(refused)) }
        let said = problem(code)
        let about = "\(request.url.origin): \(said)"
        return .failure(
            CurlCode.kind(code).map { HTTPClientError($0, about) } ?? timeout(.connect))
    }

    private func refusal(_ address: String) -> HTTPClientError {
        HTTPClientError(.refusedAddress, "\(request.url.origin) is at \(address), which is not allowed")
    }

    /// curl's own words.
    func problem(_ code: Int32) -> String { unsafe String(cString: al_curl_problem(handle, code)) }

    /// curl knows nothing of this transfer any more.
    func ended(_ result: Result<Void, HTTPClientError>) {
        machine.finish(result)
        timer?.cancel()
        timer = nil
        wake()
    }
}

/// curl's codes in our words.
enum CurlCode {
    /// Nil for a limit of time: the one of connecting is the only one that curl watches.
    static func kind(_ code: Int32) -> HTTPClientError.Kind? {
        switch CURLcode(UInt32(bitPattern: code)) {
        case CURLE_OPERATION_TIMEDOUT: nil
        case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY: .resolve
        case CURLE_COULDNT_CONNECT, CURLE_INTERFACE_FAILED, CURLE_PROXY: .connect
        case CURLE_SSL_CONNECT_ERROR, CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CIPHER, CURLE_SSL_CERTPROBLEM,
            CURLE_SSL_CACERT_BADFILE, CURLE_SSL_ISSUER_ERROR, CURLE_SSL_ENGINE_INITFAILED, CURLE_SSL_CRL_BADFILE,
            CURLE_SSL_INVALIDCERTSTATUS, CURLE_USE_SSL_FAILED:
            .tls
        case CURLE_GOT_NOTHING, CURLE_RECV_ERROR, CURLE_SEND_ERROR, CURLE_PARTIAL_FILE, CURLE_HTTP2,
            CURLE_HTTP2_STREAM, CURLE_SEND_FAIL_REWIND:
            .cut
        case CURLE_URL_MALFORMAT, CURLE_BAD_FUNCTION_ARGUMENT, CURLE_UNKNOWN_OPTION:
            .invalidRequest
        case CURLE_OUT_OF_MEMORY: .busy
        default: .badAnswer
        }
    }
}
