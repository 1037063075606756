package import AegisCore
internal import AegisJSON
package import AegisStore

/// The tables of agents' sessions and of the agents themselves.
package struct SessionStore: Sendable {
    let database: Database

    /// The tables as this release makes them.
    package static let migrations = [
        Migration(
            "agents",
            sql: """
                CREATE TABLE agents (
                    id TEXT PRIMARY KEY, name TEXT NOT NULL, created INTEGER NOT NULL, retired INTEGER,
                    record TEXT NOT NULL
                ) STRICT, WITHOUT ROWID;
                CREATE TABLE agent_steps (
                    agent TEXT NOT NULL, seq INTEGER NOT NULL, time INTEGER NOT NULL, trace TEXT, step TEXT NOT NULL,
                    PRIMARY KEY (agent, seq)
                ) STRICT, WITHOUT ROWID;
                CREATE INDEX agent_steps_trace ON agent_steps (agent, trace);
                """)
    ]

    /// What came later: nothing looked for steps by that index, and each step wrote a page more for it.
    package static let indexMigrations = [
        Migration("agent_steps: no index of traces", sql: "DROP INDEX agent_steps_trace")
    ]

    /// Uses a database that has `migrations` applied.
    package init(_ database: Database) { self.database = database }

    /// A step on its way into the table.
    struct Draft: Sendable {
        /// Its number in its session, from 0.
        var seq: Int
        /// When it happened.
        var time: Timestamp
        /// Of its turn.
        var trace: String?
        /// The turn that it begins; nil for every other step.
        var begins: String?
        /// The step as it is kept.
        var text: String

        init(_ step: SessionStep, at seq: Int, trace: String?, time: Timestamp) {
            self.seq = seq
            self.time = time
            self.trace = trace
            if case .began(let own, _, _) = step { begins = own }
            text = String(decoding: step.json.compact, as: UTF8.self)
        }
    }

    /// Saves steps, all or none (decision D12: they survive `kill -9` once this returns).
    ///
    /// - Parameters:
    ///   - drafts: what happened, in order.
    ///   - agent: whose session it is in.
    ///   - synced: whether it is to survive loss of power as well.
    /// - Throws: what SQLite says; then it has not happened.
    func append(_ drafts: [Draft], of agent: String, synced: Bool = false) throws(AegisError) {
        let durability: Durability = synced ? .synced : .saved
        // Usually one or two rows: one statement, which is its own transaction.
        guard drafts.contains(where: { $0.begins != nil }) || drafts.count > 2 else {
            let sql = drafts.count == 1 ? Self.insertOne : Self.insertTwo
            try database.run(durability, sql, drafts.flatMap { Self.values($0, of: agent) })
            return
        }
        _ = try database.transaction(durability) { t throws(SQLiteError) in
            for draft in drafts {
                _ = try t.run(Self.insertOne, values: Self.values(draft, of: agent))
                // A message is either waiting or worked on, never both and never neither.
                guard let own = draft.begins else { continue }
                _ = try t.run("DELETE FROM agent_mail WHERE agent = ? AND trace = ?", agent, own)
            }
            return drafts.count
        }
    }

    private static let insertOne = "INSERT INTO agent_steps (agent, seq, time, trace, step) VALUES (?, ?, ?, ?, ?)"
    private static let insertTwo = insertOne + ", (?, ?, ?, ?, ?)"

    private static func values(_ draft: Draft, of agent: String) -> [(any SQLiteValue)?] {
        [agent, draft.seq, draft.time.milliseconds, draft.trace, draft.text]
    }

    /// A step with its place.
    package struct Entry: Sendable, Equatable {
        package var seq: Int
        package var time: Timestamp
        package var trace: String?
        package var step: SessionStep
    }

    /// Steps of a session in their order.
    ///
    /// - Parameters:
    ///   - agent: whose.
    ///   - seq: the first of them.
    ///   - limit: how many at most.
    /// - Returns: the steps.
    /// - Throws: `session-unreadable` naming the step that cannot be read; none is left out silently.
    package func steps(of agent: String, from seq: Int = 0, limit: Int = .max) throws(AegisError) -> [Entry] {
        try read("seq >= ?", of: agent, seq, limit: limit)
    }

    /// Steps of one turn, in their order.
    ///
    /// - Throws: as for those of a session.
    package func steps(of agent: String, trace: String) throws(AegisError) -> [Entry] {
        try read("trace = ?", of: agent, trace, limit: .max)
    }

    private func read(
        _ condition: String, of agent: String, _ value: any SQLiteValue, limit: Int
    ) throws(AegisError) -> [Entry] {
        let rows = try database.read { t in
            try t.all(
                "SELECT seq, time, trace, step FROM agent_steps WHERE agent = ? AND \(condition) ORDER BY seq LIMIT ?",
                agent, value, limit
            ) { row throws(SQLiteError) in
                (
                    try row.get(0, as: Int.self), try row.get(1, as: Int64.self), try row.get(2, as: String?.self),
                    try row.get(3, as: String.self)
                )
            }
        }
        var entries: [Entry] = []
        for (seq, time, trace, text) in rows {
            guard let step = try? JSONValue(parsing: text.utf8).decode(SessionStep.self) else {
                throw .failed(
                    "session-unreadable", "step \(seq) of agent \(agent) cannot be read",
                    hint: "it was written by a newer release, or the database was changed; nothing was deleted")
            }
            entries.append(Entry(seq: seq, time: Timestamp(milliseconds: time), trace: trace, step: step))
        }
        return entries
    }

    /// Puts a step in the place of another one, saved.
    ///
    /// - Throws: what SQLite says.
    func replace(_ step: SessionStep, of agent: String, at seq: Int) throws(AegisError) {
        let text = String(decoding: step.json.compact, as: UTF8.self)
        _ = try database.transaction(.saved) { t in
            try t.run("UPDATE agent_steps SET step = ? WHERE agent = ? AND seq = ?", text, agent, seq)
        }
    }

    /// Saves an agent's record, synced.
    package func save(_ id: String, name: String, created: Timestamp, record: String) throws(AegisError) {
        _ = try database.transaction(.synced) { t in
            try t.run(
                "INSERT INTO agents (id, name, created, record) VALUES (?, ?, ?, ?) "
                    + "ON CONFLICT (id) DO UPDATE SET name = excluded.name, record = excluded.record",
                id, name, created.milliseconds, record)
        }
    }

    /// The records of agents that live, oldest first; with `retired` also of those that live no more and are remembered.
    package func records(retired: Bool = false) throws(AegisError) -> [(id: String, record: String)] {
        try database.read { t in
            try t.all("SELECT id, record FROM agents WHERE ? OR retired IS NULL ORDER BY created, id", retired) {
                row throws(SQLiteError) in
                (try row.get(0, as: String.self), try row.get(1, as: String.self))
            }
        }
    }

    /// Whose an agent is that lives or is still remembered; nil when there is none.
    package func owner(of id: String) throws(AegisError) -> UInt32? {
        let record = try database.read { t throws(SQLiteError) in
            try t.first("SELECT record FROM agents WHERE id = ?", id) { row throws(SQLiteError) in
                try row.get(0, as: String.self)
            }
        }
        return record.flatMap { try? JSONValue(parsing: $0.utf8) }?["owner"]?.unsigned.flatMap { UInt32(exactly: $0) }
    }

    /// Says that an agent lives no more. Its session can be looked at until as many others have gone after it.
    ///
    /// - Parameters:
    ///   - id: the agent.
    ///   - time: when.
    ///   - number: how many that live no more are kept.
    /// - Throws: what SQLite says.
    package func retire(_ id: String, at time: Timestamp, keeping number: Int) throws(AegisError) {
        _ = try database.transaction(.saved) { t throws(SQLiteError) in
            _ = try t.run("UPDATE agents SET retired = ? WHERE id = ? AND retired IS NULL", time.milliseconds, id)
            _ = try t.run("DELETE FROM agent_mail WHERE agent = ?", id)
            let old = try t.all(
                "SELECT id FROM agents WHERE retired IS NOT NULL ORDER BY retired DESC, id LIMIT -1 OFFSET ?", number
            ) { row throws(SQLiteError) in try row.get(0, as: String.self) }
            for id in old {
                _ = try t.run("DELETE FROM agent_steps WHERE agent = ?", id)
                _ = try t.run("DELETE FROM agents WHERE id = ?", id)
            }
            return old.count
        }
    }

    /// Removes an agent with its session.
    package func delete(_ id: String) throws(AegisError) {
        _ = try database.transaction(.synced) { t in
            try t.run("DELETE FROM agent_mail WHERE agent = ?", id)
            try t.run("DELETE FROM agent_steps WHERE agent = ?", id)
            return try t.run("DELETE FROM agents WHERE id = ?", id)
        }
    }
}
