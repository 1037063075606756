import AegisCore

extension GrantBook.Holder {
    mutating func reindex() { index = GrantIndex(live.map(\.terms.capability)) }

    /// The live grant of a handle. Few gates ask by one: a table of them would cost every agent more than it saves anybody.
    func shown(_ handle: GrantHandle) -> GrantNode? { live.first { $0.handle == handle } }

    /// The evaluator's view.
    func held(at now: Timestamp) -> [GrantSet.Held] {
        (live + revoked).map { GrantSet.Held(id: $0.id, terms: $0.terms, standing: $0.standing(at: now)) }
    }

    /// The part of that view by which a refusal of an action is explained.
    func held(at now: Timestamp, about action: Action) -> [GrantSet.Held] {
        func explains(_ kind: CapabilityKind) -> Bool {
            // What may be written and not read is told.
            kind == action.kind || (action.kind == .fileRead && kind == .fileWrite)
        }
        func add(_ nodes: [GrantNode], _ held: inout [GrantSet.Held]) {
            for node in nodes where explains(node.terms.capability.kind) {
                held.append(GrantSet.Held(id: node.id, terms: node.terms, standing: node.standing(at: now)))
            }
        }
        var held: [GrantSet.Held] = []
        add(live, &held)
        add(revoked, &held)
        return held
    }

    /// Of so many grants it is less work to look at all of them once than to look for each tool.
    private static let fewGrants = 64

    /// The tools that may be called now, by grants that have something left; nil for a holder of many grants.
    func tools(at now: Timestamp) -> (areAll: Bool, names: [String])? {
        guard live.count <= Self.fewGrants else { return nil }
        var names: [String] = []
        for node in live {
            guard case .tool(let name) = node.terms.capability,
                node.standing(at: now).shortage(for: Request(.tool(name ?? "")), at: now) == nil
            else { continue }
            guard let name else { return (true, []) }
            names.append(name)
        }
        return (false, names)
    }

    /// The first live grant that allows a request and has enough left.
    func choose(_ request: Request, at now: Timestamp) -> (node: GrantNode, reserved: Amounts)? {
        AegisCapabilities.choose(
            request, from: index, at: now, allows: { live[$0].terms.capability.allows(request.action) },
            standing: { live[$0].standing(at: now) }
        ).map { (live[$0.position], $0.reserved) }
    }
}
