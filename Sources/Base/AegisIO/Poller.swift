internal import CLinux
internal import LinuxSys

/// What a descriptor has become ready for.
struct Readiness: OptionSet, Sendable {
    let rawValue: UInt32
    static let read = Readiness(rawValue: UInt32(AL_READY_READ))
    static let write = Readiness(rawValue: UInt32(AL_READY_WRITE))
    static let hangUp = Readiness(rawValue: UInt32(AL_READY_HANGUP))
    /// The peer sends no more; also set together with `hangUp`.
    static let end = Readiness(rawValue: UInt32(AL_READY_END))
}

/// The kernel's readiness queue, edge-triggered: the one type that another system (kqueue) has to replace.
///
/// `add`, `remove` and `wake` may be called from any thread; `wait` only from the loop's.
@safe struct Poller: ~Copyable, @unchecked Sendable {
    // The buffer is touched by the loop's thread alone, inside `wait`; the descriptors are thread-safe in the kernel.
    private let queue: FileDescriptor
    private let waker: FileDescriptor
    private let alarm: FileDescriptor
    private let events: UnsafeMutableBufferPointer<al_ready>

    /// The tokens of the wake-up call and of the alarm; no other descriptor has them.
    private static var wakeToken: UInt64 { .max }
    private static var alarmToken: UInt64 { .max - 1 }

    init() throws(Errno) {
        let queue = try FileDescriptor(checking: al_poller_create())
        let waker = try FileDescriptor(checking: al_eventfd(0, 1))
        let alarm = try FileDescriptor(checking: al_alarm_create())
        guard al_poller_add(queue.raw, waker.raw, Self.wakeToken) == 0,
            al_poller_add(queue.raw, alarm.raw, Self.alarmToken) == 0
        else { throw Errno.current }
        self.queue = queue
        self.waker = waker
        self.alarm = alarm
        unsafe events = .allocate(capacity: 256)
    }

    deinit { unsafe events.deallocate() }

    /// Watches a descriptor for both directions; `EPERM` when the kernel says that it is always ready (a regular file).
    func add(_ descriptor: Int32, token: UInt64) throws(Errno) {
        guard al_poller_add(queue.raw, descriptor, token) == 0 else { throw Errno.current }
    }

    /// Stops watching; must come before the descriptor is closed.
    func remove(_ descriptor: Int32) { _ = al_poller_remove(queue.raw, descriptor) }

    /// Makes a `wait` that is under way, or the next one, return.
    ///
    /// The counter is never read: each write is an edge of its own.
    func wake() {
        var one: UInt64 = 1
        _ = unsafe al_write_counter(waker.raw, &one)
    }

    /// Makes a `wait` return at a time of `SystemTime.monotonic`, at once when it has passed; nil takes that back.
    ///
    /// It is never read: each time that comes is an edge of its own.
    func setAlarm(at deadline: UInt64?) {
        let result = al_alarm_set(alarm.raw, deadline.map { max(1, $0) } ?? 0)
        precondition(result == 0, "the alarm failed: \(Errno.current)")
    }

    /// Why a `wait` has returned, besides descriptors.
    struct Outcome {
        /// `wake` was called.
        var isWoken = false
        /// The alarm's time has come.
        var isAlarm = false
    }

    /// Looks for events and hands each to `body`.
    ///
    /// - Parameters:
    ///   - blocks: whether to wait for the first one.
    ///   - body: gets each event's token and what the descriptor is ready for.
    /// - Returns: what else has happened.
    func wait(blocks: Bool, _ body: (UInt64, Readiness) -> Void) -> Outcome {
        let count = unsafe al_poller_wait(queue.raw, events.baseAddress, Int32(events.count), blocks ? 1 : 0)
        // Nothing that `wait` is given can be wrong but the descriptor, which this value owns.
        precondition(count >= 0, "the readiness queue failed: \(Errno.current)")
        var outcome = Outcome()
        for index in 0..<Int(count) {
            let event = unsafe events[index]
            switch event.token {
            case Self.wakeToken: outcome.isWoken = true
            case Self.alarmToken: outcome.isAlarm = true
            default: body(event.token, Readiness(rawValue: event.events))
            }
        }
        return outcome
    }
}
