internal import AegisCore
internal import AegisJSON
internal import AegisStore

/// The tables, and the statements on them. Every statement on records names the place: none can reach another's.
enum MemoryRows {
    static let migration = Migration(
        "memory: records and identities",
        sql: """
            CREATE TABLE memories(
                seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, scope TEXT NOT NULL,
                author TEXT NOT NULL, category TEXT NOT NULL, content TEXT NOT NULL, metadata TEXT NOT NULL,
                created_at INTEGER NOT NULL, used_at INTEGER NOT NULL, replaced TEXT,
                model TEXT NOT NULL, dimension INTEGER NOT NULL, embedding BLOB NOT NULL
            ) STRICT;
            CREATE INDEX memories_by_place ON memories(owner, scope, used_at, seq);
            CREATE TABLE memory_identities(
                name TEXT PRIMARY KEY, identity TEXT NOT NULL UNIQUE, created_at INTEGER NOT NULL
            ) STRICT, WITHOUT ROWID;
            """)

    static let columns =
        "seq, id, owner, scope, author, category, content, metadata, created_at, used_at, replaced, model, dimension"

    /// A record with its place in the table.
    struct Numbered: Sendable {
        var seq: Int64
        var record: MemoryRecord
    }

    /// Reads a row of `columns`. A row that cannot be read is an error, never a guess.
    static func record(_ row: borrowing Row) throws(SQLiteError) -> Numbered {
        let word = try row.get(5, as: String.self)
        guard let category = MemoryCategory(rawValue: word) else { throw row.invalid(5, "'\(word)' is no category") }
        let text = try row.get(7, as: String.self)
        guard let metadata = try? JSONValue(parsing: text.utf8) else { throw row.invalid(7, "it is not JSON") }
        return Numbered(
            seq: try row.get(0),
            record: MemoryRecord(
                id: try row.get(1), place: MemoryPlace(owner: try row.get(2), scope: try row.get(3)),
                author: try row.get(4), category: category, content: try row.get(6), metadata: metadata.fields ?? [],
                createdAt: Timestamp(milliseconds: try row.get(8)), usedAt: Timestamp(milliseconds: try row.get(9)),
                replaced: try row.get(10), model: try row.get(11), dimension: try row.get(12)))
    }

    static func insert(
        _ record: MemoryRecord, vector: [Float], _ tx: borrowing Transaction
    ) throws(SQLiteError) -> Int64 {
        try tx.run(
            """
            INSERT INTO memories(id, owner, scope, author, category, content, metadata, created_at, used_at, replaced,
            model, dimension, embedding) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            record.id, record.place.owner, record.place.scope, record.author, record.category.rawValue, record.content,
            String(decoding: JSONValue.object(record.metadata).compact, as: UTF8.self), record.createdAt.milliseconds,
            record.usedAt.milliseconds, record.replaced, record.model, record.dimension, blob(vector))
        return tx.lastInsertedRow
    }

    /// Removes a record of that author, or of anybody for nil.
    ///
    /// - Returns: its number; nil when there is none.
    static func remove(
        _ id: String, in place: MemoryPlace, by author: String?, _ tx: borrowing Transaction
    ) throws(SQLiteError) -> Int64? {
        try tx.first(
            """
            DELETE FROM memories WHERE id = ? AND owner = ? AND scope = ? AND (? IS NULL OR author = ?)
            RETURNING seq
            """, id, place.owner, place.scope, author, author
        ) { row throws(SQLiteError) in try row.get(0, as: Int64.self) }
    }

    /// Removes the longest unused records of a place beyond a number.
    static func trim(
        _ place: MemoryPlace, to limit: Int, _ tx: borrowing Transaction
    ) throws(SQLiteError) -> [Int64] {
        let count =
            try tx.first("SELECT count(*) FROM memories WHERE owner = ? AND scope = ?", place.owner, place.scope) {
                row throws(SQLiteError) in try row.get(0, as: Int.self)
            } ?? 0
        guard count > limit else { return [] }
        return try tx.all(
            """
            DELETE FROM memories WHERE seq IN (SELECT seq FROM memories WHERE owner = ? AND scope = ?
            ORDER BY used_at, seq LIMIT ?) RETURNING seq
            """, place.owner, place.scope, count - limit
        ) { row throws(SQLiteError) in try row.get(0, as: Int64.self) }
    }

    /// Little-endian, as on every machine that we run on.
    static func blob(_ vector: [Float]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(vector.count * 4)
        for number in vector {
            let bits = number.bitPattern
            for shift: UInt32 in [0, 8, 16, 24] { bytes.append(UInt8(truncatingIfNeeded: bits >> shift)) }
        }
        return bytes
    }

    /// The numbers of a blob; nil when it has not the length that is recorded.
    static func vector(_ blob: [UInt8], dimension: Int) -> [Float]? {
        guard blob.count == dimension * 4 else { return nil }
        return (0..<dimension).map { index in
            var bits: UInt32 = 0
            for byte in 0..<4 { bits |= UInt32(blob[index * 4 + byte]) << UInt32(8 * byte) }
            return Float(bitPattern: bits)
        }
    }
}
