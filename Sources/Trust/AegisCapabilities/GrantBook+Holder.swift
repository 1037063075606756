import AegisCore

extension GrantBook.Holder {
    mutating func reindex() { index = GrantIndex(live.map(\.terms.capability)) }

    /// The live grant of a handle. Few gates ask by one: a table of them would cost every agent more than it saves anybody.
    func shown(_ handle: GrantHandle) -> GrantNode? { live.first { $0.handle == handle } }

    /// The evaluator's view.
    func held(at now: Timestamp) -> [GrantSet.Held] {
        (live + revoked).map { GrantSet.Held(id: $0.id, terms: $0.terms, standing: $0.standing(at: now)) }
    }

    /// The first live grant that allows a request and has enough left.
    func choose(_ request: Request, at now: Timestamp) -> (node: GrantNode, reserved: Amounts)? {
        AegisCapabilities.choose(
            request, from: index, at: now, allows: { live[$0].terms.capability.allows(request.action) },
            standing: { live[$0].standing(at: now) }
        ).map { (live[$0.position], $0.reserved) }
    }
}
