internal import Synchronization

/// A task waits until another says that there is something to look at; what was said before is not lost.
///
/// Several calls of `set` before a `wait` count as one, and one `set` wakes all who wait. A cancelled task does not
/// wait. Who comes back looks at its own state: it may have been woken for another's sake.
package final class Signal: Sendable {
    private enum State {
        case idle
        case set
        case waiting(CheckedContinuation<Void, Never>, others: [CheckedContinuation<Void, Never>])
    }
    private let state = Mutex(State.idle)

    /// Nothing was said yet.
    package init() {}

    /// Wakes the waiting tasks, or the next one that comes to wait.
    package func set() {
        let waiting = state.withLock { state -> State in
            defer { if case .waiting = state { state = .idle } else { state = .set } }
            return state
        }
        guard case .waiting(let first, let others) = waiting else { return }
        first.resume()
        for other in others { other.resume() }
    }

    /// Returns after `set`, or when the task is cancelled.
    package func wait() async {
        if takeSet() { return }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let goOn = state.withLock { state -> Bool in
                    if Task.isCancelled { return true }
                    switch state {
                    case .set:
                        state = .idle
                        return true
                    case .idle:
                        state = .waiting(continuation, others: [])
                    case .waiting(let first, let others):
                        state = .waiting(first, others: others + [continuation])
                    }
                    return false
                }
                if goOn { continuation.resume() }
            }
        } onCancel: {
            // A cancelled wait ends as if it had been signalled; a task that comes later looks once in vain.
            set()
        }
    }

    private func takeSet() -> Bool {
        state.withLock { state in
            guard case .set = state else { return false }
            state = .idle
            return true
        }
    }
}
