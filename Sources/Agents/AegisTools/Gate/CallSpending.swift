package import AegisCapabilities
internal import Synchronization

/// What a grant has left for models, when a call that it allows begins.
package struct SpendingBound: Sendable, Hashable {
    /// The grant.
    package var grant: GrantID { own.grant }
    /// What the grant itself has left.
    package let own: GrantShare
    /// What those have left that it was derived from and that limit it, the nearest first: others may use it at the same time.
    package let above: [GrantShare]
    /// Whether one of them limits money.
    package var limitsMoney: Bool { own.microUSD != nil || above.contains { $0.microUSD != nil } }

    /// The bound of a grant by its shares; nil where there are none.
    init?(_ shares: [GrantShare]) {
        guard let own = shares.first else { return nil }
        self.own = own
        above = Array(shares.dropFirst())
    }
}

/// What one call of a tool has others use for its caller, beside the answer: the tokens and the money of children, and of vectors. It
/// counts against the limits of the `tool:` grant, however the call ends.
package final class CallSpending: Sendable {
    /// The grant that allows the call; nil of one that no gate has let through.
    package let grant: GrantID?
    /// How much that may be; nil is without end.
    package let bound: SpendingBound?
    /// The call that the caller was started by, and works for; nil for who was started by a person.
    private let enclosing: CallSpending?
    private struct Sums {
        var used = Amounts()
        var counted = Amounts()
        var whenCounted: (@Sendable (Amounts) -> Void)?
    }
    private let sums = Mutex(Sums())

    /// Nothing is used yet.
    package init() { (grant, bound, enclosing) = (nil, nil, nil) }

    /// Nothing is used yet of what a grant has left.
    init(_ grant: GrantID, _ shares: [GrantShare], within enclosing: CallSpending?) {
        self.grant = grant
        self.enclosing = enclosing
        bound = SpendingBound(shares)
    }

    /// What counts against the grant: what was used, without that which calls of children have counted at grants derived from it.
    package var amounts: Amounts { sums.withLock { $0.used.removing($0.counted) } }

    /// Adds what was used.
    package func add(_ amounts: Amounts) { sums.withLock { $0.used = $0.used.adding(amounts) } }

    /// Has the gate say what the call has counted at its grant, once it has: until then whoever bounds it has to hold that.
    package func whenCounted(_ body: @escaping @Sendable (Amounts) -> Void) {
        sums.withLock { $0.whenCounted = body }
    }

    /// The call is counted.
    func isCounted(_ amounts: Amounts) {
        sums.withLock { sums in
            defer { sums.whenCounted = nil }
            return sums.whenCounted
        }?(amounts)
    }

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
