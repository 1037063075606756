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
    /// The grant that allows the call; nil of one that no gate has let through.
    let grant: GrantID?
    /// How much that may be; nil is without end.
    package let bound: SpendingBound?
    /// The call that the caller was started by, and works for; nil for who was started by a person.
    private let enclosing: CallSpending?
    private let sums = Mutex((used: Amounts(), counted: Amounts()))

    /// Nothing is used yet.
    package init() { (grant, bound, enclosing) = (nil, nil, nil) }

    /// Nothing is used yet of what a grant has left.
    init(_ grant: GrantID, left: Amounts, within enclosing: CallSpending?) {
        self.grant = grant
        self.enclosing = enclosing
        bound = SpendingBound(grant, left: left)
    }

    /// What counts against the grant: what was used, without that which calls of children have counted at grants derived from it.
    package var amounts: Amounts { sums.withLock { $0.used.removing($0.counted) } }

    /// Adds what was used.
    package func add(_ amounts: Amounts) { sums.withLock { $0.used = $0.used.adding(amounts) } }

    /// Says what this call counts to those that it is made for, where their grants are among those that it counts at.
    func settle(_ amounts: Amounts, at admission: borrowing Admission) {
        var next = enclosing
        while let call = next {
            if let grant = call.grant, admission.isDerived(from: grant) {
                call.sums.withLock { $0.counted = $0.counted.adding(amounts) }
            }
            next = call.enclosing
        }
    }
}
