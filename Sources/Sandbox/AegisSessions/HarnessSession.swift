package import AegisChannel
internal import AegisCore
package import AegisIO
internal import LinuxSys
internal import Synchronization

/// Which output of a process.
package enum OutputKind: UInt8, Sendable, Hashable, CaseIterable { case stdout = 1, stderr = 2 }

/// What a session tells its owner, in the order of the channel. Calls never wait: what one call hands over is bounded
/// by the credit of its stream, and the owner gives new credit with `acknowledge`.
package protocol SessionSink: AnyObject, Sendable {
    /// Bytes of a process at their offset. After a new connection to the keeper bytes may come again.
    func output(process: UInt16, _ kind: OutputKind, offset: UInt64, bytes: ArraySlice<UInt8>, end: Bool)
    /// The process ended; all of its output was handed over before.
    func exited(process: UInt16, _ end: ProcessExited)
}

/// The daemon's end of one sandbox's channel: starts processes, feeds them, takes their output.
package final class HarnessSession: Sendable {
    private struct Input {
        var sent: UInt64
        var taken: UInt64
        var ended = false
        var waiter: CheckedContinuation<Void, Never>?
    }
    private struct State {
        var starts: [UInt16: StartAnswer] = [:]
        /// Processes whose start was answered before anyone waited (after adoption).
        var inputs: [UInt16: Input] = [:]
        var health: [UInt64: CheckedContinuation<Void, any Error>] = [:]
        var nonce: UInt64 = 0
        var closed = false
        /// Of the harness, once it has said hello.
        var version: UInt16?
        var versionWaiters: [CheckedContinuation<UInt16?, Never>] = []
    }

    /// Gets the pid inside, or why there is none.
    package typealias StartAnswer = @Sendable (Result<UInt32, any Error>) -> Void

    private let state = Mutex(State())
    private let outbox = Outbox()
    private let sink: any SessionSink
    /// Shows what passes to whoever looks.
    private let tap: ChannelTap
    /// Frames that belong to the keeper itself (`ended` and the like).
    private let onKeeperFrame: @Sendable (ChannelFrame) -> Void

    /// Makes a session that reports to `sink`.
    package init(
        sink: any SessionSink, tap: ChannelTap = ChannelTap(),
        onKeeperFrame: @escaping @Sendable (ChannelFrame) -> Void = { _ in }
    ) {
        self.sink = sink
        self.tap = tap
        self.onKeeperFrame = onKeeperFrame
    }

    /// Reads and writes until the sandbox has ended or the channel breaks. Processes of an earlier daemon are known from
    /// `known`.
    ///
    /// - Returns: whether the sandbox has ended: everything that it said before was handed over.
    /// - Throws: `ChannelError` for a hostile or broken harness; the caller then kills the sandbox.
    package func run(on stream: any ByteStream, known: [ProcessState]) async throws -> Bool {
        for process in known { know(process) }
        defer { close() }
        return try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await self.outbox.drain(to: stream) }
            defer { outbox.close() }
            var reader = FrameReader()
            while let frame = try await reader.next(from: stream) {
                try take(frame)
                if frame.header.type == .ended { return true }
            }
            return false
        }
    }

    /// A process of an earlier daemon is there, and may be written to from here on.
    package func know(_ process: ProcessState) {
        state.withLock { state in
            guard !state.closed, state.inputs[process.number] == nil else { return }
            // How much of it the harness has is not said: until it is, all that the window holds may be on its way.
            let taken = process.stdinTaken - min(process.stdinTaken, UInt64(Channel.window))
            state.inputs[process.number] = Input(sent: process.stdinTaken, taken: taken)
        }
    }

    // MARK: Requests

    /// Starts a process and waits until it runs.
    ///
    /// - Returns: its pid inside.
    /// - Throws: `ProcessStartError` with the exit code that fits, `IOError.closed` when the sandbox ends meanwhile.
    package func start(_ number: UInt16, _ message: StartProcess) async throws -> UInt32 {
        let payload = message.encoded()
        guard payload.count <= Channel.controlLimit else {
            throw AegisError(
                .tooLarge, "command-too-long", "the command and its environment take \(payload.count) bytes",
                hint: "the limit is \(Channel.controlLimit) bytes: pass long input by stdin or a file")
        }
        return try await withCheckedThrowingContinuation { continuation in
            start(number, payload) { continuation.resume(with: $0) }
        }
    }

    /// Asks for the door of programs inside, and goes on: what is started after it finds it open.
    package func startDoor(_ message: StartProcess, then answer: @escaping StartAnswer) {
        start(Door.process, message.encoded(), answer)
    }

    private func start(_ number: UInt16, _ payload: [UInt8], _ answer: @escaping StartAnswer) {
        let open = state.withLock { state -> Bool in
            guard !state.closed else { return false }
            state.starts[number] = answer
            state.inputs[number] = Input(sent: 0, taken: 0)
            return true
        }
        guard open else { return answer(.failure(IOError.closed)) }
        send(.start, stream: number, payload)
    }

    /// The protocol version of the harness; waits until it has said hello. Nil when the channel ends before.
    package func harnessVersion() async -> UInt16? {
        await withCheckedContinuation { continuation in
            let known = state.withLock { state -> UInt16?? in
                if state.version != nil || state.closed { return .some(state.version) }
                state.versionWaiters.append(continuation)
                return nil
            }
            if let known { continuation.resume(returning: known) }
        }
    }

    /// Sends bytes to a process; waits while it has 256 KiB that it did not take yet.
    package func write(_ number: UInt16, _ bytes: ArraySlice<UInt8>) async throws(IOError) {
        var rest = bytes
        while !rest.isEmpty {
            let room = await room(number, atLeast: 1)
            guard room > 0 else { throw IOError.closed }
            let piece = rest.prefix(min(room, Channel.dataLimit))
            rest = rest.dropFirst(piece.count)
            try put(number, piece)
        }
    }

    /// Sends bytes that must not be torn apart, in one frame: at most 64 KiB. One task at a time.
    package func write(_ number: UInt16, whole bytes: [UInt8]) async throws(IOError) {
        guard await room(number, atLeast: bytes.count) >= bytes.count else { throw IOError.closed }
        try put(number, bytes[...])
    }

    private func put(_ number: UInt16, _ piece: ArraySlice<UInt8>) throws(IOError) {
        guard let offset = reserve(number, piece.count) else { throw IOError.closed }
        if tap.isWatched { tap.sawInput(number, offset: offset, count: piece.count, end: false) }
        outbox.append { out in
            FrameHeader(.stdin, stream: number, length: piece.count + 8).encode(into: &out)
            appendOffset(offset, to: &out)
            out.append(contentsOf: piece)
        }
    }

    /// Ends a process's stdin. Idempotent.
    package func endInput(_ number: UInt16) {
        let offset = state.withLock { state -> UInt64? in
            guard var input = state.inputs[number], !input.ended else { return nil }
            input.ended = true
            state.inputs[number] = input
            return input.sent
        }
        guard let offset else { return }
        if tap.isWatched { tap.sawInput(number, offset: offset, count: 0, end: true) }
        outbox.append { out in
            FrameHeader(.stdin, flags: Channel.endFlag, stream: number, length: 8).encode(into: &out)
            appendOffset(offset, to: &out)
        }
    }

    /// Bytes of stdin that were sent to a process so far.
    ///
    /// - Returns: nil when the process is not known, or has ended.
    package func inputOffset(_ number: UInt16) -> UInt64? { state.withLock { $0.inputs[number]?.sent } }

    /// Bytes of stdin that the keeper has, and that survive this daemon; nil when the process is not known.
    package func inputTaken(_ number: UInt16) -> UInt64? { state.withLock { $0.inputs[number]?.taken } }

    /// Sends a signal to a process, or to its process group.
    package func signal(_ number: UInt16, _ signal: UInt8, group: Bool) {
        send(.signal, flags: group ? 1 : 0, stream: number, [signal])
    }

    /// Tells a process's terminal its new size.
    package func resize(_ number: UInt16, columns: UInt16, rows: UInt16) {
        var fields = FieldWriter()
        fields.u16(columns)
        fields.u16(rows)
        send(.resize, stream: number, fields.bytes)
    }

    /// Everything of a stream below `offset` was saved and delivered.
    package func acknowledge(_ number: UInt16, _ kind: OutputKind, upTo offset: UInt64) {
        let header = FrameHeader(.ack, flags: kind.rawValue, stream: number, length: 8)
        if tap.isWatched { tap.saw(header, Acknowledgement(offset: offset).encoded(), from: "daemon") }
        outbox.append { out in
            header.encode(into: &out)
            appendOffset(offset, to: &out)
        }
    }

    /// The end of a process was recorded; its number may be used again.
    package func forget(_ number: UInt16) {
        state.withLock { _ = $0.inputs.removeValue(forKey: number) }
        send(.forget, stream: number, [])
    }

    /// Asks every process to end and the harness to exit after the grace.
    package func shutdown(graceMilliseconds: UInt32) {
        send(.shutdown, Shutdown(grace: graceMilliseconds).encoded())
    }

    /// Ends every process, SIGKILL after the grace, and waits until nothing runs but the harness, which serves on.
    ///
    /// - Throws: `IOError.closed` when the sandbox ends meanwhile, as with a harness of before this was known.
    package func quiesce(graceMilliseconds: UInt32) async throws {
        send(.shutdown, Shutdown(grace: graceMilliseconds, stays: true).encoded())
        try await health()
    }

    /// Waits until the harness answers; with `beforeKeepingReady` it is told that nothing more comes until somebody takes the
    /// sandbox, who wants it as it is by then.
    package func health(beforeKeepingReady: Bool = false) async throws {
        try await withCheckedThrowingContinuation { continuation in
            let nonce = state.withLock { state -> UInt64? in
                guard !state.closed else { return nil }
                state.nonce += 1
                state.health[state.nonce] = continuation
                return state.nonce
            }
            guard let nonce else { return continuation.resume(throwing: IOError.closed) }
            var fields = FieldWriter()
            fields.u64(nonce)
            send(.health, flags: beforeKeepingReady ? Channel.keptReadyFlag : 0, fields.bytes)
        }
    }

    /// Sends a frame to the keeper itself.
    package func sendToKeeper(_ type: FrameType) { send(type, []) }

    private func send(_ type: FrameType, flags: UInt8 = 0, stream: UInt16 = 0, _ payload: [UInt8]) {
        let header = FrameHeader(type, flags: flags, stream: stream, length: payload.count)
        // Before it can be answered.
        if tap.isWatched { tap.saw(header, payload, from: "daemon") }
        outbox.append { out in
            header.encode(into: &out)
            out.append(contentsOf: payload)
        }
    }

    // MARK: Answers

    private func take(_ frame: ChannelFrame) throws {
        let number = frame.header.stream
        if tap.isWatched { tap.saw(frame.header, frame.payload, from: "harness") }
        switch frame.header.type {
        case .stdout, .stderr:
            var fields = FieldReader(frame.payload, type: frame.header.type)
            let offset = try fields.u64()
            sink.output(
                process: number, frame.header.type == .stdout ? .stdout : .stderr, offset: offset,
                bytes: frame.payload[8...],
                end: frame.header.flags & Channel.endFlag != 0)
        case .exited:
            let end = try ProcessExited(decoding: frame.payload)
            wake(number) { $0.ended = true }
            sink.exited(process: number, end)
        case .started:
            var fields = FieldReader(frame.payload, type: .started)
            let pid = try fields.u32()
            state.withLock { $0.starts.removeValue(forKey: number) }?(.success(pid))
        case .failed:
            let failure = try ProcessFailed(decoding: frame.payload)
            let waiter = state.withLock { state in
                state.inputs[number] = nil
                return state.starts.removeValue(forKey: number)
            }
            waiter?(.failure(ProcessStartError(failure)))
        case .ack:
            var fields = FieldReader(frame.payload, type: .ack)
            let offset = try fields.u64()
            wake(number) { if offset <= $0.sent { $0.taken = max($0.taken, offset) } }
        case .healthy:
            var fields = FieldReader(frame.payload, type: .healthy)
            let nonce = try fields.u64()
            state.withLock { $0.health.removeValue(forKey: nonce) }?.resume()
        case .hello: tell(version: try Hello(decoding: frame.payload).version)
        case .state, .booted, .bootFailed, .ended: onKeeperFrame(frame)
        case .stdin, .start, .signal, .resize, .health, .shutdown, .forget, .attach, .boot, .release, .kill:
            throw ChannelError.malformed(type: frame.header.type.rawValue)
        }
    }

    private func wake(_ number: UInt16, _ change: (inout Input) -> Void) {
        let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard var input = state.inputs[number] else { return nil }
            change(&input)
            let waiter = input.waiter
            input.waiter = nil
            state.inputs[number] = input
            return waiter
        }
        waiter?.resume()
    }

    private func tell(version: UInt16) {
        let waiters = state.withLock { state in
            state.version = version
            defer { state.versionWaiters = [] }
            return state.versionWaiters
        }
        for waiter in waiters { waiter.resume(returning: version) }
    }

    /// Bytes that may be sent now; waits for credit for so many, 0 when the input has ended.
    private func room(_ number: UInt16, atLeast count: Int) async -> Int {
        while true {
            let room = available(number)
            if room < 0 || room >= count || Task.isCancelled { return max(0, Task.isCancelled ? 0 : room) }
            await withTaskCancellationHandler {
                await withCheckedContinuation { continuation in
                    let now = state.withLock { state -> Bool in
                        guard var input = state.inputs[number], !input.ended, !state.closed, !Task.isCancelled,
                            Int(Channel.window - (input.sent - input.taken)) < count
                        else { return true }
                        input.waiter = continuation
                        state.inputs[number] = input
                        return false
                    }
                    if now { continuation.resume() }
                }
            } onCancel: {
                wake(number) { _ in }
            }
        }
    }

    /// Room in the window; -1 when no more may be sent.
    private func available(_ number: UInt16) -> Int {
        state.withLock { state in
            guard !state.closed, let input = state.inputs[number], !input.ended else { return -1 }
            return Int(Channel.window - (input.sent - input.taken))
        }
    }

    private func reserve(_ number: UInt16, _ count: Int) -> UInt64? {
        state.withLock { state in
            guard var input = state.inputs[number], !input.ended else { return nil }
            defer { state.inputs[number] = input }
            input.sent += UInt64(count)
            return input.sent - UInt64(count)
        }
    }

    /// Fails everyone who waits.
    private func close() {
        outbox.close()
        let (starts, health, inputs, versions) = state.withLock { state in
            state.closed = true
            defer {
                state.versionWaiters = []
                state.starts = [:]
                state.health = [:]
                state.inputs = [:]
            }
            return (state.starts, state.health, state.inputs, state.versionWaiters)
        }
        for waiter in versions { waiter.resume(returning: nil) }
        for waiter in starts.values { waiter(.failure(IOError.closed)) }
        for waiter in health.values { waiter.resume(throwing: IOError.closed) }
        for input in inputs.values { input.waiter?.resume() }
    }
}

private func appendOffset(_ offset: UInt64, to out: inout [UInt8]) {
    for shift in stride(from: 56, through: 0, by: -8) { out.append(UInt8(truncatingIfNeeded: offset >> UInt64(shift))) }
}
