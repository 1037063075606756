internal import Synchronization

/// A value that is set once, by whoever comes first, and awaited by one task.
final class OneShot<Value: Sendable>: Sendable {
    private enum State {
        case empty
        case waiting(CheckedContinuation<Value, Never>)
        case finished(Value)
        /// The task that waited has it; it is not kept for it here as well.
        case taken
    }
    private let state = Mutex(State.empty)

    /// Sets the value; false when it was set before, and then nothing changes.
    @discardableResult
    func finish(_ value: Value) -> Bool {
        let (first, waiter) = state.withLock { state -> (Bool, CheckedContinuation<Value, Never>?) in
            switch state {
            case .empty:
                state = .finished(value)
                return (true, nil)
            case .waiting(let continuation):
                state = .taken
                return (true, continuation)
            case .finished, .taken:
                return (false, nil)
            }
        }
        waiter?.resume(returning: value)
        return first
    }

    /// Waits for the value. Whoever uses this sees to it that cancellation finishes it too.
    func value() async -> Value {
        await withCheckedContinuation { continuation in
            let ready = state.withLock { state -> Value? in
                if case .finished(let value) = state {
                    state = .taken
                    return value
                }
                state = .waiting(continuation)
                return nil
            }
            if let ready { continuation.resume(returning: ready) }
        }
    }
}
