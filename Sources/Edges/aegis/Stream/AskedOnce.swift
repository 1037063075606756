internal import AegisCore
internal import Synchronization

/// A request that may have had its effect is not sent again when its answer was lost.
final class AskedOnce: Sendable {
    private let done = Mutex(false)

    /// - Throws: `connection-lost` the second time.
    func ask() throws(AegisError) {
        let before = done.withLock { done in
            defer { done = true }
            return done
        }
        guard !before else {
            throw AegisError(
                .failed, "connection-lost", "the connection broke before the end of the command",
                hint: "the command was hung up on; see 'aegis status'")
        }
    }
}
