internal import Synchronization

/// A result that one task waits for and another brings; a waiter that is cancelled goes away with nil.
package final class Waiter<Value: Sendable>: Sendable {
    private enum State {
        case empty
        case waiting(CheckedContinuation<Value?, Never>)
        case done(Value?)
    }
    private let state = Mutex(State.empty)

    package init() {}

    /// Brings the result; the first one counts.
    package func resolve(_ value: Value?) {
        let waiting = state.withLock { state -> CheckedContinuation<Value?, Never>? in
            switch state {
            case .done: return nil
            case .empty:
                state = .done(value)
                return nil
            case .waiting(let continuation):
                state = .done(value)
                return continuation
            }
        }
        waiting?.resume(returning: value)
    }

    /// Waits for the result, once; nil when the waiting task was cancelled first.
    package func value() async -> Value? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let done = state.withLock { state -> Value?? in
                    if case .done(let value) = state { return .some(value) }
                    state = .waiting(continuation)
                    return nil
                }
                if let done { continuation.resume(returning: done) }
            }
        } onCancel: {
            resolve(nil)
        }
    }
}
