package import AegisCapabilities
internal import Synchronization

/// What one call of a tool has others use for its caller, beside the answer: the tokens and the money of children. It counts against
/// the limits of the `tool:` grant, however the call ends.
package final class CallSpending: Sendable {
    private let sum = Mutex(Amounts())

    /// Nothing is used yet.
    package init() {}

    /// All of it so far.
    package var amounts: Amounts { sum.withLock { $0 } }

    /// Adds what was used.
    package func add(_ amounts: Amounts) { sum.withLock { $0 = $0.adding(amounts) } }
}
