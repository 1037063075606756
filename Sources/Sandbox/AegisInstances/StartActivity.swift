internal import Synchronization

/// When users last waited for a start; what can wait does so meanwhile.
package final class StartActivity: Sendable {
    private struct State {
        var running = 0
        var lastEnd = Duration.zero
    }
    private let state = Mutex(State())

    /// Nobody has started anything.
    package init() {}

    func begin() { state.withLock { $0.running += 1 } }
    func end(now: Duration) {
        state.withLock { state in
            state.running -= 1
            state.lastEnd = now
        }
    }

    /// When somebody waited for a start last; now, while somebody does.
    func lastActivity(now: Duration) -> Duration { state.withLock { $0.running > 0 ? now : $0.lastEnd } }
}
