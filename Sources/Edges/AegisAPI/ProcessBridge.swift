internal import AegisChannel
internal import AegisCore
internal import AegisIO
internal import AegisSessions
internal import AegisWire
internal import Synchronization

/// Joins a client's aegis-stream to a process: input one way, output the other, until the process or the client ends.
struct ProcessBridge: Sendable {
    /// How the joining ended.
    enum End: Sendable {
        case exited(Int32)
        /// The sandbox ended without an exit record.
        case lost
        case clientGone
    }

    let frames: FrameConnection
    let relay: ProcessRelay
    let watcher: UInt64
    /// Waits until input can be given; nil when the process never came up.
    let session: @Sendable () async -> HarnessSession?
    private let queue = InputQueue()

    init(
        frames: FrameConnection, relay: ProcessRelay, watcher: UInt64,
        session: @escaping @Sendable () async -> HarnessSession?
    ) {
        self.frames = frames
        self.relay = relay
        self.watcher = watcher
        self.session = session
    }

    /// Runs both directions.
    func run() async -> End {
        await withTaskGroup(of: End?.self) { group in
            group.addTask { await output() }
            group.addTask {
                // The end of the client's frames is its end: a client that only closes its input sends a frame.
                try? await input()
                return .clientGone
            }
            group.addTask {
                await feed()
                return nil
            }
            var end: End?
            while end == nil, let next = await group.next() { end = next }
            group.cancelAll()
            return end ?? .clientGone
        }
    }

    private func output() async -> End {
        while let piece = await relay.next(watcher) {
            switch piece {
            case .bytes(let kind, _, let bytes):
                do { try await frames.write(kind == .stdout ? .stdout : .stderr, bytes) } catch { return .clientGone }
            case .exited(let end): return .exited(Int32(truncatingIfNeeded: end.code))
            case .lost: return .lost
            }
        }
        return .clientGone
    }

    /// Takes the client's frames. It never waits for the process: acknowledgements of output come behind input, and a
    /// process that waits for its output to be taken would wait for ever.
    private func input() async throws {
        let number = relay.number
        while let frame = try await frames.readFrame() {
            switch frame.kind {
            case .stdin: try queue.add(frame)
            case .resize:
                guard let size = frame.size else { continue }
                queue.add(.resize(columns: size.columns, rows: size.rows))
            case .signal:
                guard let signal = frame.signalNumber, let session = await session() else { continue }
                session.signal(number, signal, group: false)
            case .ack:
                guard let offset = frame.offset, let subject = frame.flags.subject else { continue }
                switch subject {
                case .stdout: relay.consumed(watcher, .stdout, upTo: offset)
                case .stderr: relay.consumed(watcher, .stderr, upTo: offset)
                default: continue
                }
            case .window: continue
            default: throw AegisError(.usage, "unexpected-frame", "a client does not send frames of kind \(frame.kind)")
            }
        }
    }

    /// Hands input on as the process takes it.
    private func feed() async {
        let number = relay.number
        guard let session = await session() else { return }
        while let item = await queue.next() {
            switch item {
            case .resize(let columns, let rows): session.resize(number, columns: columns, rows: rows)
            case .end: session.endInput(number)
            case .bytes(let bytes):
                // A process that has ended or closed its input must not end the stream: what it cannot take is dropped.
                try? await session.write(number, bytes[...])
                guard !Task.isCancelled else { return }
                queue.took(bytes.count)
                do {
                    try await frames.write(.window(UInt32(bytes.count), of: .stdin))
                    // What the keeper has survives this daemon; the rest the client must be able to send again.
                    if let taken = session.inputTaken(number) { try await frames.write(.ack(taken, of: .stdin)) }
                } catch { return }
            }
        }
    }
}

/// Input of a client on its way to the process, bounded by the credit that the client has.
private final class InputQueue: Sendable {
    enum Item: Sendable {
        case bytes([UInt8])
        case end
        case resize(columns: UInt16, rows: UInt16)
    }
    private struct State {
        var items: [Item] = []
        var bytes = 0
    }
    private let state = Mutex(State())
    private let news = Signal()

    /// Takes a stdin frame.
    ///
    /// - Throws: when the client sends more than it may.
    func add(_ frame: StreamFrame) throws(AegisError) {
        let fits = state.withLock { state in
            state.bytes += frame.payload.count
            guard state.bytes <= CreditWindow.size else { return false }
            if !frame.payload.isEmpty { state.items.append(.bytes(Array(frame.payload))) }
            if frame.flags.contains(.end) { state.items.append(.end) }
            return state.items.count <= 4096
        }
        guard fits else {
            throw AegisError(.usage, "too-much-input", "a client sent more input than it had credit for")
        }
        news.set()
    }

    /// Takes a new size of the terminal; the last one counts.
    func add(_ size: Item) {
        state.withLock { state in
            if case .resize? = state.items.last { state.items.removeLast() }
            state.items.append(size)
        }
        news.set()
    }

    /// Bytes were handed on.
    func took(_ count: Int) { state.withLock { $0.bytes -= count } }

    /// The next item; nil when the task is cancelled.
    func next() async -> Item? {
        while !Task.isCancelled {
            if let item = state.withLock({ $0.items.isEmpty ? nil : $0.items.removeFirst() }) { return item }
            await news.wait()
        }
        return nil
    }
}
