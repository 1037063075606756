package import AegisCore
internal import Synchronization

/// Whether instances may be made and started: not any more once the daemon stops them all.
package final class Gate: Sendable {
    private let isClosed = Mutex(false)

    /// Makes an open gate.
    package init() {}

    /// Refuses everything that comes from now on.
    package func close() { isClosed.withLock { $0 = true } }

    /// - Throws: `daemon-stopping` once it is closed.
    package func check() throws(AegisError) {
        guard isClosed.withLock({ $0 }) else { return }
        throw AegisError(
            .unavailable, "daemon-stopping", "the daemon is stopping", hint: "start it again with 'aegis up'")
    }
}
