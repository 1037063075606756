package import AegisChannel
internal import AegisCore
internal import AegisIO
internal import LinuxSys
internal import Synchronization

/// The daemon's end of an instance's door: takes apart what comes through it, and hands out the connections in it as streams.
///
/// Whoever speaks is the instance whose channel it came by. Everything in it is the workload's word: a breach of its rules ends
/// the door and nothing else. What is held for each connection is bounded by its window. The harness's frames are acknowledged
/// whole, and after the daemon's own about them were sent: what an end of the daemon leaves behind is whole frames on both sides,
/// and a connection of which the harness has heard nothing is told to the next daemon again. An acknowledgement goes with what
/// is sent next: alone it would wake the keeper and the harness for nothing. What an end of the daemon leaves without one are
/// frames of connections that the harness knows to be known, which the next daemon passes over.
package final class GuestDoor: Sendable {
    struct Connection {
        /// Bytes that nobody has read yet.
        var buffer = ByteBuffer()
        /// Bytes that were read and that no credit was given for.
        var read = 0
        /// The program sends no more.
        var ended = false
        /// It is over, and not by us.
        var isReset = false
        var reader: CheckedContinuation<Void, Never>?
        var writer: CheckedContinuation<Void, Never>?

        mutating func takeWaiters() -> [CheckedContinuation<Void, Never>] {
            defer { (reader, writer) = (nil, nil) }
            return [reader, writer].compactMap { $0 }
        }
    }
    struct State {
        var link: DoorLink
        var connections: [UInt32: Connection] = [:]
        /// Connections that nobody has accepted yet.
        var arrived: [UInt32] = []
        var acceptor: CheckedContinuation<Void, Never>?
        /// The offset of what comes next.
        var received: UInt64
        var incoming = ByteQueue()
        var outgoing = ByteQueue()
        /// Offsets of the harness's stdout and stderr that are dealt with, and that it was told of.
        var dealt: UInt64
        var told: UInt64
        var sender: CheckedContinuation<Void, Never>?
        /// Every connection is over; what still comes is dropped.
        var isShut = false
        /// Nothing comes any more.
        var isOver = false
        /// The harness has said something for people.
        var hasSpoken = false

        /// The harness's answer to `begin` was dealt with and not acknowledged. The next daemon must not take it for the answer to its own.
        var owesBeginning = false

        /// Whether there is something to send now.
        var isDue: Bool { !outgoing.isEmpty || owesBeginning || dealt - told >= GuestDoor.unacknowledged }
    }

    /// Bytes that wait for the channel, whatever windows a harness grants: above this nobody adds to them.
    static let queueLimit = 1 << 20

    /// Bytes of the harness's that may wait for an acknowledgement while there is nothing else to send; the keeper holds them.
    static let unacknowledged: UInt64 = 16_384

    /// The process number that it has.
    package let number: UInt16
    let state: Mutex<State>
    private let session: HarnessSession
    /// Told of what there is to say about the door, for people.
    private let note: @Sendable (String) -> Void

    /// The daemon's end of a door that is about to be opened, or of one that an earlier daemon had opened.
    package init(
        on session: HarnessSession, resuming known: ProcessState? = nil, note: @escaping @Sendable (String) -> Void
    ) {
        number = known?.number ?? Door.process
        self.session = session
        self.note = note
        let from = known?.stdoutAcknowledged ?? 0
        var state = State(
            link: DoorLink(.daemon, resumes: known != nil), received: from, dealt: from, told: from)
        if let known {
            session.know(known)
            state.link.begin(into: &state.outgoing)
        }
        self.state = Mutex(state)
    }

    // MARK: From the channel

    /// Takes what the door's harness sent; never waits.
    package func output(_ kind: OutputKind, offset: UInt64, bytes: ArraySlice<UInt8>) {
        guard kind == .stdout else {
            // What it could not open; more than that would be somebody who fills a log.
            let isFirst = state.withLock { state in
                defer { state.hasSpoken = state.hasSpoken || !bytes.isEmpty }
                return !state.hasSpoken && !bytes.isEmpty
            }
            if isFirst { note(String(decoding: bytes.prefix(512), as: UTF8.self)) }
            return session.acknowledge(number, .stderr, upTo: offset + UInt64(bytes.count))
        }
        var breach: DoorBreach?
        let waiters = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            let end = offset + UInt64(bytes.count)
            // What came before a new connection to the keeper comes again.
            guard end > state.received, offset <= state.received else { return [] }
            let fresh = bytes.dropFirst(Int(state.received - offset))
            state.received = end
            var waiters: [CheckedContinuation<Void, Never>] = []
            if !state.isShut {
                let wasBeginning = state.link.isBeginning
                defer { if wasBeginning, !state.link.isBeginning { state.owesBeginning = true } }
                unsafe fresh.withUnsafeBytes { unsafe state.incoming.append($0) }
                do throws(DoorBreach) { waiters = try takeFrames(&state) } catch {
                    breach = error
                    waiters = shut(&state)
                }
            }
            state.dealt = end - UInt64(state.incoming.count)
            if state.isDue, let sender = state.sender {
                waiters.append(sender)
                state.sender = nil
            }
            return waiters
        }
        for waiter in waiters { waiter.resume() }
        guard let breach else { return }
        note("it is shut until the next start: what came through it was malformed (\(breach.reason))")
        session.signal(number, 9, group: true)
    }

    private func takeFrames(_ state: inout State) throws(DoorBreach) -> [CheckedContinuation<Void, Never>] {
        var waiters: [CheckedContinuation<Void, Never>] = []
        while let header = try state.incoming.doorFrame() {
            switch try state.link.take(header, in: state.incoming) {
            case .opened(let number):
                state.connections[number] = Connection()
                // Says that it is known here; more comes when it is served.
                state.link.grant(number, 0, into: &state.outgoing)
                state.arrived.append(number)
                if let acceptor = state.acceptor { waiters.append(acceptor) }
                state.acceptor = nil
            case .data(let number):
                let bytes = state.incoming.bytes(at: Door.headerSize, count: header.length)
                change(&state, number, &waiters) { $0.buffer.append(bytes) }
            case .finished(let number): change(&state, number, &waiters) { $0.ended = true }
            case .reset(let number):
                if let at = state.arrived.firstIndex(of: number) {
                    state.arrived.remove(at: at)
                    state.connections[number] = nil
                }
                change(&state, number, &waiters) { $0.isReset = true }
            case .credit(let number): change(&state, number, &waiters) { _ in }
            case .begin: break
            case .none:
                // After the harness's answer to `begin` it is known which connections an earlier daemon has dealt with.
                guard !state.link.isBeginning, !state.arrived.isEmpty, let acceptor = state.acceptor else { break }
                waiters.append(acceptor)
                state.acceptor = nil
            }
            state.incoming.consumeDoorFrame(header)
        }
        return waiters
    }

    private func change(
        _ state: inout State, _ number: UInt32, _ waiters: inout [CheckedContinuation<Void, Never>],
        _ body: (inout Connection) -> Void
    ) {
        guard var connection = state.connections[number] else { return }
        body(&connection)
        waiters += connection.takeWaiters()
        state.connections[number] = connection
    }

    /// The harness has ended the door, or could not open it.
    package func ended() {
        close()
        session.forget(number)
    }

    /// Ends every connection; idempotent.
    package func close() {
        let waiters = state.withLock { state in
            state.isOver = true
            return shut(&state)
        }
        for waiter in waiters { waiter.resume() }
    }

    private func shut(_ state: inout State) -> [CheckedContinuation<Void, Never>] {
        state.isShut = true
        state.incoming = ByteQueue()
        state.outgoing = ByteQueue()
        for number in state.arrived { state.connections[number] = nil }
        state.arrived = []
        var waiters = [state.acceptor, state.sender].compactMap { $0 }
        (state.acceptor, state.sender) = (nil, nil)
        for number in Array(state.connections.keys) { change(&state, number, &waiters) { $0.isReset = true } }
        return waiters
    }

    // MARK: To the channel

    /// Sends what is to be sent until the door or the channel is over; the one task that does.
    package func run() async {
        defer { close() }
        while let (batch, dealt) = await nextBatch() {
            if !batch.isEmpty {
                do throws(IOError) { try await session.write(number, whole: batch) } catch { return }
            }
            if let dealt { session.acknowledge(number, .stdout, upTo: dealt) }
        }
    }

    /// What is to be sent next, and the offset to acknowledge after it; waits for something. Nil when the door is over.
    func nextBatch() async -> (bytes: [UInt8], dealt: UInt64?)? {
        while !Task.isCancelled {
            if state.withLock({ $0.isOver }) { return nil }
            let batch = state.withLock { state -> ([UInt8], UInt64?)? in
                guard state.isDue else { return nil }
                let count = state.outgoing.doorFrames(atMost: Channel.dataLimit)
                // An acknowledgement waits for what was to be said about it.
                let isLast = count == state.outgoing.count
                let bytes = state.outgoing.bytes(at: 0, count: count)
                state.outgoing.consume(count)
                guard isLast, state.dealt > state.told else {
                    state.owesBeginning = state.owesBeginning && !isLast
                    return (bytes, nil)
                }
                (state.told, state.owesBeginning) = (state.dealt, false)
                return (bytes, state.dealt)
            }
            if let batch {
                wakeWriters()
                return batch
            }
            await withTaskCancellationHandler {
                await withCheckedContinuation { continuation in
                    let now = state.withLock { state -> Bool in
                        guard !state.isDue, !state.isOver, !Task.isCancelled else { return true }
                        state.sender = continuation
                        return false
                    }
                    if now { continuation.resume() }
                }
            } onCancel: {
                wakeSender()
            }
        }
        return nil
    }

    /// There is room for what connections have to say.
    private func wakeWriters() {
        let writers = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            guard state.outgoing.count < Self.queueLimit else { return [] }
            var writers: [CheckedContinuation<Void, Never>] = []
            for (number, connection) in state.connections {
                guard let writer = connection.writer else { continue }
                writers.append(writer)
                state.connections[number]?.writer = nil
            }
            return writers
        }
        for writer in writers { writer.resume() }
    }

    private func wakeSender() {
        let sender = state.withLock { state in
            defer { state.sender = nil }
            return state.sender
        }
        sender?.resume()
    }

    // MARK: Connections

    /// The next connection of a program; waits for one. Nil when the door is shut or the task is cancelled.
    package func accept() async -> DoorStream? {
        while !Task.isCancelled {
            let (number, isShut) = state.withLock { state -> (UInt32?, Bool) in
                guard !state.isShut, !state.arrived.isEmpty, !state.link.isBeginning else { return (nil, state.isShut) }
                let number = state.arrived.removeFirst()
                state.link.grant(number, Door.servedWindow - Door.firstWindow, into: &state.outgoing)
                return (number, false)
            }
            if let number {
                wakeSender()
                return DoorStream(self, number)
            }
            if isShut { return nil }
            await withTaskCancellationHandler {
                await withCheckedContinuation { continuation in
                    let now = state.withLock { state -> Bool in
                        guard state.arrived.isEmpty || state.link.isBeginning, !state.isShut, !Task.isCancelled
                        else { return true }
                        state.acceptor = continuation
                        return false
                    }
                    if now { continuation.resume() }
                }
            } onCancel: {
                let acceptor = state.withLock { state in
                    defer { state.acceptor = nil }
                    return state.acceptor
                }
                acceptor?.resume()
            }
        }
        return nil
    }

    /// Changes what is to be sent about a connection, and has it sent.
    func tell(_ body: @Sendable (inout State) -> Void) {
        state.withLock { body(&$0) }
        wakeSender()
    }
}
