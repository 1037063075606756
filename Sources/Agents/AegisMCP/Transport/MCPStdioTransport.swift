package import AegisCore
package import AegisIO
internal import AegisJSON
internal import Synchronization

/// JSON-RPC over the standard streams of a process: one message a line.
package final class MCPStdioTransport: MCPTransport {
    private struct State {
        var next: Int64 = 0
        var waiting: [Int64: CheckedContinuation<MCPAnswer, any Error>] = [:]
        /// Requests whose answers nobody waits for.
        var listening: Set<Int64> = []
        var end: AegisError?
        var remarks = TextTail(most: 4096)
        var strays = 0
        var answersRequests = true
    }

    private let server: String
    private let process: any MCPProcess
    private let scope: TaskScope
    private let clock: any Clock<Duration>
    private let largest: Int
    private let onNotice: @Sendable (MCPNotice) -> Void
    private let state = Mutex(State())
    private let outbox: AsyncStream<[UInt8]>.Continuation

    /// Messages that may wait to be taken by the server.
    private static let mostWaiting = 256
    /// Lines that are no messages which a server may write before it answers again.
    private static let mostStrays = 10_000

    /// Starts to talk with a process.
    ///
    /// - Parameters:
    ///   - server: its name, for messages.
    ///   - process: what was started; `close` stops it.
    ///   - scope: owns the two tasks that this takes.
    ///   - clock: whose time limits requests.
    ///   - largest: the most bytes of a message.
    ///   - onNotice: hears what the server says by itself.
    package init(
        _ server: String, _ process: any MCPProcess, scope: TaskScope, clock: any Clock<Duration>,
        largest: Int = 8 << 20, onNotice: @escaping @Sendable (MCPNotice) -> Void
    ) {
        self.server = server
        self.process = process
        self.scope = scope
        self.clock = clock
        self.largest = largest
        self.onNotice = onNotice
        let (lines, outbox) = AsyncStream.makeStream(
            of: [UInt8].self, bufferingPolicy: .bufferingOldest(Self.mostWaiting))
        self.outbox = outbox
        scope.spawn("mcp \(server): reading") { await self.read() }
        scope.spawn("mcp \(server): writing") { await self.write(lines) }
    }

    package var end: AegisError? { state.withLock { $0.end } }
    package var remarks: String { state.withLock { $0.remarks.text } }

    package func close() async {
        finish(MCPFault.unavailable(server, "it was stopped"))
        await process.stop()
    }

    // MARK: Asking

    package func request(_ request: MCPRequest) async throws -> MCPAnswer {
        let id = try begin(request, listens: false)
        do {
            return try await withDeadline(request.timeout, clock: clock) { try await self.wait(id, request) }
        } catch {
            if state.withLock({ $0.end == nil }), request.method != "initialize" {
                let why = error is CancellationError ? "nobody waits for it" : "it took too long"
                _ = send(MCPOutgoing.cancelled(id, why))
            }
            if let error = error as? IOError, error.kind == .timeout {
                throw MCPFault.timeout(server, request.method, request.timeout)
            }
            throw error
        }
    }

    package func notify(_ method: String, revision: String) async throws {
        try check(send(MCPOutgoing.notification(method, nil)))
    }

    package func listen(_ request: MCPRequest) {
        if let id = try? begin(request, listens: true) {
            _ = send(MCPOutgoing.request(id, request.method, request.params))
        }
    }

    package func listen(revision: String) {}

    private func begin(_ request: MCPRequest, listens: Bool) throws -> Int64 {
        try state.withLock { state in
            if let end = state.end { throw end }
            // Servers of the stateless revision ask nothing, and want no answers.
            state.answersRequests = request.revision != MCPRevision.stateless || request.method == "server/discover"
            state.next += 1
            if listens { state.listening.insert(state.next) }
            return state.next
        }
    }

    private func wait(_ id: Int64, _ request: MCPRequest) async throws -> MCPAnswer {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let refusal = state.withLock { state -> (any Error)? in
                    if let end = state.end { return end }
                    if Task.isCancelled { return CancellationError() }
                    state.waiting[id] = continuation
                    return nil
                }
                if let refusal { return continuation.resume(throwing: refusal) }
                if !send(MCPOutgoing.request(id, request.method, request.params)) {
                    let waiter = state.withLock { $0.waiting.removeValue(forKey: id) }
                    waiter?.resume(
                        throwing: MCPFault.unavailable(server, "\(Self.mostWaiting) messages wait to be read by it"))
                }
            }
        } onCancel: {
            let waiter = state.withLock { $0.waiting.removeValue(forKey: id) }
            waiter?.resume(throwing: CancellationError())
        }
    }

    private func check(_ isSent: Bool) throws(AegisError) {
        if let end { throw end }
        if !isSent { throw MCPFault.unavailable(server, "\(Self.mostWaiting) messages wait to be read by it") }
    }

    private func send(_ message: JSONValue) -> Bool {
        if case .enqueued = outbox.yield(message.compact + [10]) { true } else { false }
    }

    // MARK: The two streams

    private func write(_ lines: AsyncStream<[UInt8]>) async {
        for await line in lines {
            do { try await process.write(line) } catch {
                // Why it takes nothing is what the reading end hears of, as long as that is not over as well.
                return outbox.finish()
            }
        }
    }

    private func read() async {
        var lines = LineSplitter(most: largest)
        while end == nil {
            do {
                switch try await process.read() {
                case .stdout(let bytes): try lines.feed(bytes) { take($0) }
                case .stderr(let bytes): state.withLock { $0.remarks.append(bytes) }
                case .ended(let how): finish(MCPFault.unavailable(server, how))
                }
            } catch is LineSplitter.TooLong {
                finish(MCPFault.protocolBroken(server, "a message has more than \(largest) bytes"))
            } catch {
                finish(MCPFault.unavailable(server, "\(error)"))
            }
        }
        await process.stop()
    }

    private func take(_ line: ArraySlice<UInt8>) {
        let messages: [MCPIncoming]
        do throws(MCPMalformed) { messages = try MCPIncoming.parse(line) } catch {
            return stray(line)
        }
        for message in messages {
            switch message {
            case .answer(let id, let answer):
                let (waiter, listened) = state.withLock { state in
                    state.strays = 0
                    return (state.waiting.removeValue(forKey: id), state.listening.remove(id) != nil)
                }
                if let waiter { waiter.resume(returning: answer) } else if !listened { stray(line) }
            case .strayAnswer: stray(line)
            case .request(let id, let method):
                // What cannot be sent is not worth an end: the server waits for it, or not.
                if state.withLock({ $0.answersRequests }) { _ = send(MCPOutgoing.answer(id, method)) }
            case .notification(let method, _): onNotice(MCPNotice(method: method))
            }
        }
    }

    /// A line that is no message, or answers nothing: programs print such by mistake. Their end is told in errors.
    private func stray(_ line: ArraySlice<UInt8>) {
        let tooMany = state.withLock { state in
            state.remarks.append(line.prefix(500) + [10])
            state.strays += 1
            return state.strays > Self.mostStrays
        }
        if tooMany { finish(MCPFault.protocolBroken(server, "\(Self.mostStrays) lines are no messages")) }
    }

    private func finish(_ error: AegisError) {
        let waiting = state.withLock { state -> [CheckedContinuation<MCPAnswer, any Error>] in
            guard state.end == nil else { return [] }
            state.end = error
            defer { state.waiting = [:] }
            return Array(state.waiting.values)
        }
        outbox.finish()
        for waiter in waiting { waiter.resume(throwing: error) }
    }
}
