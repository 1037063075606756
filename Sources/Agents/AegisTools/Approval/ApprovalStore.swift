internal import AegisCore
internal import AegisJSON
package import AegisStore

extension ApprovalQueue {
    /// The tables of the queue.
    package static let migrations = [
        Migration(
            "tools: approvals",
            sql: """
                CREATE TABLE approvals (
                    id TEXT PRIMARY KEY, agent TEXT NOT NULL, agent_name TEXT NOT NULL, trace TEXT NOT NULL,
                    step INTEGER NOT NULL, call_id TEXT NOT NULL, door TEXT NOT NULL, tool TEXT NOT NULL,
                    grant_id TEXT NOT NULL, input TEXT NOT NULL, input_hash TEXT NOT NULL, preview TEXT NOT NULL,
                    facts TEXT NOT NULL, resource TEXT, state TEXT NOT NULL, requested_at INTEGER NOT NULL,
                    expires_at INTEGER NOT NULL, answered_at INTEGER, uid INTEGER, answer_door TEXT, reason TEXT,
                    used INTEGER NOT NULL DEFAULT 0) STRICT;
                CREATE INDEX approvals_open ON approvals (agent, state);
                CREATE INDEX approvals_call ON approvals (agent, call_id);
                CREATE TABLE approval_memory (
                    agent TEXT NOT NULL, tool TEXT NOT NULL, resource TEXT NOT NULL, uid INTEGER NOT NULL,
                    PRIMARY KEY (agent, tool, resource)) STRICT;
                """)
    ]

    /// Whose child the agent is; what was asked before has none.
    package static let parentMigrations = [
        Migration("tools: parents of who asks", sql: "ALTER TABLE approvals ADD COLUMN parent TEXT")
    ]
}

/// The rows of the queue.
struct ApprovalRows: ~Copyable {
    private static let columns = """
        id, agent, agent_name, trace, step, call_id, door, tool, grant_id, input, input_hash, preview, facts, resource,
        state, requested_at, expires_at, answered_at, uid, answer_door, reason, parent
        """
    /// Closed requests that are kept.
    private static let mostClosed = 2000

    static func insert(_ record: ApprovalRecord, _ db: borrowing Transaction) throws {
        let request = record.request
        let facts = JSONValue.object(
            request.preview.facts.sorted { $0.key < $1.key }.map { JSONValue.Field($0.key, .string($0.value)) })
        try db.run(
            "INSERT INTO approvals (\(columns)) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,NULL,NULL,NULL,NULL,?)",
            record.id, request.agent, request.agentName, request.trace, request.step, request.callID, request.door,
            request.tool, request.grant, text(request.input), request.inputHash, request.preview.text, text(facts),
            request.preview.resource, record.state.rawValue, record.requestedAt.milliseconds,
            record.expiresAt.milliseconds, request.parent)
        try db.run(
            """
            DELETE FROM approvals WHERE id IN (SELECT id FROM approvals WHERE state <> 'open'
                ORDER BY requested_at DESC LIMIT -1 OFFSET \(mostClosed))
            """)
    }

    static func close(_ record: ApprovalRecord, _ db: borrowing Transaction) throws {
        try db.run(
            "UPDATE approvals SET state = ?, answered_at = ?, uid = ?, answer_door = ?, reason = ? WHERE id = ?",
            record.state.rawValue, record.answeredAt?.milliseconds, record.approver.map { Int64($0.uid) },
            record.approver?.door, record.reason, record.id)
    }

    static func get(_ id: String, _ db: borrowing Transaction) throws -> ApprovalRecord? {
        try db.first("SELECT \(columns) FROM approvals WHERE id = ?", id, map: read)
    }

    static func open(_ db: borrowing Transaction) throws -> [ApprovalRecord] {
        try db.all(
            "SELECT \(columns) FROM approvals WHERE state = 'open' ORDER BY requested_at, rowid", map: read)
    }

    static func open(of agent: String, _ db: borrowing Transaction) throws -> [ApprovalRecord] {
        try db.all(
            "SELECT \(columns) FROM approvals WHERE agent = ? AND state = 'open' ORDER BY requested_at, rowid", agent,
            map: read)
    }

    /// The newest request of a call whose answer nobody took yet.
    static func pending(_ request: ApprovalRequest, _ db: borrowing Transaction) throws -> ApprovalRecord? {
        try db.first(
            """
            SELECT \(columns) FROM approvals WHERE agent = ? AND call_id = ? AND used = 0
                AND state IN ('open', 'granted', 'denied', 'expired') ORDER BY requested_at DESC, rowid DESC LIMIT 1
            """, request.agent, request.callID, map: read)
    }

    static func markUsed(_ id: String, _ db: borrowing Transaction) throws {
        try db.run("UPDATE approvals SET used = 1 WHERE id = ?", id)
    }

    // MARK: What was agreed to for a session

    static func remember(_ record: ApprovalRecord, _ resource: String, _ db: borrowing Transaction) throws {
        try db.run(
            "INSERT OR REPLACE INTO approval_memory (agent, tool, resource, uid) VALUES (?,?,?,?)",
            record.request.agent, record.request.tool, resource, record.approver.map { Int64($0.uid) } ?? 0)
    }

    static func remembered(
        _ request: ApprovalRequest, _ resource: String, _ db: borrowing Transaction
    ) throws -> UInt32? {
        try db.first(
            "SELECT uid FROM approval_memory WHERE agent = ? AND tool = ? AND resource = ?", request.agent,
            request.tool, resource
        ) { row throws(SQLiteError) in UInt32(truncatingIfNeeded: try row.get(0, as: Int64.self)) }
    }

    static func forget(_ agent: String, _ db: borrowing Transaction) throws {
        try db.run("DELETE FROM approval_memory WHERE agent = ?", agent)
    }

    // MARK: Reading

    private static func text(_ value: JSONValue) -> String { String(decoding: value.compact, as: UTF8.self) }

    private static func json(_ row: borrowing Row, _ column: Int) throws(SQLiteError) -> JSONValue {
        let text: String = try row.get(column)
        do throws(JSONError) { return try JSONValue(parsing: Array(text.utf8)) } catch {
            throw row.invalid(column, "\(error)")
        }
    }

    private static func read(_ row: borrowing Row) throws(SQLiteError) -> ApprovalRecord {
        var facts: [String: String] = [:]
        for field in try json(row, 12).fields ?? [] { facts[field.name] = field.value.text }
        let preview = ApprovalPreview(try row.get(11), facts: facts, resource: try row.get(13))
        let request = ApprovalRequest(
            agent: try row.get(1), agentName: try row.get(2), parent: try row.get(21), trace: try row.get(3),
            step: try row.get(4),
            callID: try row.get(5), door: try row.get(6), tool: try row.get(7), grant: try row.get(8),
            input: try json(row, 9), inputHash: try row.get(10), preview: preview)
        guard let state = ApprovalRecord.State(rawValue: try row.get(14)) else {
            throw row.invalid(14, "it is no state")
        }
        let answered: Int64? = try row.get(17)
        let uid: Int64? = try row.get(18)
        let door: String? = try row.get(19)
        return ApprovalRecord(
            id: try row.get(0), request: request, state: state, requestedAt: Timestamp(milliseconds: try row.get(15)),
            expiresAt: Timestamp(milliseconds: try row.get(16)),
            answeredAt: answered.map { Timestamp(milliseconds: $0) },
            approver: uid.flatMap { uid in door.map { Approver(uid: UInt32(truncatingIfNeeded: uid), door: $0) } },
            reason: try row.get(20))
    }
}
