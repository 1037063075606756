package import AegisCore
internal import AegisIO

/// What may be asked about the ledger of a running daemon: REST and JSON-RPC call the same.
package struct AuditService: Sendable {
    /// The newest record, for whoever keeps it outside.
    package struct Head: Sendable, Codable {
        /// `SEQ:HASH`
        package var head: String
        /// The number of the record.
        package var seq: UInt64
        /// Its hash.
        package var hash: String
        /// What checks signatures.
        package var key: String
        /// The folder of the segments.
        package var path: String
        /// Why nothing can be recorded now.
        package var obstacle: String?
    }

    /// The ledger.
    package let ledger: Ledger
    private let reader: LedgerReader
    private let heads: HeadStore

    /// Answers for a ledger.
    ///
    /// - Throws: `audit-unreadable`.
    package init(_ ledger: Ledger, heads: HeadStore) throws(AegisError) {
        self.ledger = ledger
        self.heads = heads
        reader = try LedgerReader(path: ledger.path)
    }

    /// The newest record.
    package func head() -> Head {
        let head = ledger.head
        return Head(
            head: head.description, seq: head.seq, hash: head.hash.description, key: ledger.publicKey.description,
            path: ledger.path, obstacle: ledger.obstacle?.message)
    }

    /// The last records that are wanted.
    ///
    /// - Throws: `audit-unreadable`.
    package func tail(_ count: Int, _ filter: AuditFilter) async throws -> LedgerBatch {
        try await BlockingPool.shared.run { [reader] in try reader.tail(count, filter) }
    }

    /// What comes after a place; waits until there is something, or the ledger is closed or the task cancelled.
    ///
    /// - Throws: `audit-unreadable`.
    package func next(_ cursor: LedgerCursor, _ filter: AuditFilter) async throws -> LedgerBatch {
        await ledger.wait(after: cursor.seq)
        return try await BlockingPool.shared.run { [reader] in try reader.next(cursor, filter) }
    }

    /// The place behind a record; nil is the newest.
    ///
    /// - Throws: `audit-unreadable`.
    package func cursor(after seq: UInt64?) async throws -> LedgerCursor {
        try await BlockingPool.shared.run { [reader] in try reader.cursor(after: seq) }
    }

    /// What is behind a place now; nothing is waited for.
    ///
    /// - Throws: `audit-unreadable`.
    package func more(_ cursor: LedgerCursor, _ filter: AuditFilter) async throws -> LedgerBatch {
        try await BlockingPool.shared.run { [reader] in try reader.next(cursor, filter) }
    }

    /// Checks all of it, against the head in the database and others that the caller knows.
    ///
    /// - Throws: `audit-unreadable`.
    package func verify(heads known: [LedgerHead]) async throws -> VerifyReport {
        // So that what is there now is signed when it is read.
        let (heads, ledger) = (heads, ledger)
        return try await BlockingPool.shared.run {
            _ = try? ledger.checkpoint()
            let own = try heads.load()
            return try LedgerVerifier(
                path: ledger.path, keys: [ledger.publicKey], heads: known + [own].compactMap(\.self)
            ).verify()
        }
    }
}
