package import AegisCore

/// A change of the book's state, in the order of the changes: what a store keeps, and what a ledger tells.
package enum GrantEvent: Sendable, Equatable, Codable {
    /// Grants were given, all at once.
    case issued([GrantRecord])
    /// Grants were taken back, with all that was derived from them.
    case revoked([GrantID], at: Timestamp, reason: String)
    /// A grant was used, or reserved more: counted at it and at all that it was derived from.
    case charged(GrantID, calls: UInt64, amounts: Amounts, at: Timestamp)
    /// What was done by a grant before the book was opened, or before it was given anew: counted at it alone, and not as part of
    /// any rate.
    case recalled(GrantID, calls: UInt64, amounts: Amounts)
    /// A use ended: what was reserved is replaced by what was used.
    case settled(GrantID, reserved: Amounts, used: Amounts)
    /// A use did not happen: nothing of it is counted.
    case refunded(GrantID, reserved: Amounts, chargedAt: Timestamp)
    /// Revoked grants are kept no longer.
    case forgotten([GrantID])
}

/// Where changes and denials are written down.
///
/// `record` is called inside the book's critical section, in the order of the changes and before they count: it must be short
/// (a `write(2)`), must not call the book, and what it throws stops what was about to happen. Revocations count even so.
package protocol GrantJournal: Sendable {
    /// Saves a change.
    ///
    /// - Parameters:
    ///   - event: the change.
    ///   - action: what was admitted, with `charged` for a use; nil otherwise.
    /// - Throws: when it is not saved.
    func record(_ event: GrantEvent, action: Action?) throws(AegisError)

    /// Tells of a refusal; called outside the critical section.
    func denied(_ action: Action, by holder: HolderID, _ denial: Denial, at time: Timestamp)
}

/// All grants at a moment, as a value. A snapshot and the events after it give the next one.
package struct GrantSnapshot: Sendable, Equatable, Codable {
    /// A record is large, and a table has room for twice as many as there are.
    ///
    /// `@unchecked Sendable`: it is changed only where nobody else has it.
    private final class Kept: @unchecked Sendable, Equatable {
        var record: GrantRecord
        init(_ record: GrantRecord) { self.record = record }
        static func == (a: Kept, b: Kept) -> Bool { a === b || a.record == b.record }
    }

    /// The version of this form, for stores.
    package var version = 1
    private var kept: [GrantID: Kept] = [:]

    /// Every grant, revoked ones too until they are forgotten, in the order of their ids.
    package var grants: [GrantRecord] { kept.values.map(\.record).sorted { $0.id < $1.id } }

    /// An empty book.
    package init() {}
    init(_ grants: [GrantRecord]) { add(grants) }

    private enum CodingKeys: String, CodingKey { case version, grants }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        version = try container.decode(Int.self, forKey: .version)
        guard version == 1 else {
            throw DecodingError.dataCorruptedError(
                forKey: .version, in: container,
                debugDescription: "grants were saved in version \(version) by a newer Aegis; this one reads version 1")
        }
        add(try container.decode([GrantRecord].self, forKey: .grants))
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(version, forKey: .version)
        try container.encode(grants, forKey: .grants)
    }

    /// The state after one more event.
    package mutating func apply(_ event: GrantEvent) {
        switch event {
        case .issued(let records): add(records)
        case .revoked(let ids, let time, _): for id in ids { change(id) { $0.revoked = $0.revoked ?? time } }
        case .charged(let id, let calls, let amounts, let time):
            line(id) { record in
                record.calls = saturatingSum(record.calls, calls)
                record.used = record.used.adding(amounts)
                if calls > 0 { record.withRate { $0.add(time) } }
            }
        case .recalled(let id, let calls, let amounts):
            change(id) { record in
                record.calls = saturatingSum(record.calls, calls)
                record.used = record.used.adding(amounts)
            }
        case .settled(let id, let reserved, let used):
            line(id) { $0.used = $0.used.removing(reserved).adding(used) }
        case .refunded(let id, let reserved, let time):
            line(id) { record in
                record.calls -= min(1, record.calls)
                record.used = record.used.removing(reserved)
                record.withRate { $0.remove(time) }
            }
        case .forgotten(let ids): for id in ids { kept[id] = nil }
        }
    }

    /// A grant by its id.
    package func record(_ id: GrantID) -> GrantRecord? { kept[id]?.record }

    /// Whether a grant that is kept, or one that it was derived from, has a limit.
    package func isLimited(_ id: GrantID) -> Bool {
        var next: GrantID? = id
        while let id = next, let own = kept[id] {
            if own.record.terms.isLimited { return true }
            next = own.record.parent
        }
        return false
    }

    private mutating func add(_ records: [GrantRecord]) { for record in records { kept[record.id] = Kept(record) } }

    /// Changes a grant.
    ///
    /// - Returns: what it was derived from.
    @discardableResult
    private mutating func change(_ id: GrantID, _ body: (inout GrantRecord) -> Void) -> GrantID? {
        guard let place = kept.index(forKey: id) else { return nil }
        if !isKnownUniquelyReferenced(&kept.values[place]) { kept.values[place] = Kept(kept.values[place].record) }
        body(&kept.values[place].record)
        return kept.values[place].record.parent
    }

    /// Changes a grant and all that it was derived from, as far as they are kept.
    private mutating func line(_ id: GrantID, _ body: (inout GrantRecord) -> Void) {
        var next: GrantID? = id
        while let id = next { next = change(id, body) }
    }
}

extension GrantRecord {
    mutating func withRate(_ body: (inout RateWindow) -> Void) {
        guard let limit = terms.limits.perMinute else { return }
        var window = RateWindow(limit: limit, recent: recent)
        body(&window)
        recent = window.recent
    }
}
