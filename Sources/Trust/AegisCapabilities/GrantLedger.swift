package import AegisAudit
package import AegisCore
internal import AegisJSON
internal import Synchronization

extension AuditKind {
    /// A holder got grants that come from nobody.
    package static let grantIssued = AuditKind("grant_issued")
    /// A holder got grants that were derived from another's.
    package static let grantDerived = AuditKind("grant_derived")
    /// Grants were taken back, with all that was derived from them.
    package static let grantRevoked = AuditKind("grant_revoked")
    /// A grant allowed something, which is about to be done.
    package static let capabilityUsed = AuditKind("capability_used")
    /// What a use had reserved was replaced by what it used.
    package static let capabilitySettled = AuditKind("capability_settled")
    /// A use did not happen: nothing of it counts.
    package static let capabilityRefunded = AuditKind("capability_refunded")
    /// Something was refused.
    package static let capabilityDenied = AuditKind("capability_denied", .denial)
    /// All of them.
    package static let ofGrants: [AuditKind] = [
        .grantIssued, .grantDerived, .grantRevoked, .capabilityUsed, .capabilitySettled, .capabilityRefunded,
        .capabilityDenied,
    ]
}

/// Writes what a book decides into the ledger, with the holder as the agent.
///
/// Every grant, derived grant, revocation, refusal and every use that was allowed: the use before it happens. Reserving more
/// in the middle of a use, and settling a use that moved nothing that is counted, are no decisions and no records.
package final class GrantLedger: GrantJournal {
    private let trail: any AuditTrail
    private let ignoresUse: @Sendable (Action) -> Bool
    private let ignoresDenial: @Sendable (Action) -> Bool
    private let failed: @Sendable (AegisError) -> Void
    /// Whose each grant is that the book knows.
    private let holders = Mutex<[GrantID: HolderID]>([:])

    /// Prepares a journal.
    ///
    /// - Parameters:
    ///   - trail: where records go.
    ///   - ignoresUse: actions that are the node's own.
    ///   - ignoresDenial: actions whose refusals somebody else records, with more to say.
    ///   - failed: gets the reason when a refusal could not be recorded: it is a refusal all the same.
    package init(
        _ trail: any AuditTrail, ignoresUse: @escaping @Sendable (Action) -> Bool = { _ in false },
        ignoresDenial: @escaping @Sendable (Action) -> Bool = { _ in false },
        failed: @escaping @Sendable (AegisError) -> Void = { _ in }
    ) {
        self.trail = trail
        self.ignoresUse = ignoresUse
        self.ignoresDenial = ignoresDenial
        self.failed = failed
    }

    /// Takes note of grants that the book has from a store, so that what is done by them is told as their holders'.
    package func know(_ records: [GrantRecord]) {
        holders.withLock { holders in for record in records { holders[record.id] = record.holder } }
    }

    package func record(_ event: GrantEvent, action: Action?) throws(AegisError) {
        switch event {
        case .issued(let records): try issued(records)
        case .revoked(let ids, _, let reason): try revoked(ids, reason)
        case .charged(let id, let calls, let amounts, _):
            guard calls > 0, let action, !ignoresUse(action) else { return }
            var event = AuditEvent(
                .capabilityUsed, agent: holder(id), ("action", .string(action.description)),
                ("grant", .string(id.description)))
            if !amounts.isZero { event.fields.append(.init("reserved", Self.json(amounts))) }
            try trail.record(event)
        case .settled(let id, let reserved, let used):
            guard !reserved.isZero || !used.isZero else { return }
            try trail.record(
                AuditEvent(
                    .capabilitySettled, agent: holder(id), ("grant", .string(id.description)),
                    ("reserved", Self.json(reserved)), ("used", Self.json(used))))
        case .refunded(let id, let reserved, _):
            var event = AuditEvent(.capabilityRefunded, agent: holder(id), ("grant", .string(id.description)))
            if !reserved.isZero { event.fields.append(.init("reserved", Self.json(reserved))) }
            try trail.record(event)
        case .recalled(let id, _, let amounts):
            guard !amounts.isZero else { return }
            try trail.record(
                AuditEvent(
                    .capabilitySettled, agent: holder(id), ("grant", .string(id.description)),
                    ("reserved", Self.json(Amounts())), ("used", Self.json(amounts)), ("recalled", true)))
        case .forgotten(let ids): holders.withLock { holders in for id in ids { holders[id] = nil } }
        }
    }

    package func denied(_ action: Action, by holder: HolderID, _ denial: Denial, at time: Timestamp) {
        guard !ignoresDenial(action) else { return }
        var event = AuditEvent(
            .capabilityDenied, agent: holder.description, ("action", .string(action.description)),
            ("reason", .string(denial.reason.rawValue)))
        if let nearest = denial.nearest { event.fields.append(.init("nearest", .string(nearest.description))) }
        do throws(AegisError) { try trail.record(event) } catch { failed(error) }
    }

    private func issued(_ records: [GrantRecord]) throws(AegisError) {
        guard let first = records.first else { return }
        try trail.record(
            AuditEvent(
                first.parent == nil ? .grantIssued : .grantDerived, agent: first.holder.description,
                parent: first.parent.flatMap(holder),
                ("grants", .array(records.map(Self.json)))))
        know(records)
    }

    /// One record for each holder: whoever looks for an agent's grants finds what became of them.
    private func revoked(_ ids: [GrantID], _ reason: String) throws(AegisError) {
        let byHolder = Dictionary(grouping: ids) { holder($0) ?? "" }
        for (agent, ids) in byHolder.sorted(by: { $0.key < $1.key }) {
            try trail.record(
                AuditEvent(
                    .grantRevoked, agent: agent.isEmpty ? nil : agent,
                    ("grants", .array(ids.map { .string($0.description) })), ("reason", .string(reason))))
        }
    }

    private func holder(_ id: GrantID) -> String? { holders.withLock { $0[id]?.description } }

    private static func json(_ record: GrantRecord) -> JSONValue {
        var fields: [JSONValue.Field] = [
            .init("id", .string(record.id.description)),
            .init("capability", .string(record.terms.capability.description)),
        ]
        let limits = record.terms.limits
        let all: [(String, UInt64?)] = [
            ("max_calls", limits.maxCalls), ("per_minute", limits.perMinute.map { UInt64($0) }),
            ("max_bytes", limits.maxBytes), ("max_tokens", limits.maxTokens), ("max_micro_usd", limits.maxMicroUSD),
        ]
        for (name, limit) in all { if let limit { fields.append(.init(name, .number(limit))) } }
        if let expires = record.terms.expires { fields.append(.init("expires", .string(expires.description))) }
        if let parent = record.parent { fields.append(.init("from", .string(parent.description))) }
        return .object(fields)
    }

    private static func json(_ amounts: Amounts) -> JSONValue {
        let all = [("bytes", amounts.bytes), ("tokens", amounts.tokens), ("micro_usd", amounts.microUSD)]
        return .object(all.filter { $0.1 > 0 }.map { .init($0.0, .number($0.1)) })
    }
}
