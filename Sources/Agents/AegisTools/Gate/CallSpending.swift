package import AegisCapabilities
internal import Synchronization

/// What a grant has left for models, when a call that it allows begins.
package struct SpendingBound: Sendable, Hashable {
    /// The grant.
    package let grant: GrantID
    /// Tokens; nil is any number.
    package let tokens: UInt64?
    /// Millionths of a US dollar; nil is any amount.
    package let microUSD: UInt64?

    /// The bound of a grant; nil where it limits neither.
    init?(_ grant: GrantID, left: Amounts) {
        guard left.tokens != .max || left.microUSD != .max else { return nil }
        self.grant = grant
        tokens = left.tokens == .max ? nil : left.tokens
        microUSD = left.microUSD == .max ? nil : left.microUSD
    }
}

/// What one call of a tool has others use for its caller, beside the answer: the tokens and the money of children, and of vectors. It
/// counts against the limits of the `tool:` grant, however the call ends.
package final class CallSpending: Sendable {
    /// How much that may be; nil is without end.
    package let bound: SpendingBound?
    private let sum = Mutex(Amounts())

    /// Nothing is used yet.
    package init(within bound: SpendingBound? = nil) { self.bound = bound }

    /// All of it so far.
    package var amounts: Amounts { sum.withLock { $0 } }

    /// Adds what was used.
    package func add(_ amounts: Amounts) { sum.withLock { $0 = $0.adding(amounts) } }
}
