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

    /// The steps in an order in which what comes next is at the end of what is there.
    ///
    /// `place` is the session's number and, in its lower 32 bits, the step's. Sessions are numbered as they begin, and no number is
    /// used twice: the steps of the newest ones are the end of the table, where a row more seldom touches more than one page.
    /// Keyed by the agents' random ids they were in its middle, and each full page was shared out anew among its neighbours.
    package static let placeMigrations = [
        Migration(
            "agent_steps: by the sessions' numbers",
            sql: """
                CREATE TABLE agent_sessions (number INTEGER PRIMARY KEY AUTOINCREMENT, agent TEXT NOT NULL UNIQUE) STRICT;
                INSERT INTO agent_sessions (agent)
                    SELECT agent FROM agent_steps GROUP BY agent ORDER BY min(time), agent;
                ALTER TABLE agent_steps RENAME TO agent_steps_by_id;
                CREATE TABLE agent_steps (
                    place INTEGER PRIMARY KEY, time INTEGER NOT NULL, trace TEXT, step TEXT NOT NULL
                ) STRICT;
                INSERT INTO agent_steps (place, time, trace, step)
                    SELECT (number << 32) + seq, time, trace, step
                    FROM agent_steps_by_id JOIN agent_sessions USING (agent) ORDER BY number, seq;
                DROP TABLE agent_steps_by_id;
                """)
    ]

    /// Uses a database that has `migrations` applied, and those that came later.
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

    /// Where the steps of an agent are.
    struct Place: Sendable {
        let agent: String
        /// The number of its session; nil until a step of it was saved through this value.
        fileprivate var number: Int64?

        init(of agent: String) { self.agent = agent }
    }

    /// Saves steps, all or none (decision D12: they survive `kill -9` once this returns).
    ///
    /// - Parameters:
    ///   - drafts: what happened, in order.
    ///   - place: the session that it is in.
    ///   - synced: whether it is to survive loss of power as well.
    /// - Throws: what SQLite says; then it has not happened.
    func append(_ drafts: [Draft], to place: inout Place, synced: Bool = false) throws(AegisError) {
        let durability: Durability = synced ? .synced : .saved
        // Usually one or two rows: one statement, which is its own transaction.
        if let number = place.number, drafts.count <= 2, !drafts.contains(where: { $0.begins != nil }) {
            let sql = drafts.count == 1 ? Self.insertOne : Self.insertTwo
            var values: [(any SQLiteValue)?] = []
            values.reserveCapacity(4 * drafts.count)
            for draft in drafts { Self.add(draft, number, to: &values) }
            try database.run(durability, sql, values)
            return
        }
        let (agent, known) = (place.agent, place.number)
        place.number = try database.transaction(durability) { t throws(SQLiteError) in
            let number: Int64
            if let known { number = known } else { number = try Self.number(of: agent, t) }
            for draft in drafts {
                var values: [(any SQLiteValue)?] = []
                Self.add(draft, number, to: &values)
                _ = try t.run(Self.insertOne, values: values)
                // A message is either waiting or worked on, never both and never neither.
                guard let own = draft.begins else { continue }
                _ = try t.run("DELETE FROM agent_mail WHERE agent = ? AND trace = ?", agent, own)
            }
            return number
        }
    }

    /// The number of an agent's session, which begins when there is none.
    private static func number(of agent: String, _ t: borrowing Transaction) throws(SQLiteError) -> Int64 {
        let known = try t.first("SELECT number FROM agent_sessions WHERE agent = ?", agent) { row throws(SQLiteError) in
            try row.get(0, as: Int64.self)
        }
        if let known { return known }
        _ = try t.run("INSERT INTO agent_sessions (agent) VALUES (?)", agent)
        return t.lastInsertedRow
    }

    private static let insertOne = "INSERT INTO agent_steps (place, time, trace, step) VALUES (?, ?, ?, ?)"
    private static let insertTwo = insertOne + ", (?, ?, ?, ?)"

    private static func add(_ draft: Draft, _ number: Int64, to values: inout [(any SQLiteValue)?]) {
        values.append(number << 32 + Int64(draft.seq))
        values.append(draft.time.milliseconds)
        values.append(draft.trace)
        values.append(draft.text)
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
        try read("place >= (number << 32) + ?", of: agent, seq, limit: limit)
    }

    /// Steps of one turn, in their order.
    ///
    /// - Throws: as for those of a session.
    package func steps(of agent: String, trace: String) throws(AegisError) -> [Entry] {
        try read("trace = ?", of: agent, trace, limit: .max)
    }

    /// Which steps are those of a session.
    private static let isOwn = "place BETWEEN number << 32 AND (number << 32) + 0xffffffff"

    private func read(
        _ condition: String, of agent: String, _ value: any SQLiteValue, limit: Int
    ) throws(AegisError) -> [Entry] {
        let rows = try database.read { t in
            try t.all(
                """
                SELECT place & 0xffffffff, time, trace, step
                FROM agent_sessions JOIN agent_steps ON \(Self.isOwn) AND \(condition)
                WHERE agent = ? ORDER BY place LIMIT ?
                """, value, agent, limit
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
            try t.run(
                "UPDATE agent_steps SET step = ? WHERE place = ? + (SELECT number << 32 FROM agent_sessions WHERE agent = ?)",
                text, seq, agent)
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
                try Self.deleteSteps(of: id, t)
                _ = try t.run("DELETE FROM agents WHERE id = ?", id)
            }
            return old.count
        }
    }

    /// Removes an agent with its session.
    package func delete(_ id: String) throws(AegisError) {
        _ = try database.transaction(.synced) { t in
            try t.run("DELETE FROM agent_mail WHERE agent = ?", id)
            try Self.deleteSteps(of: id, t)
            return try t.run("DELETE FROM agents WHERE id = ?", id)
        }
    }

    private static func deleteSteps(of agent: String, _ t: borrowing Transaction) throws(SQLiteError) {
        let number = "SELECT number << 32 FROM agent_sessions WHERE agent = ?1"
        _ = try t.run("DELETE FROM agent_steps WHERE place BETWEEN (\(number)) AND (\(number)) + 0xffffffff", agent)
        _ = try t.run("DELETE FROM agent_sessions WHERE agent = ?", agent)
    }
}
