internal import Synchronization

/// Tells whoever listens that something has changed; what, they look at themselves.
package final class ChangeBoard: Sendable {
    private struct State {
        var listeners: [UInt64: @Sendable () -> Void] = [:]
        var next: UInt64 = 0
    }
    private let state = Mutex(State())

    /// Nobody listens yet.
    package init() {}

    /// Whether anybody listens.
    package var isHeard: Bool { state.withLock { !$0.listeners.isEmpty } }

    /// Calls every listener, on the caller's thread.
    package func post() {
        for listener in state.withLock({ Array($0.listeners.values) }) { listener() }
    }

    /// Calls `body` after every change until the returned number is given to `leave`.
    package func listen(_ body: @escaping @Sendable () -> Void) -> UInt64 {
        state.withLock { state in
            state.next += 1
            state.listeners[state.next] = body
            return state.next
        }
    }

    /// Ends a listener.
    package func leave(_ number: UInt64) { state.withLock { _ = $0.listeners.removeValue(forKey: number) } }
}
