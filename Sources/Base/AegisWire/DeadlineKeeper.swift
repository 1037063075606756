internal import Synchronization

/// Watches the deadlines of many connections with one sleep, so that moving a deadline costs no timer.
///
/// While nobody has a deadline it does not wake up at all. A deadline that is moved back is noticed when the old one
/// comes; only one that is earlier than all others wakes the sleeper.
final class DeadlineKeeper: Sendable {
    typealias Key = Int

    private struct Entry {
        var deadline: Duration?
        var expire: @Sendable () -> Void
    }
    private struct State {
        var entries: [Key: Entry] = [:]
        var nextKey = 0
        /// When the sleeper will wake; nil while it has nothing to wait for.
        var target: Duration?
    }

    private let state = Mutex(State())
    private let changed = Signal()
    private let elapsed: @Sendable () -> Duration
    private let sleep: @Sendable (Duration) async throws -> Void

    init(clock: any Clock<Duration>) {
        (elapsed, sleep) = Self.open(clock)
    }

    private static func open<C: Clock>(
        _ clock: C
    ) -> (@Sendable () -> Duration, @Sendable (Duration) async throws -> Void) where C.Duration == Duration {
        let start = clock.now
        return (
            { start.duration(to: clock.now) },
            { offset in try await clock.sleep(until: start.advanced(by: offset), tolerance: nil) }
        )
    }

    /// Time since the keeper was made.
    var now: Duration { elapsed() }

    /// Adds somebody without a deadline; `expire` is called once for each deadline that passes.
    func register(_ expire: @escaping @Sendable () -> Void) -> Key {
        state.withLock { state in
            state.nextKey += 1
            state.entries[state.nextKey] = Entry(deadline: nil, expire: expire)
            return state.nextKey
        }
    }

    func remove(_ key: Key) {
        _ = state.withLock { $0.entries.removeValue(forKey: key) }
    }

    /// Sets a deadline from now on, or takes it away.
    func arm(_ key: Key, after span: Duration?) {
        let deadline = span.map { elapsed() + $0 }
        let wake = state.withLock { state -> Bool in
            state.entries[key]?.deadline = deadline
            guard let deadline else { return false }
            guard let target = state.target, target <= deadline else {
                state.target = deadline
                return true
            }
            return false
        }
        if wake { changed.set() }
    }

    /// Runs until the task is cancelled.
    func run() async {
        while !Task.isCancelled {
            let now = elapsed()
            let (due, target) = state.withLock { Self.expire(&$0, at: now) }
            for expire in due { expire() }
            guard let target else {
                await changed.wait()
                continue
            }
            let sleep = sleep
            let changed = changed
            await withTaskGroup(of: Void.self) { group in
                group.addTask { try? await sleep(target) }
                group.addTask { await changed.wait() }
                await group.next()
                group.cancelAll()
            }
        }
    }

    /// Takes what is due and sets the next time to wake.
    private static func expire(_ state: inout State, at now: Duration) -> ([@Sendable () -> Void], Duration?) {
        var due: [@Sendable () -> Void] = []
        var next: Duration?
        for (key, entry) in state.entries {
            guard let deadline = entry.deadline else { continue }
            if deadline <= now {
                due.append(entry.expire)
                state.entries[key]?.deadline = nil
            } else {
                next = next.map { min($0, deadline) } ?? deadline
            }
        }
        state.target = next
        return (due, next)
    }
}
