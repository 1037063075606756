package import AegisCapabilities
package import AegisCore
internal import AegisJSON
package import AegisStore
internal import Synchronization

/// The grants of agents, so that what was revoked stays revoked and what was used stays used over a restart of the daemon.
///
/// It stands before another journal and passes everything on to it. Grants and revocations are synced before they are
/// acknowledged, uses are saved (decision D12). Grants of other holders are not kept here: instances' come from their records.
/// What those use that were derived from an agent's counts at the agent's.
package final class GrantStore: GrantJournal {
    private let database: Database
    private let next: any GrantJournal
    /// The grants that are kept, as they stand.
    private let kept: Mutex<GrantSnapshot>
    /// Of grants that are not kept, the kept one that each was derived from.
    private let origins = Mutex<[GrantID: GrantID]>([:])
    /// What the other journal knows to be taken back while it is not kept here yet: it is not told of each try.
    private let told = Mutex<Set<GrantID>>([])

    /// The table as this release makes it.
    package static let migrations = [
        Migration(
            "agent_grants",
            sql: "CREATE TABLE agent_grants (id TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT, WITHOUT ROWID")
    ]

    /// Reads what is kept.
    ///
    /// - Throws: `grants-unreadable` when a grant cannot be read: nothing is allowed on a guess.
    package init(_ database: Database, before next: any GrantJournal) throws(AegisError) {
        self.database = database
        self.next = next
        let texts = try database.read { t throws(SQLiteError) in
            try t.all("SELECT record FROM agent_grants ORDER BY id") { row throws(SQLiteError) in
                try row.get(0, as: String.self)
            }
        }
        var snapshot = GrantSnapshot()
        for text in texts {
            do { snapshot.apply(.issued([try JSONValue(parsing: text.utf8).decode(GrantRecord.self)])) } catch {
                throw .failed(
                    "grants-unreadable", "a grant of an agent cannot be read: \(error)",
                    hint: "it was written by a newer release, or the database was changed")
            }
        }
        kept = Mutex(snapshot)
    }

    /// What a book starts with.
    package var snapshot: GrantSnapshot { kept.withLock { $0 } }

    /// Whose grants are kept: agents', whose ids begin so.
    private static func isKept(_ holder: HolderID) -> Bool { holder.description.hasPrefix("a-") }

    package func record(_ event: GrantEvent, action: Action?) throws(AegisError) {
        if case .revoked(let ids, let time, let reason) = event { return try revoke(ids, at: time, reason) }
        try next.record(event, action: action)
        switch event {
        case .revoked: break
        case .issued(let records):
            let own = records.filter { Self.isKept($0.holder) }
            note(records.filter { !Self.isKept($0.holder) })
            guard !own.isEmpty else { return }
            try change(.issued(own), own.map(\.id), .synced)
        case .recalled(let id, _, _): try change(event, [id], .saved)
        case .charged(let id, let calls, let amounts, let time):
            let id = origin(id)
            try change(.charged(id, calls: calls, amounts: amounts, at: time), [id], .saved)
        case .settled(let id, let reserved, let used):
            let id = origin(id)
            try change(.settled(id, reserved: reserved, used: used), [id], .saved)
        case .refunded(let id, let reserved, let time):
            let id = origin(id)
            try change(.refunded(id, reserved: reserved, chargedAt: time), [id], .saved)
        case .forgotten(let ids):
            origins.withLock { origins in for id in ids { origins[id] = nil } }
            try change(event, ids, .saved)
        }
    }

    private func revoke(_ ids: [GrantID], at time: Timestamp, _ reason: String) throws(AegisError) {
        let news = told.withLock { told in ids.filter { !told.contains($0) } }
        if !news.isEmpty { try next.record(.revoked(news, at: time, reason: reason), action: nil) }
        told.withLock { $0.formUnion(news) }
        try change(.revoked(ids, at: time, reason: reason), ids, .synced)
        told.withLock { $0.subtract(ids) }
    }

    /// Remembers from which kept grants others were derived: those of an agent's sandbox use up the agent's.
    private func note(_ records: [GrantRecord]) {
        guard records.contains(where: { $0.parent != nil }) else { return }
        let known = kept.withLock { kept in Set(records.compactMap(\.parent).filter { kept.record($0) != nil }) }
        origins.withLock { origins in
            for record in records {
                guard let parent = record.parent else { continue }
                origins[record.id] = known.contains(parent) ? parent : origins[parent]
            }
        }
    }

    /// Where a use is counted: at the grant itself, or at the kept one that it was derived from.
    private func origin(_ id: GrantID) -> GrantID { origins.withLock { $0[id] ?? id } }

    package func denied(_ action: Action, by holder: HolderID, _ denial: Denial, at time: Timestamp) {
        next.denied(action, by: holder, denial, at: time)
    }

    /// Applies an event to what is kept, and saves the grants that it changed with those that they came from. What cannot be
    /// saved stays counted here: too much rather than too little.
    private func change(_ event: GrantEvent, _ ids: [GrantID], _ durability: Durability) throws(AegisError) {
        try kept.withLock { kept throws(AegisError) in
            // Numbers that nothing limits are for showing only, and not worth a write each.
            if durability == .saved, !Self.isForgetting(event), !ids.contains(where: { kept.isLimited($0) }) {
                return kept.apply(event)
            }
            var line = Self.line(of: ids, in: kept)
            kept.apply(event)
            line.formUnion(Self.line(of: ids, in: kept))
            var rows: [(id: String, record: String?)] = []
            for id in line {
                let json: JSONValue?
                do { json = try kept.record(id).map { try JSONValue(encoding: $0) } } catch {
                    throw .failed("internal-error", "a grant cannot be written: \(error)")
                }
                rows.append(("\(id)", json.map { String(decoding: $0.compact, as: UTF8.self) }))
            }
            try write(rows, durability)
        }
    }

    private static func isForgetting(_ event: GrantEvent) -> Bool { if case .forgotten = event { true } else { false } }

    /// Grants that are kept, with all that they were derived from.
    private static func line(of ids: [GrantID], in kept: GrantSnapshot) -> Set<GrantID> {
        var line: Set<GrantID> = []
        for id in ids {
            var next = kept.record(id)
            while let record = next, line.insert(record.id).inserted {
                next = record.parent.flatMap { kept.record($0) }
            }
        }
        return line
    }

    private func write(_ rows: [(id: String, record: String?)], _ durability: Durability) throws(AegisError) {
        guard !rows.isEmpty else { return }
        _ = try database.transaction(durability) { t throws(SQLiteError) in
            for row in rows {
                if let record = row.record {
                    _ = try t.run("INSERT OR REPLACE INTO agent_grants (id, record) VALUES (?, ?)", row.id, record)
                } else {
                    _ = try t.run("DELETE FROM agent_grants WHERE id = ?", row.id)
                }
            }
            return rows.count
        }
    }
}
