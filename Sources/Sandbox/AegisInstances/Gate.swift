package import AegisCore
internal import Synchronization

/// Whether the daemon ends, and what that means for instances: once it stops them all, none may be made or started any
/// more; when it leaves them alone, nothing that its own end looks like may end them.
package final class Gate: Sendable {
    private struct State {
        var isClosed = false
        var leavesAlone = false
        var leavers: [UInt64: @Sendable () -> Void] = [:]
        var next: UInt64 = 0
    }
    private let state = Mutex(State())

    /// Makes an open gate.
    package init() {}

    /// Whether all instances are being stopped.
    package var isClosed: Bool { state.withLock { $0.isClosed } }
    /// Whether the daemon goes and its instances stay, for the next one.
    package var leavesAlone: Bool { state.withLock { $0.leavesAlone } }

    /// Refuses everything that comes from now on.
    package func close() { state.withLock { $0.isClosed = true } }

    /// From now on instances outlive what the daemon does for them, clients that are cut off included.
    package func leaveAlone() {
        let leavers = state.withLock { state in
            state.leavesAlone = true
            return Array(state.leavers.values)
        }
        for leaver in leavers { leaver() }
    }

    /// Calls `body` when the instances are left alone, at once if they are, until the returned number is given to `forget`.
    package func onLeaving(_ body: @escaping @Sendable () -> Void) -> UInt64 {
        let (number, isLeaving) = state.withLock { state in
            state.next += 1
            state.leavers[state.next] = body
            return (state.next, state.leavesAlone)
        }
        if isLeaving { body() }
        return number
    }

    /// Ends what `onLeaving` began.
    package func forget(_ number: UInt64) { state.withLock { _ = $0.leavers.removeValue(forKey: number) } }

    /// - Throws: `daemon-stopping` once it is closed.
    package func check() throws(AegisError) {
        if isClosed { throw Self.stopping }
    }

    /// - Throws: `daemon-stopping` once the daemon goes, whatever becomes of its instances.
    package func checkStays() throws(AegisError) {
        if state.withLock({ $0.isClosed || $0.leavesAlone }) { throw Self.stopping }
    }

    private static var stopping: AegisError {
        AegisError(.unavailable, "daemon-stopping", "the daemon is stopping", hint: "start it again with 'aegis up'")
    }
}
