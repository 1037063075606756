package import AegisCore
package import AegisIO
internal import AegisJSON
package import AegisStore
internal import Synchronization

/// What agents remember: records in SQLite, found again by the direction of their vectors.
///
/// Every call names the place that it is about and reaches no other. The calls of one place follow one another, so that the
/// vectors in memory are always those of the table. Changes are saved (decision D12), deletions of an identity synced.
package final class MemoryStore: Sendable {
    /// The tables; for the composition root's list of migrations.
    package static let migration = MemoryRows.migration

    let database: Database
    package let embedder: any Embedder
    package let limits: MemoryLimits
    let cache: VectorCache
    let turns = Turnstile()
    private let pool: BlockingPool
    let now: @Sendable () -> Timestamp
    private let makeID: @Sendable () -> UInt64
    /// Records altogether; nil until they were counted.
    private let total = Mutex<Int?>(nil)

    /// A store over a database that has `migration`.
    ///
    /// - Parameters:
    ///   - database: where records lie.
    ///   - embedder: makes vectors of texts; records of another model are embedded again as queries meet them.
    ///   - limits: what may be kept.
    ///   - pool: where SQLite and the search run.
    ///   - now: the clock that stamps records.
    ///   - makeID: a random number for each new name.
    package init(
        database: Database, embedder: any Embedder = HashedEmbedder(), limits: MemoryLimits = MemoryLimits(),
        pool: BlockingPool = .shared, now: @escaping @Sendable () -> Timestamp = { Timestamp.now() },
        makeID: @escaping @Sendable () -> UInt64 = { UInt64.random(in: 0 ... .max) }
    ) {
        self.database = database
        self.embedder = embedder
        self.limits = limits
        cache = VectorCache(bytes: limits.cacheBytes)
        self.pool = pool
        self.now = now
        self.makeID = makeID
    }

    // MARK: Storing

    /// Remembers something; the longest unused record makes room when the place is full.
    ///
    /// - Parameters:
    ///   - draft: what; with `replaces` the old record goes in the same transaction.
    ///   - place: where.
    ///   - author: the identity that stores it.
    ///   - records: how many the place keeps, if that is not the store's own limit; at most what all places may have.
    ///   - longest: bytes of the longest text, if that is not the store's own limit.
    ///   - payer: who pays for the vector; nil where a person wants it.
    /// - Returns: the new record.
    /// - Throws: `memory-empty`, `memory-too-large`, `memory-not-found` for a record to replace that is not the author's,
    ///   `memory-full`, `embedding-invalid`, what the embedder or the database throws.
    @discardableResult
    package func store(
        _ draft: MemoryDraft, in place: MemoryPlace, by author: String, keeping records: Int? = nil,
        longest: Int? = nil, for payer: EmbeddingPayer? = nil
    ) async throws -> MemoryRecord {
        try check(draft, longest: longest ?? limits.contentBytes)
        let kept = min(records ?? limits.records, limits.totalRecords)
        let vector = try await embedder.unitVectors([draft.content], for: payer)[0]
        let time = now()
        let record = MemoryRecord(
            id: Self.name("m-", makeID()), place: place, author: author, category: draft.category,
            content: draft.content, metadata: draft.metadata, createdAt: time, usedAt: time, replaced: draft.replaces,
            model: embedder.model, dimension: embedder.dimensions)
        try await inTurn(place) { [self] in
            let (seq, removed) = try database.transaction(.saved) { tx in
                try replace(record, vector, keeping: kept, tx)
            }
            count(by: 1 - removed.count)
            cache.change(place) { matrix in
                for old in removed { matrix.remove(old) }
                if matrix.dimension == vector.count { matrix.set(seq, vector, mark: record.category.bit) }
            }
        }
        return record
    }

    private func check(_ draft: MemoryDraft, longest: Int) throws(AegisError) {
        guard draft.content.unicodeScalars.contains(where: { !$0.properties.isWhitespace }) else {
            throw AegisError(.usage, "memory-empty", "there is nothing to remember in an empty text")
        }
        let size = draft.content.utf8.count
        guard size <= longest else {
            throw AegisError(
                .tooLarge, "memory-too-large", "the text has \(size) bytes, a record at most \(longest)",
                hint: "store what matters in several short records, or write a file and remember its path")
        }
        let metadata = JSONValue.object(draft.metadata).compact.count
        guard metadata <= limits.metadataBytes else {
            throw AegisError(
                .tooLarge, "memory-too-large",
                "the metadata has \(metadata) bytes, a record at most \(limits.metadataBytes)")
        }
    }

    /// The old record goes and the new one comes, or neither; then the place is brought back to its size.
    private func replace(
        _ record: MemoryRecord, _ vector: [Float], keeping records: Int, _ tx: borrowing Transaction
    ) throws -> (Int64, [Int64]) {
        var removed: [Int64] = []
        if let old = record.replaced {
            guard let seq = try MemoryRows.remove(old, in: record.place, by: record.author, tx) else {
                throw AegisError.notFound(
                    "memory-not-found", "there is no record '\(old.prefix(100))' of yours to replace",
                    hint: "query for its memory_id first, or store without 'replaces'")
            }
            removed.append(seq)
        }
        removed += try MemoryRows.trim(record.place, to: records - 1, tx)
        guard try counted(tx) - removed.count < limits.totalRecords else {
            throw AegisError(
                .unavailable, "memory-full",
                "all agents together have \(limits.totalRecords) records, which is the limit",
                hint: "delete records that are not needed, or reset an identity that is not used any more")
        }
        return (try MemoryRows.insert(record, vector: vector, tx), removed)
    }

    /// How many records there are, counted once and kept up to date from then on.
    private func counted(_ tx: borrowing Transaction) throws -> Int {
        if let known = total.withLock({ $0 }) { return known }
        let found =
            try tx.first("SELECT count(*) FROM memories") { row throws(SQLiteError) in try row.get(0, as: Int.self) }
            ?? 0
        total.withLock { $0 = found }
        return found
    }

    func count(by change: Int) { total.withLock { total in total = total.map { $0 + change } } }

    // MARK: Deleting

    /// Forgets one record; a second time changes nothing.
    ///
    /// - Parameters:
    ///   - id: which.
    ///   - place: where it must be.
    ///   - author: whose it must be; nil for a person who may delete any.
    /// - Returns: whether there was one.
    /// - Throws: what the database throws.
    @discardableResult
    package func delete(_ id: String, in place: MemoryPlace, by author: String?) async throws -> Bool {
        try await inTurn(place) { [self] in
            let removed = try database.transaction(.saved) { tx in
                try MemoryRows.remove(id, in: place, by: author, tx)
            }
            guard let removed else { return false }
            count(by: -1)
            cache.change(place) { $0.remove(removed) }
            return true
        }
    }

    // MARK: Turns

    /// Runs a body on the pool when no other call is in that place.
    func inTurn<T: Sendable>(
        _ place: MemoryPlace, _ body: @escaping @Sendable () throws -> T
    ) async throws -> T {
        await turns.enter(place.description)
        defer { turns.leave(place.description) }
        return try await pool.run(body)
    }

    /// Runs a body on the pool.
    func blocking<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
        try await pool.run(body)
    }

    /// A random name.
    func newIdentity() -> String { Self.name("agent-", makeID()) }

    private static func name(_ prefix: String, _ number: UInt64) -> String {
        let digits = String(number, radix: 16)
        return prefix + String(repeating: "0", count: 16 - digits.utf8.count) + digits
    }
}
