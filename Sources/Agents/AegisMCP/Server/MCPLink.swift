internal import AegisCore
internal import AegisIO
internal import Synchronization

/// One server, started when it is needed, and stopped when it is not (decision D14). Whoever needs it at the same time shares it.
final class MCPLink: Sendable {
    typealias Opener =
        @Sendable (MCPServerSection, @escaping @Sendable (MCPNotice) -> Void) async throws -> any MCPTransport

    /// Where it stands.
    enum Phase: Sendable {
        case stopped
        case connecting
        case ready(MCPClient)
        /// It failed several times: nothing is tried until a time has passed.
        case waiting(AegisError, Duration)
    }
    private typealias Waiter = CheckedContinuation<MCPClient, any Error>
    private struct State {
        var phase = Phase.stopped
        var users = 0
        /// Failures since the server last answered something.
        var failures = 0
        var lastError: AegisError?
        var waiters: [UInt64: Waiter] = [:]
        var nextWaiter: UInt64 = 0
        /// It ended when it was asked whether it knows the stateless revision.
        var isLegacy = false
        var isEnded = false
        /// How often it was begun to speak with it.
        var connections = 0
        var timer: TaskScope.Handle?
        var work: TaskScope.Handle?
    }

    let section: MCPServerSection
    private let open: Opener
    private let scope: TaskScope
    private let clock: any Clock<Duration>
    private let times: MCPClient.Times
    private let onNotice: @Sendable (MCPNotice) -> Void
    private let onConnect: @Sendable (MCPClient) async throws -> Void
    private let state = Mutex(State())

    /// The longest time between two tries.
    private static let longestPause = Duration.seconds(300)

    init(
        _ section: MCPServerSection, open: @escaping Opener, scope: TaskScope, clock: any Clock<Duration>,
        times: MCPClient.Times = MCPClient.Times(), onConnect: @escaping @Sendable (MCPClient) async throws -> Void,
        onNotice: @escaping @Sendable (MCPNotice) -> Void
    ) {
        self.section = section
        self.open = open
        self.scope = scope
        self.clock = clock
        self.times = times
        self.onConnect = onConnect
        self.onNotice = onNotice
    }

    /// How often it was begun to speak with the server.
    var connections: Int { state.withLock { $0.connections } }

    /// The phase, and what went wrong last.
    var standing: (phase: Phase, lastError: AegisError?) {
        state.withLock { state in
            if case .ready(let client) = state.phase, let end = client.transport.end {
                return (.stopped, Self.told(end, client.transport))
            }
            return (state.phase, state.lastError)
        }
    }

    /// Does something with the server, which runs meanwhile. Where it has ended the session instead, that is done once more in a
    /// new one.
    ///
    /// - Parameters:
    ///   - proves: whether it has proven itself when this succeeds: a later failure is its first one again.
    ///   - body: what is done.
    /// - Returns: what `body` returns.
    /// - Throws: why the server is not there; what `body` throws, with what the server wrote when it went away meanwhile.
    func use<T: Sendable>(proves: Bool = false, _ body: (MCPClient) async throws -> T) async throws -> T {
        do { return try await useOnce(proves: proves, body) } catch is MCPSessionEnded {
            // What the session before was asked last was not done.
            do { return try await useOnce(proves: proves, body) } catch let ended as MCPSessionEnded {
                throw ended.error
            }
        }
    }

    private func useOnce<T: Sendable>(proves: Bool, _ body: (MCPClient) async throws -> T) async throws -> T {
        let client = try await acquire()
        defer { release() }
        do {
            let result = try await body(client)
            if proves { state.withLock { $0.failures = 0 } }
            return result
        } catch let error as AegisError {
            if let end = client.transport.end { throw Self.told(end, client.transport) }
            // A server that answers is there, also when it refuses.
            if error.code == "mcp-error", proves { state.withLock { $0.failures = 0 } }
            throw error
        }
    }

    /// Stops the server for good.
    func end() async {
        let (client, work, timer, waiters) = state.withLock { state in
            state.isEnded = true
            defer {
                state.waiters = [:]
                state.phase = .stopped
            }
            var client: MCPClient?
            if case .ready(let ready) = state.phase { client = ready }
            return (client, state.work, state.timer, Array(state.waiters.values))
        }
        work?.cancel()
        timer?.cancel()
        for waiter in waiters { waiter.resume(throwing: ended) }
        await client?.transport.close()
        await work?.wait()
        await timer?.wait()
    }

    private var ended: AegisError { MCPFault.unavailable(section.name, "it is stopped for good") }

    /// An end, with what the server wrote beside its messages.
    private static func told(_ error: AegisError, _ transport: any MCPTransport) -> AegisError {
        told(error, remarks: transport.remarks)
    }

    /// How a hint begins that tells what a server wrote.
    static let remarksMark = "it wrote: "

    static func told(_ error: AegisError, remarks: String) -> AegisError {
        let lines = MCPText.block(remarks, most: 4096).split(separator: "\n").suffix(5).joined(separator: " | ")
        guard !lines.isEmpty, error.hint == nil else { return error }
        var error = error
        error.hint = "\(remarksMark)\(MCPText.line(lines, most: 600))"
        return error
    }

    // MARK: Being there

    private enum Found {
        case client(MCPClient)
        case refusal(AegisError)
        case wait(UInt64)
    }

    private func acquire() async throws -> MCPClient {
        let found = state.withLock { state -> Found in
            if state.isEnded { return .refusal(ended) }
            if case .ready(let client) = state.phase, let end = client.transport.end { died(&state, client, end) }
            if case .waiting(let error, let pause) = state.phase {
                var error = error
                error.hint = [error.hint, "it is tried again within \(pause)"].compactMap(\.self).joined(
                    separator: "; ")
                return .refusal(error)
            }
            state.users += 1
            state.timer?.cancel()
            state.timer = nil
            if case .ready(let client) = state.phase { return .client(client) }
            if case .stopped = state.phase {
                state.phase = .connecting
                state.work = scope.spawn("mcp \(section.name)") { await self.connect() }
            }
            state.nextWaiter += 1
            return .wait(state.nextWaiter)
        }
        switch found {
        case .client(let client): return client
        case .refusal(let error): throw error
        case .wait(let number):
            do { return try await wait(number) } catch {
                release()
                throw error
            }
        }
    }

    private func wait(_ number: UInt64) async throws -> MCPClient {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let known = state.withLock { state -> Result<MCPClient, any Error>? in
                    if Task.isCancelled { return .failure(CancellationError()) }
                    switch state.phase {
                    case .ready(let client): return .success(client)
                    case .waiting(let error, _): return .failure(error)
                    case .stopped: return .failure(state.lastError ?? ended)
                    case .connecting:
                        state.waiters[number] = continuation
                        return nil
                    }
                }
                if let known { continuation.resume(with: known) }
            }
        } onCancel: {
            let waiter = state.withLock { $0.waiters.removeValue(forKey: number) }
            waiter?.resume(throwing: CancellationError())
        }
    }

    private func release() {
        state.withLock { state in
            state.users -= 1
            rest(&state)
        }
    }

    /// Lets a server that nobody uses be stopped after its time.
    private func rest(_ state: inout State) {
        guard state.users == 0, case .ready = state.phase, section.idleStop.milliseconds > 0, !state.isEnded else {
            return
        }
        state.timer?.cancel()
        state.timer = scope.spawn("mcp \(section.name): idle") { await self.idle() }
    }

    private func idle() async {
        do { try await clock.sleep(for: section.idleStop.duration) } catch { return }
        let client = state.withLock { state -> MCPClient? in
            guard state.users == 0, !Task.isCancelled, case .ready(let client) = state.phase else { return nil }
            state.phase = .stopped
            return client
        }
        await client?.transport.close()
    }

    // MARK: Starting

    private func connect() async {
        let result: Result<MCPClient, any Error>
        do { result = .success(try await begin()) } catch { result = .failure(error) }
        let (waiters, isLate) = state.withLock { state -> ([Waiter], Bool) in
            defer { state.waiters = [:] }
            if state.isEnded { return (Array(state.waiters.values), true) }
            switch result {
            case .success(let client):
                state.phase = .ready(client)
                state.lastError = nil
                // Whoever it was started for may have given up meanwhile.
                rest(&state)
            case .failure(let error):
                let told =
                    error as? AegisError ?? MCPFault.unavailable(section.name, "it could not be started: \(error)")
                state.lastError = told
                fail(&state, told)
            }
            return (Array(state.waiters.values), false)
        }
        if isLate, case .success(let client) = result { await client.transport.close() }
        for waiter in waiters { waiter.resume(with: isLate ? .failure(ended) : result) }
    }

    /// It went away by itself: the first time it is started again at once.
    private func died(_ state: inout State, _ client: MCPClient, _ end: AegisError) {
        let told = Self.told(end, client.transport)
        state.lastError = told
        if state.failures == 0 {
            state.failures = 1
            state.phase = .stopped
        } else {
            fail(&state, told)
        }
    }

    /// Nothing is tried for a while: longer after each failure.
    private func fail(_ state: inout State, _ error: AegisError) {
        state.failures += 1
        let pause = min(.seconds(1) * (1 << min(state.failures - 1, 10)), Self.longestPause)
        state.phase = .waiting(error, pause)
        state.timer?.cancel()
        state.timer = scope.spawn("mcp \(section.name): pause") { [clock] in
            try? await clock.sleep(for: pause)
            self.state.withLock { state in
                if case .waiting = state.phase, !Task.isCancelled { state.phase = .stopped }
            }
        }
    }

    private func begin() async throws -> MCPClient {
        do { return try await speak(isLegacy: state.withLock { $0.isLegacy }) } catch is MCPLegacy {
            state.withLock { $0.isLegacy = true }
            return try await speak(isLegacy: true)
        }
    }

    private func speak(isLegacy: Bool) async throws -> MCPClient {
        let transport = try await started()
        do {
            let choice = isLegacy && section.revision == .auto ? .session : section.revision
            let client = try await MCPClient(section.name, over: transport, choice: choice, times: times)
            // What its tools are is known anew before anybody calls one.
            try await onConnect(client)
            state.withLock { $0.connections += 1 }
            return client
        } catch {
            let remarks = transport.remarks
            await transport.close()
            // A session that ends while it is begun is not begun again at once.
            let error = (error as? MCPSessionEnded)?.error ?? error
            if let error = error as? AegisError { throw Self.told(error, remarks: remarks) }
            throw error
        }
    }

    private func started() async throws -> any MCPTransport {
        let (open, section, onNotice) = (open, section, onNotice)
        do {
            return try await withDeadline(section.startTimeout.duration, clock: clock) {
                try await open(section, onNotice)
            }
        } catch let error as IOError where error.kind == .timeout {
            throw MCPFault.unavailable(section.name, "it did not start within \(section.startTimeout)")
        }
    }
}
