internal import Synchronization

/// What happens while an instance starts (a pull, a build), for whoever is attached.
package final class NoticeBoard: Sendable {
    private struct State {
        var listeners: [UInt64: @Sendable (String) -> Void] = [:]
        var next: UInt64 = 0
    }
    private let state = Mutex(State())

    /// Tells every listener.
    package func post(_ text: String) {
        for listener in state.withLock({ Array($0.listeners.values) }) { listener(text) }
    }

    /// Calls `body` with every notice until the returned number is given to `leave`.
    package func listen(_ body: @escaping @Sendable (String) -> Void) -> UInt64 {
        state.withLock { state in
            state.next += 1
            state.listeners[state.next] = body
            return state.next
        }
    }

    /// Ends a listener.
    package func leave(_ number: UInt64) { state.withLock { _ = $0.listeners.removeValue(forKey: number) } }
}
