internal import Synchronization

/// When users last waited for a start; what can wait does so meanwhile.
package final class StartActivity: Sendable {
    private struct State {
        var running = 0
        var lastEnd = Duration.zero
        var onEnd: @Sendable () -> Void = {}
    }
    private let state = Mutex(State())

    /// Nobody has started anything.
    package init() {}

    func begin() { state.withLock { $0.running += 1 } }
    func end(now: Duration) {
        let onEnd = state.withLock { state in
            state.running -= 1
            state.lastEnd = now
            return state.onEnd
        }
        onEnd()
    }

    /// Calls `body` whenever a start is over, however it went.
    func whenEnded(_ body: @escaping @Sendable () -> Void) { state.withLock { $0.onEnd = body } }

    /// When somebody waited for a start last; now, while somebody does.
    func lastActivity(now: Duration) -> Duration { state.withLock { $0.running > 0 ? now : $0.lastEnd } }
}
