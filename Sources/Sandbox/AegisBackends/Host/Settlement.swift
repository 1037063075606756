import Synchronization

/// A value that is set once and awaited by any number of tasks.
final class Settlement<Value: Sendable>: Sendable {
    private struct State {
        var value: Value?
        var waiters: [Int: CheckedContinuation<Value?, Never>] = [:]
        var next = 0
    }
    private let state = Mutex(State())

    /// Sets the value; the first one stays.
    func settle(_ value: Value) {
        let waiters = state.withLock { state -> [CheckedContinuation<Value?, Never>] in
            guard state.value == nil else { return [] }
            state.value = value
            defer { state.waiters = [:] }
            return Array(state.waiters.values)
        }
        for waiter in waiters { waiter.resume(returning: value) }
    }

    /// The value, if it is set.
    var now: Value? { state.withLock { $0.value } }

    /// Waits for the value; nil when the task is cancelled before.
    func value() async -> Value? {
        let ticket = state.withLock { state -> Int in
            state.next += 1
            return state.next
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let (done, value) = state.withLock { state -> (Bool, Value?) in
                    if let value = state.value { return (true, value) }
                    // Cancelled before it was registered: the handler has found nothing to resume.
                    if Task.isCancelled { return (true, nil) }
                    state.waiters[ticket] = continuation
                    return (false, nil)
                }
                if done { continuation.resume(returning: value) }
            }
        } onCancel: {
            state.withLock { $0.waiters.removeValue(forKey: ticket) }?.resume(returning: nil)
        }
    }
}
