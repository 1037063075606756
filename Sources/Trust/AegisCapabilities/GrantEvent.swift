package import AegisCore

/// A change of the book's state, in the order of the changes: what a store keeps, and what a ledger tells.
package enum GrantEvent: Sendable, Equatable, Codable {
    /// Grants were given, all at once.
    case issued([GrantRecord])
    /// Grants were taken back, with all that was derived from them.
    case revoked([GrantID], at: Timestamp, reason: String)
    /// A grant was used, or reserved more: counted at it and at all that it was derived from.
    case charged(GrantID, calls: UInt64, amounts: Amounts, at: Timestamp)
    /// Uses of a grant from before it was given anew: counted at it alone, and not as part of any rate.
    case recalled(GrantID, calls: UInt64)
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
    /// The version of this form, for stores.
    package var version = 1
    /// Every grant, revoked ones too until they are forgotten, in the order of their ids.
    package private(set) var grants: [GrantRecord]

    /// An empty book.
    package init() { grants = [] }
    init(_ grants: [GrantRecord]) { self.grants = grants.sorted { $0.id < $1.id } }

    private enum CodingKeys: String, CodingKey { case version, grants }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        version = try container.decode(Int.self, forKey: .version)
        guard version == 1 else {
            throw DecodingError.dataCorruptedError(
                forKey: .version, in: container,
                debugDescription: "grants were saved in version \(version) by a newer Aegis; this one reads version 1")
        }
        grants = try container.decode([GrantRecord].self, forKey: .grants).sorted { $0.id < $1.id }
    }

    /// The state after one more event.
    package mutating func apply(_ event: GrantEvent) {
        switch event {
        case .issued(let records):
            grants = (grants + records).sorted { $0.id < $1.id }
        case .revoked(let ids, let time, _):
            for id in ids { if let index = index(id), grants[index].revoked == nil { grants[index].revoked = time } }
        case .charged(let id, let calls, let amounts, let time):
            line(id) { record in
                record.calls = saturatingSum(record.calls, calls)
                record.used = record.used.adding(amounts)
                if calls > 0 { record.withRate { $0.add(time) } }
            }
        case .recalled(let id, let calls):
            if let index = index(id) { grants[index].calls = saturatingSum(grants[index].calls, calls) }
        case .settled(let id, let reserved, let used):
            line(id) { $0.used = $0.used.removing(reserved).adding(used) }
        case .refunded(let id, let reserved, let time):
            line(id) { record in
                record.calls -= min(1, record.calls)
                record.used = record.used.removing(reserved)
                record.withRate { $0.remove(time) }
            }
        case .forgotten(let ids):
            let gone = Set(ids)
            grants.removeAll { gone.contains($0.id) }
        }
    }

    /// A grant by its id.
    package func record(_ id: GrantID) -> GrantRecord? { index(id).map { grants[$0] } }

    private func index(_ id: GrantID) -> Int? {
        var low = 0
        var high = grants.count
        while low < high {
            let middle = (low + high) / 2
            if grants[middle].id < id { low = middle + 1 } else { high = middle }
        }
        return low < grants.count && grants[low].id == id ? low : nil
    }

    /// Changes a grant and all that it was derived from, as far as they are kept.
    private mutating func line(_ id: GrantID, _ change: (inout GrantRecord) -> Void) {
        var next: GrantID? = id
        while let id = next, let index = index(id) {
            change(&grants[index])
            next = grants[index].parent
        }
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
