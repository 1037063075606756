package import AegisCore

/// How a grant stands at a moment: what is left of it and of everything that it was derived from.
package struct Standing: Hashable, Sendable {
    /// When it was taken back; nil is not.
    package var revoked: Timestamp?
    /// From when on it is over; nil is never.
    package var expires: Timestamp?
    /// How often it may still be used.
    package var callsLeft: UInt64 = .max
    /// How much may still be used.
    package var room = Amounts.endless
    /// When its rate allows the next use; nil is now.
    package var nextCall: Timestamp?

    /// A grant that nothing was used of.
    package init(_ terms: GrantTerms) {
        expires = terms.expires
        callsLeft = terms.limits.maxCalls ?? .max
        room = terms.limits.amounts
    }

    init(revoked: Timestamp?, expires: Timestamp?) {
        self.revoked = revoked
        self.expires = expires
    }

    /// Why a request cannot be met although the capability allows it; nil when it can.
    func shortage(for request: Request, at now: Timestamp) -> Denial.Reason? {
        // What had expired before it was taken back has expired.
        if let revoked { return expires.map { $0 <= revoked } ?? false ? .expired : .revoked }
        if let expires, expires <= now { return .expired }
        if callsLeft == 0 { return .callsUsedUp }
        // What is used up is used up, also for a request that says nothing of this amount.
        if request.needs.bytes > room.bytes || room.bytes == 0 { return .bytesUsedUp }
        if request.needs.tokens > room.tokens || room.tokens == 0 { return .tokensUsedUp }
        if request.needs.microUSD > room.microUSD || room.microUSD == 0 { return .moneyUsedUp }
        if let nextCall, nextCall > now { return .tooFast }
        return nil
    }
}

/// What a holder may do at a moment, as a value: the evaluator's input.
package struct GrantSet: Sendable {
    /// One grant.
    package struct Held: Sendable, Hashable {
        /// Its name.
        package var id: GrantID
        /// What it allows.
        package var terms: GrantTerms
        /// What is left of it.
        package var standing: Standing

        /// Describes a grant.
        package init(id: GrantID, terms: GrantTerms, standing: Standing) {
            self.id = id
            self.terms = terms
            self.standing = standing
        }
    }

    /// The grants.
    package let grants: [Held]
    /// The paths that no grant reaches.
    package let protected: ProtectedPaths
    let index: GrantIndex

    /// Makes a set and its index.
    package init(_ grants: [Held], protected: ProtectedPaths = .kernel) {
        self.grants = grants
        self.protected = protected
        index = GrantIndex(grants.map(\.terms.capability))
    }

    /// A set of grants that nothing was used of, with ids from 1 on: for trying out what terms allow.
    package init(fresh terms: [GrantTerms], protected: ProtectedPaths = .kernel) {
        self.init(
            terms.enumerated().map { Held(id: GrantID(UInt64($0 + 1)), terms: $1, standing: Standing($1)) },
            protected: protected)
    }
}

/// The answer to a request.
package enum Decision: Sendable, Equatable {
    case allow(Allowance)
    case deny(Denial)
}

/// Which grant allowed a request.
package struct Allowance: Sendable, Equatable, CustomStringConvertible {
    /// The grant.
    package var grant: GrantID
    /// What it allows.
    package var capability: Capability
    /// How much of what was wanted is there.
    package var reserved: Amounts

    package var description: String { "allowed by \(grant) '\(shown(capability.description))'" }
}

/// Decides a request: the one evaluator that every gate asks (decision D32). Pure; gates use `GrantBook.admit`.
///
/// The narrowest grant that allows the action and has enough left answers. Grants add up: one that is used up or over takes
/// nothing from another.
///
/// - Parameters:
///   - request: what is to be done.
///   - grants: what the holder has.
///   - now: the moment.
/// - Returns: which grant allows it and how much of it; or why none does, and which came nearest.
package func evaluate(_ request: Request, with grants: GrantSet, at now: Timestamp) -> Decision {
    if grants.protected.refuses(request.action) == nil,
        let (position, reserved) = choose(
            request, from: grants.index, at: now, allows: { grants.grants[$0].terms.capability.allows(request.action) },
            standing: { grants.grants[$0].standing })
    {
        let held = grants.grants[position]
        return .allow(Allowance(grant: held.id, capability: held.terms.capability, reserved: reserved))
    }
    return .deny(Explanation(request: request, held: grants.grants, protected: grants.protected, now: now).denial)
}

/// The part of the evaluator that the book shares: the first grant that allows an action and has enough left.
func choose(
    _ request: Request, from index: GrantIndex, at now: Timestamp, allows: (Int) -> Bool, standing: (Int) -> Standing
) -> (position: Int, reserved: Amounts)? {
    var chosen: (Int, Amounts)?
    index.find(request.action, allows: allows) { position in
        let standing = standing(position)
        guard standing.shortage(for: request, at: now) == nil else { return false }
        chosen = (position, request.wants.atMost(standing.room))
        return true
    }
    return chosen
}
