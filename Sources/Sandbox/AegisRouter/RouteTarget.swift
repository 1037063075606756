import AegisCore
import AegisIO
import AegisProxy
import AegisSandboxTypes
import AegisWire
import LinuxSys

/// Where the requests of one exposed port go: its hold, its connections, and those who wait for both.
///
/// One hold serves all exchanges at a time and a moment longer, so that the path of a request never touches the
/// directory of instances. On the router's loop only, hence `@unchecked Sendable`.
final class RouteTarget: ProxyUpstream, HTTP2Target, @unchecked Sendable {
    private enum Phase {
        /// Nobody knows whether the port answers.
        case unknown
        /// One task finds out; everybody else waits for it.
        case opening
        /// It has answered under the present hold.
        case open
    }

    var exposure: Exposure {
        didSet { if exposure.readiness != oldValue.readiness { readyLife = nil } }
    }
    private let services: RouterServices
    private let pool: UpstreamPool
    private var phase = Phase.unknown
    /// Finds out whether the port answers.
    private var openingTask: TaskScope.Handle?
    private var hold: (any RouteHold)?
    /// The sandbox in which the server has been ready.
    private var readyLife: UInt64?
    private var users = 0
    /// Browsers that are about to get a page.
    private var pages = 0
    /// A task is about to look whether anybody needs the hold of a port that cools down.
    private var isLettingGo = false
    private var holdUntil: UInt64 = 0
    /// How long the hold outlives each exchange, in nanoseconds.
    private let holdTime: UInt64
    private var waiters: [UInt64: CheckedContinuation<Result<Bool, AegisError>, Never>] = [:]
    private var nextWaiter: UInt64 = 0
    private var isHeld = false
    /// Nobody wants to know any more whether the port answers.
    private var isAbandoned = false
    /// The port is served no more.
    private var isClosed = false
    private var failure: (error: AegisError, until: UInt64)?

    init(_ exposure: Exposure, _ services: RouterServices) {
        self.exposure = exposure
        self.services = services
        holdTime = UInt64(services.limits.holdTime.wholeNanoseconds)
        pool = UpstreamPool(limits: services.proxy.limits)
    }

    /// Whether the port answers, as far as is known.
    var isOpen: Bool { phase == .open && hold?.isAwake == true }

    /// Requests that wait for the port.
    var waitingCount: Int { waiters.count }

    /// What is being done, for people who wait.
    var activity: String {
        let label = exposure.name ?? exposure.instance
        return isHeld ? "\(label) is awake; waiting for port \(exposure.guestPort) to answer." : "Waking \(label)."
    }

    private var opening: RouteOpening {
        RouteOpening(
            exposure: exposure, source: services.source, loop: services.proxy.loop, limits: services.limits,
            readyLife: readyLife)
    }

    // MARK: Exchanges

    func takeKept() -> UpstreamConnection? {
        guard isOpen, let kept = pool.take() else { return nil }
        users += 1
        return kept
    }

    func connect(fresh: Bool, for client: any ProxyWaiter) async throws -> UpstreamConnection {
        users += 1
        // Paused or stopped in spite of the hold: only a new one wakes it.
        if phase == .open, hold?.isAwake != true { phase = .unknown }
        if phase == .open, !fresh, let kept = pool.take() { return kept }
        do { return try await find(fresh: fresh, for: client) } catch {
            leave()
            throw error
        }
    }

    private func find(fresh: Bool, for client: (any ProxyWaiter)? = nil) async throws -> UpstreamConnection {
        if phase == .open, let hold {
            if let stream = await dialNow(hold) { return wrap(stream) }
            // It answered a moment ago and does no more: look at it as if it had just been woken.
            if phase == .open { phase = .unknown }
        }
        // The server had this request and went away with it: it is not started again for the same request.
        if fresh { throw AegisError.lost }
        for _ in 0..<Self.mostWakes {
            guard try await ready(.request, for: client).get() else { throw CancellationError() }
            // Its turn came after a while: it may have been paused again meanwhile.
            if isOpen { break }
            if phase == .open { phase = .unknown }
        }
        if let kept = pool.take() { return kept }
        guard let hold else { throw AegisError(.unavailable, "instance-stopped", "\(exposure.instance) ended") }
        return wrap(try await opening.join(hold, within: services.limits.runningTime))
    }

    private static var mostWakes: Int { 3 }

    private func dialNow(_ hold: any RouteHold) async -> FileStream? {
        try? await opening.join(hold, within: services.limits.dialTime)
    }

    func finished(_ connection: UpstreamConnection, reusable: Bool) {
        if reusable { pool.put(connection, now: services.proxy.now) } else { connection.stream.close() }
        leave()
        // It has room for one, and has shown that it is quick.
        if !waiters.isEmpty { admit(2) }
    }

    private func wrap(_ stream: FileStream) -> UpstreamConnection {
        UpstreamConnection(stream, limits: services.proxy.limits)
    }

    private func leave() {
        users -= 1
        guard exposure.cooldown != nil else { return keepHold(for: holdTime) }
        guard users + pages == 0, phase == .open, !isLettingGo else { return }
        isLettingGo = true
        // Not at once: what ends here may go on under another count in the same turn of the loop, as a connection does with its
        // request, and a request with its repetition. A hold that was given up between the two would be had back as one that no
        // longer counts.
        services.scope.spawn("let go") { [self] in
            isLettingGo = false
            letGo()
        }
    }

    /// What comes by a port that cools down must not keep the instance awake: a hold that outlived each exchange would never end
    /// where one follows the other faster.
    private func letGo() {
        guard users + pages == 0, phase == .open else { return }
        hold = nil
        phase = .unknown
    }

    private func keepHold(for nanoseconds: UInt64) {
        holdUntil = max(holdUntil, SystemTime.monotonic &+ nanoseconds)
    }

    // MARK: HTTP/2

    func entered() { users += 1 }
    func left() { leave() }

    func ready() async throws {
        if isOpen { return }
        if phase == .open { phase = .unknown }
        _ = try await ready(.request).get()
    }

    func dial() async throws -> HTTP2Transport {
        // The one that found out that the port answers has not been used.
        if isOpen, let kept = pool.take() { return HTTP2Transport(kept.stream) }
        return HTTP2Transport(try await find(fresh: false).stream)
    }

    // MARK: Connections that have said nothing yet

    /// A connection has come on a port that any connection wakes: the instance is held until `settled`.
    func arrived() {
        users += 1
        if phase == .unknown, !isClosed { open(.connection) }
    }

    /// The connection has sent a request, which counts by itself, or has gone.
    func settled() { leave() }

    // MARK: Waiting

    /// Waits until the port answers.
    ///
    /// - Parameters:
    ///   - why: what was heard from the client.
    ///   - time: how long to wait at most; nil waits for the outcome.
    ///   - client: who waits, where that is one client.
    /// - Returns: false when the time was over first, or the client has gone; or why it does not answer.
    private func ready(
        _ why: RouteReason, within time: Duration? = nil, for client: (any ProxyWaiter)? = nil
    ) async -> Result<Bool, AegisError> {
        guard client?.isGone != true else { return .success(false) }
        guard waiters.count < services.limits.waiting else { return .failure(tooManyWait) }
        guard !isClosed else { return .failure(exposedNoMore) }
        if phase != .opening { open(why) }
        let number = nextWaiter
        nextWaiter += 1
        if let time {
            services.scope.spawn("wait for a port") { [self] in
                try? await services.proxy.loop.clock.sleep(for: time)
                waiters.removeValue(forKey: number)?.resume(returning: .success(false))
            }
        }
        client?.onGone = { [self] in waiters.removeValue(forKey: number)?.resume(returning: .success(false)) }
        defer { client?.onGone = nil }
        return await withCheckedContinuation { waiters[number] = $0 }
    }

    private var tooManyWait: AegisError {
        AegisError(
            .unavailable, "too-many-waiting",
            "\(waiters.count) requests wait for port \(exposure.guestPort) of \(exposure.instance), which is the limit",
            hint: "try again later")
    }

    private func open(_ why: RouteReason) {
        phase = .opening
        isHeld = false
        services.proxy.wake()
        openingTask = services.scope.spawn("open \(exposure.instance):\(exposure.guestPort)") { [self] in
            await runOpening(why)
        }
    }

    private func runOpening(_ why: RouteReason) async {
        let result: Result<Bool, AegisError>
        do {
            var kept: UpstreamConnection?
            let found = try await opening.open(why) { hold in
                kept = takeKept(of: hold)
                return kept?.stream
            } progress: { _, hold in
                self.hold = isClosed ? nil : hold
                isHeld = true
            }
            guard !isClosed else {
                found.stream.close()
                throw exposedNoMore
            }
            hold = found.hold
            // Those of an earlier sandbox lead nowhere.
            if readyLife != found.hold.life { pool.removeAll() }
            readyLife = found.hold.life
            pool.put(kept ?? wrap(found.stream), now: services.proxy.now, used: false)
            phase = .open
            failure = nil
            result = .success(true)
        } catch {
            let cause = (error as? AegisError) ?? Self.stopped(error)
            hold = nil
            phase = .unknown
            guard !isClosed else { return resumeAll(.failure(exposedNoMore)) }
            if isAbandoned {
                isAbandoned = false
                // Somebody came just when it was given up.
                if users + pages > 0 { return open(waiters.isEmpty ? .connection : .request) }
                return resumeAll(.failure(cause))
            }
            let time = UInt64(services.limits.failureTime.wholeNanoseconds)
            failure = (cause, SystemTime.monotonic &+ time)
            result = .failure(cause)
        }
        isAbandoned = false
        keepHold(for: holdTime)
        if case .success = result { return await admitAll() }
        resumeAll(result)
    }

    /// A kept connection to the server of a hold that has just been had: on a port that cools down each exchange that follows
    /// another has a hold of its own, and need not dial for it.
    private func takeKept(of hold: any RouteHold) -> UpstreamConnection? {
        guard exposure.cooldown != nil, hold.wasRunning, hold.isAwake, hold.life == readyLife else { return nil }
        return pool.take()
    }

    private func resumeAll(_ result: Result<Bool, AegisError>) {
        let all = waiters.values
        waiters = [:]
        for waiter in all { waiter.resume(returning: result) }
    }

    /// Lets those go on who have waited, a few at a time: many servers keep no more than five connections for later, and
    /// one that finds no room is lost for seconds without a word.
    private func admitAll() async {
        while phase == .open, !waiters.isEmpty {
            admit(services.limits.admitted)
            if !waiters.isEmpty { try? await services.proxy.loop.clock.sleep(for: services.limits.admissionTime) }
            if Task.isCancelled { admit(waiters.count) }
        }
        // It went to sleep or ended meanwhile, and nobody has come since who would open it again.
        if phase == .unknown, !waiters.isEmpty { open(.request) }
    }

    private func admit(_ most: Int) {
        guard phase == .open else { return }
        for number in waiters.keys.sorted().prefix(most) {
            waiters.removeValue(forKey: number)?.resume(returning: .success(true))
        }
    }

    private static func stopped(_ error: any Error) -> AegisError {
        if error is CancellationError {
            return AegisError(.unavailable, "daemon-stopping", "the daemon is stopping")
        }
        return AegisError(.failed, "internal-error", String(describing: error))
    }

    // MARK: Browsers

    /// What a browser is shown instead of being kept waiting: the loading page, or why waking failed; nil when the port
    /// is ready.
    func page() async -> ProxyAnswer? {
        if phase == .open, hold?.isAwake == true { return nil }
        pages += 1
        defer { pages -= 1 }
        if let known = failure {
            failure = nil
            if known.until > SystemTime.monotonic { return ProxyAnswer(failure: known.error, html: true) }
        }
        switch await ready(.request, within: services.limits.pageTime) {
        case .success(true): return nil
        case .success(false): break
        case .failure(let error):
            failure = nil
            return ProxyAnswer(failure: error, html: true)
        }
        keepHold(for: UInt64(services.limits.pageHoldTime.wholeNanoseconds))
        let label = exposure.name ?? exposure.instance
        let body = HTMLPage.make(
            title: "Starting \(label)", paragraphs: [activity, "This page reloads itself."], refresh: 1)
        return ProxyAnswer(
            503,
            headers: ["Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Retry-After": "1"],
            body: body)
    }

    // MARK: Time

    /// Gives back what nobody needs; called once a tick.
    ///
    /// - Returns: whether anything is left that time will take away.
    func sweep(_ now: UInt64) -> Bool {
        pool.sweep(now: now)
        if users == 0, phase != .opening, now >= holdUntil {
            hold = nil
            phase = .unknown
        }
        if users + pages == 0, phase == .opening, !isAbandoned, now >= holdUntil {
            isAbandoned = true
            openingTask?.cancel()
        }
        return hold != nil || pool.count > 0 || phase == .opening
    }

    /// The port is served no more.
    func close() {
        isClosed = true
        pool.removeAll()
        hold = nil
        if phase == .opening { openingTask?.cancel() } else { phase = .unknown }
        resumeAll(.failure(exposedNoMore))
    }

    private var exposedNoMore: AegisError {
        AegisError(.unavailable, "port-closed", "port \(exposure.guestPort) is exposed no more")
    }
}

extension Duration {
    /// At least 0.
    var wholeNanoseconds: Int64 {
        let (seconds, attoseconds) = components
        return max(0, seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
    }
}
