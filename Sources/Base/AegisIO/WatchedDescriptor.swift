internal import LinuxSys
internal import Synchronization

/// A descriptor and the two tasks that may wait for it, one per direction.
///
/// Every system call on the descriptor happens under its lock, and so does closing: nobody can use a number that has
/// become another file, and any thread may close. The lock is held for non-blocking calls only.
final class WatchedDescriptor: PollTarget {
    /// Which direction of the descriptor.
    enum Side: Sendable { case read, write }

    /// How a wait ended.
    enum Outcome: Sendable { case ready, closed, cancelled, timedOut, busy }

    /// Who waits for a direction. `Direction` resumes each exactly once; a checked continuation would say so when it does
    /// not, but its layout is known only at run time, and that costs at every wait.
    @safe enum Waiter {
        case task(UnsafeContinuation<Outcome, Never>)
        /// No task at all.
        case call(@Sendable (Outcome) -> Void)

        func resume(returning outcome: Outcome) {
            switch self {
            case .task(let continuation): unsafe continuation.resume(returning: outcome)
            case .call(let body): body(outcome)
            }
        }
    }

    /// One direction's waiter, as a machine: no more than one, resumed once.
    struct Direction {
        enum Phase {
            case idle
            /// An edge came while nobody waited.
            case ready
            case waiting(UInt64, Waiter)
        }
        var phase = Phase.idle

        /// Stores a waiter, or says at once how its wait ends.
        mutating func begin(_ id: UInt64, _ waiter: Waiter) -> Outcome? {
            switch phase {
            case .idle: phase = .waiting(id, waiter)
            case .ready:
                phase = .idle
                return .ready
            case .waiting: return .busy
            }
            return nil
        }

        /// An edge: hands the waiter out, or remembers the edge.
        mutating func signal() -> Waiter? {
            guard case .waiting(_, let waiter) = phase else {
                phase = .ready
                return nil
            }
            phase = .idle
            return waiter
        }

        /// Takes the waiter out; of any id when none is given.
        mutating func take(_ wanted: UInt64? = nil) -> Waiter? {
            guard case .waiting(let id, let waiter) = phase, wanted == nil || wanted == id else { return nil }
            phase = .idle
            return waiter
        }
    }

    private struct State: ~Copyable {
        var descriptor: FileDescriptor?
        var token: PollToken?
        var reader = Direction()
        var writer = Direction()
        /// A write is between two of its parts.
        var isWriting = false

        subscript(side: Side) -> Direction {
            get { side == .read ? reader : writer }
            set { if side == .read { reader = newValue } else { writer = newValue } }
        }
    }

    /// Why a system call was not made, or failed.
    enum Failure: Error {
        case closed
        case system(Errno)

        func error(_ what: String) -> IOError {
            switch self {
            case .closed: .closed
            case .system(let errno): .system(errno, what)
            }
        }
    }

    let loop: EventLoop
    private let state: Mutex<State>
    private let nextWait = Atomic<UInt64>(0)
    /// What the kernel has said about the peer so far; only ever goes up.
    private let peerSeen = Atomic<UInt8>(0)
    /// 0 open, 1 it sends no more, 2 the connection is gone in both directions.
    var peerEnding: UInt8 { peerSeen.load(ordering: .relaxed) }

    /// Takes the descriptor over; it must not block (or the caller asks `isReady` first).
    init(_ descriptor: consuming FileDescriptor, on loop: EventLoop) throws(Errno) {
        self.loop = loop
        let raw = descriptor.raw
        state = Mutex(State(descriptor: descriptor))
        // Under the lock, so that an event cannot come before the token is known.
        try state.withLock { state throws(Errno) in state.token = try loop.add(raw, self) }
    }

    /// Performs one system call that does not wait; nil when it would have to.
    func perform<R: Sendable & ~Copyable>(_ call: (borrowing FileDescriptor) throws(Errno) -> R) throws(Failure) -> R? {
        try state.withLock { state throws(Failure) -> sending R? in
            do throws(Errno) {
                switch state.descriptor {
                case .some(let descriptor): return try call(descriptor)
                case .none: break
                }
            } catch {
                if error == .wouldBlock { return nil }
                throw .system(error)
            }
            throw .closed
        }
    }

    /// Marks the start of a write of several parts; false when another one is under way.
    func beginWriting() -> Bool {
        state.withLock { state in
            if state.isWriting { return false }
            state.isWriting = true
            return true
        }
    }

    /// Marks the end of a write.
    func endWriting() { state.withLock { $0.isWriting = false } }

    /// Waits until the descriptor may be ready.
    ///
    /// - Parameters:
    ///   - side: for what.
    ///   - deadline: a time of `SystemTime.monotonic`; nil waits without an end.
    /// - Returns: how the wait ended.
    func wait(_ side: Side, until deadline: UInt64? = nil) async -> Outcome {
        let id = nextWait.add(1, ordering: .relaxed).newValue
        let timer = deadline.map { loop.schedule(at: $0) { [self] _ in finish(side, id, .timedOut) } }
        let outcome = await withTaskCancellationHandler {
            unsafe await withUnsafeContinuation { continuation in
                let immediate = state.withLock { state -> Outcome? in
                    if state.descriptor == nil { return .closed }
                    // A handler or timer that came before this point found nobody to resume.
                    if Task.isCancelled { return .cancelled }
                    if let deadline, SystemTime.monotonic >= deadline { return .timedOut }
                    return unsafe state[side].begin(id, .task(continuation))
                }
                if let immediate { unsafe continuation.resume(returning: immediate) }
            }
        } onCancel: {
            finish(side, id, .cancelled)
        }
        if let timer { loop.cancelTimer(timer) }
        return outcome
    }

    /// Waits without looking at the task's cancellation, which costs less: for tasks whose descriptor is closed when they
    /// are to end.
    func waitPlainly(_ side: Side) async -> Outcome {
        unsafe await withUnsafeContinuation { continuation in
            let immediate = state.withLock { state -> Outcome? in
                if state.descriptor == nil { return .closed }
                return unsafe state[side].begin(0, .task(continuation))
            }
            if let immediate { unsafe continuation.resume(returning: immediate) }
        }
    }

    /// Calls `body` once, when the descriptor may be ready, is closed, or the wait is interrupted; at once when that is
    /// so already.
    func whenReady(_ side: Side, _ body: @escaping @Sendable (Outcome) -> Void) {
        let immediate = state.withLock { state -> Outcome? in
            if state.descriptor == nil { return .closed }
            return state[side].begin(0, .call(body))
        }
        if let immediate { body(immediate) }
    }

    private func finish(_ side: Side, _ id: UInt64, _ outcome: Outcome) {
        let waiter = state.withLock { $0[side].take(id) }
        waiter?.resume(returning: outcome)
    }

    var isClosed: Bool { state.withLock { $0.descriptor == nil } }

    /// Closes the descriptor and ends waits with `.closed`. Idempotent, from any thread.
    func close() {
        let waiters = state.withLock { state in
            guard let descriptor = state.descriptor.take() else { return [Waiter]() }
            if let token = state.token { loop.remove(descriptor.raw, token) }
            return [state.reader.take(), state.writer.take()].compactMap(\.self)
        }
        for waiter in waiters { waiter.resume(returning: .closed) }
    }

    /// Ends a wait that goes on, if there is one, as if its deadline had passed.
    func interrupt(_ side: Side) { state.withLock { $0[side].take() }?.resume(returning: .timedOut) }

    /// Gives the descriptor up without closing it; waits end with `.closed`. Nil when it is closed already.
    func takeDescriptor() -> FileDescriptor? {
        var taken: FileDescriptor?
        let waiters = state.withLock { state in
            guard let descriptor = state.descriptor.take() else { return [Waiter]() }
            if let token = state.token { loop.remove(descriptor.raw, token) }
            taken = consume descriptor
            return [state.reader.take(), state.writer.take()].compactMap(\.self)
        }
        for waiter in waiters { waiter.resume(returning: .closed) }
        return taken
    }

    func becameReady(_ readiness: Readiness) {
        if readiness.contains(.end) {
            peerSeen.store(readiness.contains(.hangUp) ? 2 : max(1, peerEnding), ordering: .relaxed)
        }
        let (reader, writer) = state.withLock { state in
            (
                readiness.contains(.read) ? state.reader.signal() : nil,
                readiness.contains(.write) ? state.writer.signal() : nil
            )
        }
        reader?.resume(returning: .ready)
        writer?.resume(returning: .ready)
    }

    func loopEnded() { close() }
}
