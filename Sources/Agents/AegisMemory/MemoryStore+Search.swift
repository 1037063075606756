internal import AegisCore
internal import AegisIO
internal import AegisStore

extension MemoryStore {
    /// A record of another model, to be embedded again.
    private struct Stale: Sendable {
        var seq: Int64
        var content: String
        var mark: UInt8
    }

    /// Finds the records of a place whose vectors are nearest to the query's, and marks them as used.
    ///
    /// - Parameters:
    ///   - query: what is looked for.
    ///   - place: where.
    ///   - payer: who pays for vectors, those of records that another model has embedded among them; nil where a person asks.
    /// - Returns: the best first; how many records could not be compared.
    /// - Throws: `memory-empty`, `memory-too-large`, `memory-limit`, `embedding-invalid`, what the embedder or the database
    ///   throws.
    package func query(
        _ query: MemoryQuery, in place: MemoryPlace, for payer: EmbeddingPayer? = nil
    ) async throws -> MemoryAnswer {
        guard query.text.unicodeScalars.contains(where: { !$0.properties.isWhitespace }) else {
            throw AegisError(
                .usage, "memory-empty", "the query is empty", hint: "say in a few words what is looked for")
        }
        guard query.text.utf8.count <= limits.queryBytes else {
            throw AegisError(
                .tooLarge, "memory-too-large",
                "the query has \(query.text.utf8.count) bytes, at most \(limits.queryBytes) are searched for")
        }
        guard (1...limits.results).contains(query.limit) else {
            throw AegisError(
                .usage, "memory-limit", "\(query.limit) results cannot be had", hint: "ask for 1 to \(limits.results)")
        }
        let vector = try await embedder.unitVectors([query.text], for: payer)[0]
        let skipped = try await embedAgain(place, for: payer)
        let mask = query.category?.bit ?? 0xff
        return try await inTurn(place) { [self] in
            let hits = try matrix(place).nearest(to: vector, limit: query.limit, mask: mask)
            return MemoryAnswer(matches: try use(hits, place), skipped: skipped)
        }
    }

    /// The vectors of a place: those in memory, or read from the table.
    private func matrix(_ place: MemoryPlace) throws -> VectorMatrix {
        if let matrix = cache.matrix(place), matrix.dimension == embedder.dimensions { return matrix }
        let matrix = try database.read { tx in
            var matrix = VectorMatrix(dimension: embedder.dimensions, expecting: try count(of: place, tx))
            try tx.each(
                """
                SELECT seq, category, embedding FROM memories
                WHERE owner = ? AND scope = ? AND model = ? AND dimension = ?
                """, place.owner, place.scope, embedder.model, embedder.dimensions
            ) { row throws(SQLiteError) in
                guard let category = MemoryCategory(rawValue: try row.get(1)) else {
                    throw row.invalid(1, "it is no category")
                }
                guard let vector = MemoryRows.vector(try row.get(2), dimension: embedder.dimensions) else {
                    throw row.invalid(2, "it has not the length that is recorded")
                }
                matrix.set(try row.get(0), vector, mark: category.bit)
                return true
            }
            return matrix
        }
        cache.keep(matrix, of: place)
        return matrix
    }

    /// Reads the records of what was found and marks them as used, in one transaction.
    private func use(_ hits: [VectorMatrix.Hit], _ place: MemoryPlace) throws -> [MemoryMatch] {
        guard !hits.isEmpty else { return [] }
        let time = now()
        return try database.transaction(.saved) { tx in
            try hits.compactMap { hit in
                let found = try tx.first(
                    """
                    UPDATE memories SET used_at = max(used_at, ?) WHERE seq = ? AND owner = ? AND scope = ?
                    RETURNING \(MemoryRows.columns)
                    """, time.milliseconds, hit.key, place.owner, place.scope, map: MemoryRows.record)
                return found.map { MemoryMatch(record: $0.record, score: min(1, max(0, Double(hit.score)))) }
            }
        }
    }

    /// Who searches can pay for no other vectors than that of the query.
    private static let unpaid: Set = ["budget-exceeded", "budget-needs-price"]

    /// Embeds some of the records that another model has embedded, as far as the payer can pay for them; what was embedded when a
    /// provider fails is kept, too.
    ///
    /// - Returns: how many are left.
    private func embedAgain(_ place: MemoryPlace, for payer: EmbeddingPayer?) async throws -> Int {
        let (stale, count) = try await blocking { [self] in try findStale(place) }
        guard !stale.isEmpty else { return 0 }
        var done = 0
        do {
            try await embedder.unitVectors(stale.map(\.content), for: payer) { vectors in
                // Kept at once: it is paid for, whatever becomes of the rest.
                try await write(vectors, of: Array(stale[done..<done + vectors.count]), place)
                done += vectors.count
            }
        } catch {
            guard let code = (error as? AegisError)?.code, Self.unpaid.contains(code) else { throw error }
            // The query has its own vector, which is paid for: it is answered from what can be compared.
        }
        return count - done
    }

    /// Gives records the vectors of the model that there is now.
    private func write(_ vectors: [[Float]], of stale: [Stale], _ place: MemoryPlace) async throws {
        try await inTurn(place) { [self] in
            let written = try database.transaction(.saved) { tx in
                var written: [Int] = []
                for (index, old) in stale.enumerated() {
                    // It may have been deleted or embedded meanwhile.
                    let changed = try tx.run(
                        """
                        UPDATE memories SET model = ?, dimension = ?, embedding = ?
                        WHERE seq = ? AND owner = ? AND scope = ? AND content = ?
                        """, embedder.model, embedder.dimensions, MemoryRows.blob(vectors[index]), old.seq,
                        place.owner, place.scope, old.content)
                    if changed > 0 { written.append(index) }
                }
                return written
            }
            cache.change(place) { matrix in
                guard matrix.dimension == embedder.dimensions else { return }
                for index in written { matrix.set(stale[index].seq, vectors[index], mark: stale[index].mark) }
            }
        }
    }

    private func findStale(_ place: MemoryPlace) throws -> ([Stale], Int) {
        try database.read { tx in
            // When the matrix in memory has all of the place, nothing is stale: what is counted is an index.
            guard cache.count(place) != (try count(of: place, tx)) else { return ([], 0) }
            let count =
                try tx.first(
                    "SELECT count(*) FROM memories WHERE owner = ? AND scope = ? AND (model <> ? OR dimension <> ?)",
                    place.owner, place.scope, embedder.model, embedder.dimensions
                ) { row throws(SQLiteError) in try row.get(0, as: Int.self) } ?? 0
            guard count > 0 else { return ([], 0) }
            let found = try tx.all(
                """
                SELECT seq, content, category FROM memories
                WHERE owner = ? AND scope = ? AND (model <> ? OR dimension <> ?) ORDER BY used_at DESC LIMIT ?
                """, place.owner, place.scope, embedder.model, embedder.dimensions, limits.reembedded
            ) { row throws(SQLiteError) in
                Stale(
                    seq: try row.get(0), content: try row.get(1),
                    mark: MemoryCategory(rawValue: try row.get(2))?.bit ?? 0)
            }
            return (found, count)
        }
    }

    private func count(of place: MemoryPlace, _ tx: borrowing Transaction) throws(SQLiteError) -> Int {
        try tx.first("SELECT count(*) FROM memories WHERE owner = ? AND scope = ?", place.owner, place.scope) {
            row throws(SQLiteError) in try row.get(0, as: Int.self)
        } ?? 0
    }
}
