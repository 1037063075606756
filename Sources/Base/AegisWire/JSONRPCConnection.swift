internal import AegisCore
internal import AegisIO
internal import AegisJSON
internal import Synchronization

/// One client: a reader that also starts what came, a task per request, and one writer.
///
/// What they share is under one lock that is never held across a wait.
final class JSONRPCConnection: Sendable {
    typealias Run = @Sendable (JSONRPCRequest, JSONRPCContext) async -> Result<JSONValue, JSONRPCFault>

    private struct State {
        var machine: JSONRPCMachine
        var outgoing: [[UInt8]] = []
        /// Nothing will be added to `outgoing`.
        var isFinished = false
        /// Calls that go on after their answers.
        var follows = 0
    }

    private let stream: FileStream
    private let caller: JSONRPCCaller
    private let limits: JSONRPCLimits
    private let clock: any Clock<Duration>
    private let run: Run
    private let state: Mutex<State>
    /// For the writer: there is something to send, or never will be.
    private let output = Signal()
    /// For those who send notifications: the client has taken something, or never will.
    private let room = Signal()
    /// For the reader: a request has ended, or the client has taken something.
    private let progress = Signal()

    init(
        _ stream: FileStream, caller: JSONRPCCaller, limits: JSONRPCLimits, clock: any Clock<Duration>,
        run: @escaping Run
    ) {
        self.stream = stream
        self.caller = caller
        self.limits = limits
        self.clock = clock
        self.run = run
        state = Mutex(State(machine: JSONRPCMachine(limits: limits)))
    }

    /// Serves the client until it has gone and nothing of it runs.
    func serve() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.write() }
            // Two groups: a client that goes ends its calls, not its notifications.
            await withDiscardingTaskGroup { notifications in
                await withDiscardingTaskGroup { calls in
                    await read(calls: &calls, notifications: &notifications)
                }
            }
            state.withLock { $0.isFinished = true }
            output.set()
        }
    }

    // MARK: Reading

    private func read(calls: inout DiscardingTaskGroup, notifications: inout DiscardingTaskGroup) async {
        var buffer = ByteBuffer()
        var lines = JSONRPCLines(limit: limits.line)
        var hasEnded = false
        var isLost = false
        while !Task.isCancelled {
            while let job = state.withLock({ $0.machine.start() }) {
                if job.request.id == nil {
                    notifications.addTask { await self.perform(job) }
                } else {
                    calls.addTask { await self.perform(job) }
                }
            }
            if !isLost, hasGone() {
                isLost = true
                calls.cancelAll()
            }
            let (wantsInput, isIdle) = state.withLock { ($0.machine.wantsInput, $0.machine.isIdle && $0.follows == 0) }
            if wantsInput, let line = lines.next(in: &buffer, ended: hasEnded) {
                receive(line)
            } else if hasEnded, isIdle {
                return
            } else if !hasEnded, wantsInput {
                hasEnded = await !fill(&buffer)
            } else {
                await pause(watching: !isLost)
            }
        }
    }

    /// Whether nobody is there to be answered; what was to be sent is dropped then.
    private func hasGone() -> Bool {
        let isGone = stream.isClosed || stream.isForsaken
        return state.withLock { state in
            if isGone { state.machine.forsake() }
            if state.machine.isForsaken { state.outgoing = [] }
            return state.machine.isForsaken
        }
    }

    /// Reads what comes; false at the end of the stream.
    private func fill(_ buffer: inout ByteBuffer) async -> Bool {
        do throws(IOError) {
            return try await stream.read(into: &buffer, atMost: 64 << 10) > 0
        } catch {
            state.withLock { $0.machine.forsake() }
            return false
        }
    }

    /// Waits until something has ended or was taken, or the kernel has news of the client.
    private func pause(watching: Bool) async {
        guard watching else { return await progress.wait() }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.progress.wait() }
            group.addTask { try? await self.stream.waitUntilReadable() }
            await group.next()
            group.cancelAll()
        }
    }

    private func receive(_ line: JSONRPCLines.Line) {
        let message =
            switch line {
            case .line(let bytes): JSONRPCMessage(line: bytes[...], batchLimit: limits.batch)
            case .tooLong:
                JSONRPCMessage.refusal(
                    JSONRPCFault(
                        -32600, "request-too-large", "a request is longer than \(ByteSize(UInt64(limits.line)))",
                        hint: "send long content as a file and name its path"))
            }
        emit { $0.received(message) }
    }

    // MARK: Running

    private func perform(_ job: JSONRPCMachine.Job) async {
        let follows = JSONRPCFollows(limit: limits.follows) { self.admitFollow() }
        let context = JSONRPCContext(caller: caller, isNotification: job.request.id == nil, follows: follows)
        let outcome = await run(job.request, context)
        emit { $0.finished(job.ticket, outcome) }
        progress.set()
        guard let body = follows.begun() else { return }
        // What failed after it was admitted has nothing to go on with.
        if case .success = outcome { await body(JSONRPCNotifier { await self.notify($0) }) }
        state.withLock { $0.follows -= 1 }
        progress.set()
    }

    private func admitFollow() -> Bool {
        state.withLock { state in
            guard state.follows < limits.follows else { return false }
            state.follows += 1
            return true
        }
    }

    /// Sends a line that nobody asked for, once there is room.
    private func notify(_ line: [UInt8]) async -> Bool {
        while !Task.isCancelled {
            let (isSent, isGone) = state.withLock { state -> (Bool, Bool) in
                guard !state.machine.isForsaken, !state.isFinished else { return (false, true) }
                guard state.machine.unsent < limits.unsent else { return (false, false) }
                state.machine.pushed(line.count)
                state.outgoing.append(line)
                return (true, false)
            }
            if isSent { output.set() }
            if isSent || isGone { return isSent }
            await room.wait()
        }
        return false
    }

    private func emit(_ change: (inout JSONRPCMachine) -> [UInt8]?) {
        let hasOutput = state.withLock { state in
            guard let bytes = change(&state.machine) else { return false }
            state.outgoing.append(bytes)
            return true
        }
        if hasOutput { output.set() }
    }

    // MARK: Writing

    private func write() async {
        while true {
            let (portion, isFinished) = state.withLock { state in
                defer { state.outgoing = [] }
                return (state.outgoing, state.isFinished)
            }
            for bytes in portion {
                guard await send(bytes) else { return forsake() }
            }
            guard portion.isEmpty else { continue }
            if isFinished || Task.isCancelled { return }
            await output.wait()
        }
    }

    /// Sends one answer.
    ///
    /// - Returns: false when the client has gone or takes nothing.
    private func send(_ bytes: [UInt8]) async -> Bool {
        var rest = bytes[...]
        while !rest.isEmpty {
            do {
                guard let count = try stream.writeNow(rest) else {
                    try await withDeadline(limits.writeTime, clock: clock) { try await self.stream.waitUntilWritable() }
                    continue
                }
                rest = rest.dropFirst(count)
                state.withLock { $0.machine.sent(count) }
                progress.set()
                room.set()
            } catch let error as IOError where error.kind == .closed {
                return false
            } catch {
                // It is there but takes nothing.
                stream.close()
                return false
            }
        }
        return true
    }

    private func forsake() {
        state.withLock { $0.machine.forsake() }
        progress.set()
        room.set()
    }
}
