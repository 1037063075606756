internal import Synchronization

/// One who listens to answers while they are written. It is told as fast as it takes, at most every 50 ms or 4 KiB; what it does not
/// take in time is left out and counted. For one task.
package final class LiveListener: Sendable {
    /// How long pieces are gathered after some were taken.
    static let pause = Duration.milliseconds(50)
    /// So much is not gathered any longer.
    static let batch = 4 << 10

    private struct State {
        var buffer = LiveBuffer()
        var waiting: (waiter: Waiter<Bool>, weight: Int)?
        var isOver = false
        /// Who waits for the end.
        var ending: Waiter<Bool>?
        /// Some were taken just now.
        var isPaced = false
    }
    private let state = Mutex(State())
    private let leave: @Sendable (LiveListener) -> Void

    init(leave: @escaping @Sendable (LiveListener) -> Void) { self.leave = leave }

    func add(_ event: LiveEvent) {
        wake { state in
            if !state.isOver { state.buffer.add(event) }
        }
    }

    /// Says that nothing will come any more; what is there can still be taken.
    package func finish() {
        wake { $0.isOver = true }
        state.withLock { $0.ending }?.resolve(true)
        leave(self)
    }

    /// Waits until nothing will come any more, or the task is cancelled. For one task at a time.
    package func over() async {
        let waiter = Waiter<Bool>()
        let isOver = state.withLock { state in
            state.ending = waiter
            return state.isOver
        }
        if !isOver { _ = await waiter.value() }
    }

    private func wake(_ change: (inout State) -> Void) {
        let waiter = state.withLock { state -> Waiter<Bool>? in
            change(&state)
            guard let waiting = state.waiting, state.isOver || state.buffer.weight >= waiting.weight else { return nil }
            state.waiting = nil
            return waiting.waiter
        }
        waiter?.resolve(true)
    }

    /// What has come since the last time.
    package func take() -> [LiveEvent] {
        state.withLock { state in
            state.isPaced = !state.buffer.events.isEmpty
            return state.buffer.take()
        }
    }

    /// Waits until there is something to take.
    ///
    /// - Parameter clock: for gathering.
    /// - Returns: false when nothing will come any more, or the task was cancelled.
    package func wait(_ clock: any Clock<Duration>) async -> Bool {
        if state.withLock({ $0.isPaced }) {
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await self.until(Self.batch) }
                group.addTask { try? await clock.sleep(for: Self.pause) }
                await group.next()
                group.cancelAll()
            }
            state.withLock { $0.isPaced = false }
        }
        await until(1)
        return state.withLock { !$0.buffer.events.isEmpty }
    }

    private func until(_ weight: Int) async {
        let waiter = Waiter<Bool>()
        let isThere = state.withLock { state in
            if state.isOver || state.buffer.weight >= weight { return true }
            state.waiting = (waiter, weight)
            return false
        }
        guard !isThere else { return }
        _ = await waiter.value()
        state.withLock { if $0.waiting?.waiter === waiter { $0.waiting = nil } }
    }
}
