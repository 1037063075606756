internal import AegisCore
package import AegisStore

/// The newest head of the ledger in the node's database: a ledger that ends before it was cut.
package struct HeadStore: Sendable {
    /// The table; for the composition root's list of migrations.
    package static let migration = Migration(
        "audit: newest head",
        sql: """
            CREATE TABLE audit_head(id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL) STRICT;
            """)

    private let database: Database

    /// The head in a database.
    package init(_ database: Database) { self.database = database }

    /// The newest head that was kept; nil when none was.
    ///
    /// - Throws: what the database says.
    package func load() throws -> LedgerHead? {
        try database.read { transaction in try Self.head(transaction) }
    }

    /// The newest head in the database of a home, whether a daemon has it open or not, and of whatever release; nil when there
    /// is none.
    ///
    /// - Throws: what the database says.
    package static func peek(_ path: String) throws -> LedgerHead? {
        try Database.peek(path) { transaction in
            let isThere = try transaction.first("SELECT 1 FROM sqlite_master WHERE name = 'audit_head'") { _ in true }
            return isThere == true ? try head(transaction) : nil
        }
    }

    private static func head(_ transaction: borrowing Transaction) throws(SQLiteError) -> LedgerHead? {
        try transaction.first("SELECT seq, hash FROM audit_head") { row throws(SQLiteError) in
            guard let seq = UInt64(exactly: try row.get(0, as: Int64.self)),
                let hash = AuditHash(try row.get(1, as: String.self))
            else { throw row.invalid(1, "it is no head of a ledger") }
            return LedgerHead(seq: seq, hash: hash)
        }
    }

    /// Keeps a head, *saved*.
    ///
    /// - Throws: what the database says.
    package func save(_ head: LedgerHead) throws {
        _ = try database.transaction(.saved) { transaction in
            try transaction.run(
                "INSERT OR REPLACE INTO audit_head(id, seq, hash) VALUES (1, ?, ?)", Int64(clamping: head.seq),
                head.hash.description)
        }
    }
}
