internal import AegisCore
package import AegisIO
internal import AegisWire
internal import LinuxSys
internal import Synchronization

/// One process of an instance at this process's standard streams, over as many connections as it takes.
///
/// Output is written byte for byte and acknowledged when it is written, so that a slow reader slows the process; input
/// goes out as the daemon grants room. A connection that breaks is made again for 30 seconds and goes on at the exact
/// byte.
package final class ProcessSession: Sendable {
    /// Opens a connection that speaks aegis-stream/1. An `AegisError` of the kinds `daemonNotRunning` and `unavailable`
    /// may pass by itself: it is tried again while a lost connection is made anew.
    ///
    /// - Parameters:
    ///   - offsets: the first bytes that are wanted; nil joins a live stream where it is.
    ///   - again: whether the process was there on an earlier connection.
    package typealias Open =
        @Sendable (_ offsets: StreamOffsets?, _ again: Bool) async throws -> any ByteStream

    /// What the session is connected to on this side.
    package struct Streams: Sendable {
        /// Nil when the process gets no input from here.
        package var input: (any ByteStream)?
        package var out: any ByteStream
        package var err: any ByteStream
        /// Makes a set of streams.
        package init(input: (any ByteStream)?, out: any ByteStream, err: any ByteStream) {
            self.input = input
            self.out = out
            self.err = err
        }
    }

    /// What the caller hears while the process runs.
    package struct Listener: Sendable {
        /// The daemon's words for a waiting person: kind and text.
        package var notice: @Sendable (String, String) async -> Void
        /// The process is there; true when it has a terminal.
        package var started: @Sendable (Bool) async -> Void
        /// Bytes of output that were lost for good.
        package var lost: @Sendable (UInt64) async -> Void
        /// Makes a listener; what is not given is not heard.
        package init(
            notice: @escaping @Sendable (String, String) async -> Void = { _, _ in },
            started: @escaping @Sendable (Bool) async -> Void = { _ in },
            lost: @escaping @Sendable (UInt64) async -> Void = { _ in }
        ) {
            self.notice = notice
            self.started = started
            self.lost = lost
        }
    }

    let state: Mutex<StreamClientState>
    /// Frames for the connection of the moment.
    let outbox = Mutex(Outbox())
    let outboxChanged = Signal()
    private let room = Signal()
    private let open: Open
    let streams: Streams
    let listener: Listener
    private let clock: any Clock<Duration>
    private let detachKeys: Bool
    private let out: OutputPump
    private let err: OutputPump

    struct Outbox {
        /// Frames for the sender to take; only while connected.
        var frames: [StreamFrame] = []
        /// Window size and signals that came while there was no connection.
        var pending: [StreamFrame] = []
        var connected = false
    }

    /// How long a lost connection is tried again.
    package static let patience = Duration.seconds(30)

    /// A session that has not begun.
    ///
    /// - Parameters:
    ///   - streams: this side's ends.
    ///   - joinsLive: take output from now on, not from the first byte.
    ///   - detachKeys: whether ctrl-p ctrl-q in the input ends the session without the process.
    ///   - clock: for the time between attempts to connect.
    ///   - listener: hears what happens.
    ///   - open: makes connections.
    package init(
        _ streams: Streams, joinsLive: Bool = false, detachKeys: Bool = false, clock: any Clock<Duration>,
        listener: Listener = Listener(), open: @escaping Open
    ) {
        state = Mutex(StreamClientState(joinsLive: joinsLive))
        self.streams = streams
        self.detachKeys = detachKeys
        self.clock = clock
        self.listener = listener
        self.open = open
        out = OutputPump(streams.out, .stdout)
        err = OutputPump(streams.err, .stderr)
    }

    // MARK: For the caller

    /// Sends a signal to the process.
    package func signal(_ number: UInt8) { send(.signal(number)) }
    /// Tells the process's terminal its size.
    package func resize(rows: UInt16, columns: UInt16) { send(.resize(rows: rows, columns: columns)) }
    /// Whether the daemon has said that the process is there.
    package var hasStarted: Bool { state.withLock { $0.hasStarted } }

    private enum Part: Sendable { case exited(StreamExit), outputDone, inputDone }

    /// Runs until the process has ended and its output is written.
    ///
    /// - Throws: `AegisError`; `OutputClosed` when nobody reads our output any more; `Detached`; `IOError.cancelled`.
    package func run() async throws -> StreamExit {
        try await withThrowingTaskGroup(of: Part.self) { group in
            group.addTask { .exited(try await self.receive()) }
            for pump in [out, err] {
                group.addTask {
                    try await pump.run { count in self.consumed(pump.kind, count) }
                    return .outputDone
                }
            }
            if streams.input != nil {
                group.addTask {
                    try await self.forwardInput()
                    return .inputDone
                }
            }
            defer { group.cancelAll() }
            var exit: StreamExit?
            var open = 2
            while exit == nil || open > 0, let part = try await group.next() {
                switch part {
                case .exited(let status):
                    exit = status
                    out.finish()
                    err.finish()
                case .outputDone: open -= 1
                case .inputDone: break
                }
            }
            guard let exit else { throw IOError.cancelled }
            return exit
        }
    }

    // MARK: Sending

    private func send(_ frame: StreamFrame) {
        outbox.withLock { outbox in
            if outbox.connected {
                outbox.frames.append(frame)
            } else if outbox.pending.count < 64 {
                outbox.pending.append(frame)
            }
        }
        outboxChanged.set()
    }

    /// Hands what the state wants to send to the sender.
    private func flush() {
        let frames = state.withLock { $0.takeFrames() }
        guard !frames.isEmpty else { return }
        outbox.withLock { $0.frames += frames }
        outboxChanged.set()
    }

    private func consumed(_ kind: StreamFrame.Kind, _ count: Int) {
        state.withLock { $0.consumed(kind, count) }
        flush()
    }

    private func forwardInput() async throws {
        guard let input = streams.input else { return }
        var keys = DetachKeys()
        var buffer = ByteBuffer()
        while true {
            var free = state.withLock { $0.stdinRoom }
            while free == 0 {
                await room.wait()
                if Task.isCancelled { throw IOError.cancelled }
                free = state.withLock { $0.stdinRoom }
            }
            guard try await input.read(into: &buffer, atMost: min(free, 64 << 10)) > 0 else { break }
            var bytes = buffer.take(buffer.readableBytes)
            if detachKeys {
                guard let passed = keys.filter(bytes) else { throw Detached() }
                bytes = passed
            }
            state.withLock { $0.input(bytes[...]) }
            flush()
        }
        state.withLock { $0.endInput() }
        flush()
    }

    // MARK: Receiving

    private func receive() async throws -> StreamExit {
        var connection = try await connect()
        while true {
            if let exit = try await serve(connection) { return exit }
            let hadProcess = hasStarted
            state.withLock { $0.disconnected() }
            outbox.withLock { outbox in
                outbox.connected = false
                outbox.frames = []
            }
            connection = try await reconnect(immediately: hadProcess)
        }
    }

    private func connect() async throws -> FrameConnection {
        let (offsets, again) = state.withLock { ($0.resume, $0.hasStarted) }
        return FrameConnection(try await open(offsets, again))
    }

    private func reconnect(immediately: Bool) async throws -> FrameConnection {
        try await withClock(clock) { elapsed, sleep in
            var wait = immediately ? Duration.zero : .milliseconds(100)
            while true {
                if wait > .zero { try await sleep(wait) }
                wait = .milliseconds(100)
                do { return try await self.connect() } catch let error as AegisError {
                    let mayPass = error.kind == .daemonNotRunning || error.kind == .unavailable
                    guard mayPass else { throw error }
                    guard elapsed() < Self.patience else {
                        throw AegisError(
                            .unavailable, "connection-lost", "the daemon went away and did not come back in 30 seconds",
                            hint: "see aegisd.log; the instance is stopped and removed when the daemon is back")
                    }
                }
            }
        }
    }

    /// Serves one connection; nil when it broke before the end of the process.
    private func serve(_ connection: FrameConnection) async throws -> StreamExit? {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await self.sendAll(to: connection) }
            defer {
                group.cancelAll()
                connection.close()
            }
            return try await self.readAll(from: connection)
        }
    }

    private func sendAll(to connection: FrameConnection) async {
        while !Task.isCancelled {
            let frames = outbox.withLock { outbox in
                defer { outbox.frames = [] }
                return outbox.frames
            }
            if frames.isEmpty { await outboxChanged.wait() }
            for frame in frames {
                // The reading side notices a broken connection and decides what follows.
                do throws(StreamFrameError) { try await connection.write(frame) } catch { return }
            }
        }
    }

    private func readAll(from connection: FrameConnection) async throws -> StreamExit? {
        do {
            while let frame = try await connection.readFrame() {
                if let exit = try await handle(frame) { return exit }
            }
            return nil
        } catch let error as StreamFrameError {
            switch error.code {
            case .closed: return nil
            case .cancelled: throw IOError.cancelled
            default:
                throw AegisError.failed(
                    "protocol-error", "\(error)", hint: "compare 'aegis version' with 'aegis status'")
            }
        }
    }

    private func handle(_ frame: StreamFrame) async throws -> StreamExit? {
        let event = try state.withLock { state throws(StreamFrameError) in try state.receive(frame) }
        switch event {
        case .output(let kind, let bytes): (kind == .stdout ? out : err).add(bytes)
        case .started: await began()
        case .notice(let kind, let text): await listener.notice(kind, text)
        case .room: room.set()
        case .exited(let exit): return exit
        case .failed(let error): throw error
        case .nothing: break
        }
        flush()
        return nil
    }

    private func began() async {
        outbox.withLock { outbox in
            outbox.connected = true
            outbox.frames += outbox.pending
            outbox.pending = []
        }
        let (terminal, lost) = state.withLock { ($0.hasTerminal, $0.lost) }
        if lost > 0 { await listener.lost(lost) }
        await listener.started(terminal)
        room.set()
        outboxChanged.set()
    }
}

/// Lends the elapsed time and the sleep of a clock whose type is not known.
private func withClock<R: Sendable>(
    _ clock: some Clock<Duration>,
    _ body: (_ elapsed: () -> Duration, _ sleep: (Duration) async throws -> Void) async throws -> R
) async throws -> R {
    let start = clock.now
    return try await body({ start.duration(to: clock.now) }, { try await clock.sleep(for: $0) })
}

/// Nobody reads our standard output any more.
package struct OutputClosed: Error, Equatable {
    /// Makes the error.
    package init() {}
}

/// The user left with ctrl-p ctrl-q; the process goes on.
package struct Detached: Error, Equatable {
    /// Makes the error.
    package init() {}
}
