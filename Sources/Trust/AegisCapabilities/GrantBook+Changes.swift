package import AegisCore

extension GrantBook {
    // MARK: Giving

    /// Gives a holder grants that come from nobody: what a manifest that an operator deployed, or a flag, says.
    ///
    /// - Parameters:
    ///   - specs: what it is to have.
    ///   - holder: who gets it.
    ///   - start: from when lifetimes count, for grants that are given anew; nil, or later than now, is now.
    /// - Returns: the records, in the order of `specs`.
    /// - Throws: `too-many-grants` beyond the bounds; what the journal throws. Then none is given.
    @discardableResult
    package func issue(
        _ specs: [GrantSpec], to holder: HolderID, since start: Timestamp? = nil
    ) throws(AegisError) -> [GrantRecord] {
        try locked { (state, now) throws(AegisError) in
            let start = min(start ?? now, now)
            let drafts = specs.map { Draft(terms: GrantTerms($0, at: start), parent: nil) }
            return try give(drafts, to: holder, &state, now)
        }
    }

    /// Hands on a part of what a holder has: each is derived from the one live grant that covers it and has most left.
    ///
    /// - Parameters:
    ///   - specs: what the child is to have.
    ///   - parent: who hands on.
    ///   - child: who gets it; a holder may narrow its own grants.
    ///   - start: as for `issue`.
    /// - Returns: the records, in the order of `specs`.
    /// - Throws: `grant-too-wide` when one is covered by no single grant; `too-many-grants`. Then none is given.
    @discardableResult
    package func delegate(
        _ specs: [GrantSpec], from parent: HolderID, to child: HolderID, since start: Timestamp? = nil
    ) throws(AegisError) -> [GrantRecord] {
        try locked { (state, now) throws(AegisError) in
            let held = state.holders[parent]?.live ?? []
            var drafts: [Draft] = []
            for spec in specs { drafts.append(try Self.derive(spec, from: held, now, since: start)) }
            return try give(drafts, to: child, &state, now)
        }
    }

    /// Hands on a part of the one grant whose handle is shown.
    ///
    /// - Returns: the new grant.
    /// - Throws: `unknown-handle` when the parent has no such grant; otherwise as the other form.
    @discardableResult
    package func delegate(
        _ spec: GrantSpec, using handle: GrantHandle, from parent: HolderID, to child: HolderID
    ) throws(AegisError) -> GrantRecord {
        let given = try locked { (state, now) throws(AegisError) in
            guard let node = state.holders[parent]?.shown(handle) else {
                throw Self.unknownHandle(nil).asAegisError
            }
            return try give([try Self.derive(spec, from: [node], now)], to: child, &state, now)
        }
        guard let record = given.first else { preconditionFailure("one draft gives one record") }
        return record
    }

    /// Counts uses that a holder made before its grants were given anew: they have only what is left of their calls then. At
    /// its own grants only: what those are derived from is given anew as well, and has a number of its own. No rate is
    /// touched, and uses for which there is no room any more change nothing.
    ///
    /// - Parameters:
    ///   - calls: how many.
    ///   - action: what was done each time.
    ///   - holder: who did it.
    /// - Throws: what the journal throws; what is counted by then stays counted.
    package func recall(_ calls: UInt64, of action: Action, by holder: HolderID) throws(AegisError) {
        try locked { (state, now) throws(AegisError) in
            guard let own = state.holders[holder] else { return }
            var left = calls
            while left > 0, let (node, _) = own.choose(Request(action), at: now) {
                let part = min(left, node.standing(at: now).callsLeft)
                do throws(Denial) { try record(.recalled(node.id, calls: part, amounts: Amounts())) } catch {
                    throw error.asAegisError
                }
                node.calls = saturatingSum(node.calls, part)
                left -= part
            }
        }
    }

    /// Counts what was used by a grant and not counted when the daemon ended: at the grant alone, for those that it was derived
    /// from have counts of their own. A grant that is not known (any more) is passed over.
    ///
    /// - Parameters:
    ///   - amounts: what was used.
    ///   - id: the grant.
    /// - Throws: what the journal throws; it is counted all the same.
    package func recall(_ amounts: Amounts, at id: GrantID) throws(AegisError) {
        try locked { (state, _) throws(AegisError) in
            guard let node = state.grants[id], !amounts.isZero else { return }
            node.used = node.used.adding(amounts)
            do throws(Denial) { try record(.recalled(id, calls: 0, amounts: amounts)) } catch {
                throw error.asAegisError
            }
        }
    }

    private struct Draft {
        var terms: GrantTerms
        var parent: GrantNode?
    }

    private static func derive(
        _ spec: GrantSpec, from held: [GrantNode], _ now: Timestamp, since start: Timestamp? = nil
    ) throws(AegisError) -> Draft {
        let kin = held.filter { $0.terms.capability.kind == spec.capability.kind }
        let alive = kin.filter { node in node.terms.expires.map { $0 > now } ?? true }
        let covering = alive.filter { $0.terms.capability.covers(spec.capability) }
        guard let best = covering.max(by: { isPoorer($0, $1, now) }) else {
            if let expired = kin.first(where: { $0.terms.capability.covers(spec.capability) }) {
                throw AegisError(
                    .denied, "grant-expired",
                    "'\(shown(spec.capability.description))' cannot be handed on: \(expired.id) expired at "
                        + "\(expired.terms.expires.map { "\($0)" } ?? "an earlier time")")
            }
            let nearest = alive.max { closeness($0, spec.capability) < closeness($1, spec.capability) }
            throw NarrowingError(wanted: spec.capability, held: nearest?.terms.capability).asAegisError
        }
        do { return Draft(terms: try best.terms.narrow(spec, at: min(start ?? now, now)), parent: best) } catch {
            throw error.asAegisError
        }
    }

    /// Whether a grant has less left than another: calls first, then the time until it expires, then amounts.
    private static func isPoorer(_ a: GrantNode, _ b: GrantNode, _ now: Timestamp) -> Bool {
        func wealth(_ node: GrantNode) -> [UInt64] {
            let standing = node.standing(at: now)
            let life = standing.expires.map { UInt64(clamping: $0.milliseconds - now.milliseconds) } ?? .max
            return [
                standing.callsLeft, life, standing.room.tokens, standing.room.microUSD, standing.room.bytes,
                UInt64(node.terms.limits.perMinute ?? .max),
            ]
        }
        return wealth(a).lexicographicallyPrecedes(wealth(b))
    }

    /// How much of the two texts is the same from the start: enough to name the nearest in a message.
    private static func closeness(_ node: GrantNode, _ wanted: Capability) -> Int {
        zip(node.terms.capability.description.utf8, wanted.description.utf8).prefix { $0 == $1 }.count
    }

    private func give(
        _ drafts: [Draft], to holder: HolderID, _ state: inout State, _ now: Timestamp
    ) throws(AegisError) -> [GrantRecord] {
        func hasRoom() -> Bool {
            (state.holders[holder]?.live.count ?? 0) + drafts.count <= bounds.grantsPerHolder
                && state.grants.count + drafts.count <= bounds.grants
        }
        // What has expired allows nothing; it keeps its place only while nobody needs that.
        if !hasRoom() { try sweep(&state, now) }
        guard hasRoom() else {
            let live = state.holders[holder]?.live.count ?? 0
            throw .conflict(
                "too-many-grants",
                "\(holder) would have \(live + drafts.count) grants, or the node more than it can hold",
                hint: "at most \(bounds.grantsPerHolder) for one holder and \(bounds.grants) in all; use wider patterns"
            )
        }
        var records: [GrantRecord] = []
        for draft in drafts {
            guard (draft.parent?.depth ?? -1) + 1 <= bounds.depth else {
                throw .conflict("grant-too-deep", "a grant can be handed on \(bounds.depth) times, not further")
            }
            let id = state.newID(besides: Set(records.map(\.id)))
            records.append(
                GrantRecord(
                    id: id, holder: holder, terms: draft.terms, parent: draft.parent?.id,
                    root: draft.parent?.root ?? id,
                    issued: now))
        }
        guard !records.isEmpty else { return [] }
        do { try record(.issued(records)) } catch { throw error.asAegisError }
        for (record, draft) in zip(records, drafts) {
            state.insert(GrantNode(record, parent: draft.parent, handle: state.newHandle()))
        }
        state.holders[holder]?.reindex()
        return records
    }

    // MARK: Taking back

    /// Takes a grant back, with everything that was derived from it, whoever holds that. It counts at once: admissions in
    /// flight are refused at their next `check` or `reserve`.
    ///
    /// - Returns: all that were taken back by this call, and those of which an earlier call could not save that.
    /// - Throws: `grant-not-found`; what the journal throws, but the grants are revoked then all the same, and that is saved later.
    @discardableResult
    package func revoke(_ id: GrantID, reason: String) throws(AegisError) -> [GrantID] {
        try locked { (state, now) throws(AegisError) in
            guard state.grants[id] != nil else {
                throw .notFound("grant-not-found", "there is no grant \(id)", hint: "it may be revoked and forgotten")
            }
            return try take([id], &state, now, reason)
        }
    }

    /// Takes back what a holder has, with everything derived from it.
    ///
    /// - Parameters:
    ///   - holder: whose grants.
    ///   - capability: only grants of exactly this; nil is all.
    ///   - reason: for the ledger.
    /// - Returns: as for an id.
    /// - Throws: `grant-not-found` when a capability is named that the holder has not; otherwise as for an id.
    @discardableResult
    package func revoke(
        _ holder: HolderID, capability: Capability? = nil, reason: String
    ) throws(AegisError) -> [GrantID] {
        try locked { (state, now) throws(AegisError) in
            let live = state.holders[holder]?.live ?? []
            // What was taken back before and is not saved yet is asked for again.
            let unsaved = (state.holders[holder]?.revoked ?? []).filter { state.unsaved[$0.id] != nil }
            let meant = (live + unsaved).filter { capability == nil || $0.terms.capability == capability }
            if let capability, meant.isEmpty {
                let texts = live.map(\.terms.capability.description)
                throw .notFound(
                    "grant-not-found", "\(holder) has no grant '\(shown(capability.description))'",
                    hint: nearest(capability.description, in: texts).map { "did you mean '\(shown($0))'?" })
            }
            return try take(meant.map(\.id), &state, now, reason)
        }
    }

    /// Ends a holder: everything that it has is revoked, with what was derived from it, and the holder is forgotten.
    ///
    /// - Returns: all grants that were taken back by this call.
    /// - Throws: what the journal throws, but the holder is gone then all the same.
    @discardableResult
    package func retire(_ holder: HolderID, reason: String) throws(AegisError) -> [GrantID] {
        try locked { (state, now) throws(AegisError) in
            var failure: AegisError?
            var taken: [GrantID] = []
            let ids = (state.holders[holder]?.live ?? []).map(\.id)
            do throws(AegisError) { taken = try take(ids, &state, now, reason) } catch { failure = error }
            // What is not recorded as taken back is forgotten once it is.
            let gone = (state.holders[holder]?.revoked ?? []).map(\.id).filter { state.unsaved[$0] == nil }
            do throws(AegisError) { try forget(gone, &state) } catch { failure = failure ?? error }
            state.holders[holder] = nil
            if let failure { throw failure }
            return taken
        }
    }

    /// Takes back what has expired, so that it makes room; it allows nothing before either.
    private func sweep(_ state: inout State, _ now: Timestamp) throws(AegisError) {
        let over = state.grants.values.filter { node in
            node.revoked == nil && node.terms.expires.map { $0 <= now } ?? false
        }
        _ = try take(over.map(\.id), &state, now, "expired")
    }

    private func take(
        _ ids: [GrantID], _ state: inout State, _ now: Timestamp, _ reason: String
    ) throws(AegisError) -> [GrantID] {
        var taken: [GrantNode] = []
        var seen: Set<GrantID> = []
        var pending = ids
        while let id = pending.popLast() {
            guard seen.insert(id).inserted, let node = state.grants[id] else { continue }
            if node.revoked == nil || state.unsaved[id] != nil { taken.append(node) }
            pending += node.children
        }
        guard !taken.isEmpty else { return [] }
        // It counts first: a revocation that cannot be recorded must not be one that does not work.
        for node in taken where node.revoked == nil {
            node.revoked = now
            state.unsaved[node.id] = Retraction(time: now, reason: reason)
        }
        revocations.raise()
        var failure: AegisError?
        let revoked = taken.map(\.id).sorted()
        do throws(AegisError) { try save(revoked, &state) } catch { failure = error }
        var surplus: [GrantID] = []
        for holder in Set(taken.map(\.holder)) {
            guard var own = state.holders[holder] else { continue }
            own.revoked += own.live.filter { $0.revoked != nil }
            own.live.removeAll { $0.revoked != nil }
            let extra = max(0, own.revoked.count - bounds.remembered)
            let gone = own.revoked.map(\.id).filter { state.unsaved[$0] == nil }.prefix(extra)
            surplus += gone
            own.revoked.removeAll { gone.contains($0.id) }
            own.reindex()
            state.holders[holder] = own
        }
        do throws(AegisError) { try forget(surplus, &state) } catch { failure = failure ?? error }
        if let failure { throw failure }
        return revoked
    }

    func forget(_ ids: [GrantID], _ state: inout State) throws(AegisError) {
        guard !ids.isEmpty else { return }
        for id in ids {
            guard let node = state.grants.removeValue(forKey: id) else { continue }
            node.parent?.children.removeAll { $0 == id }
        }
        do { try record(.forgotten(ids.sorted())) } catch { throw error.asAegisError }
    }
}
