package import AegisCore
internal import AegisStore

/// A place with what is in it, for lists.
package struct MemoryPlaceSummary: Sendable, Equatable {
    package var place: MemoryPlace
    /// How many records.
    package var records: Int
    /// Bytes of their texts.
    package var contentBytes: Int
    /// When one of them was last stored or found.
    package var usedAt: Timestamp
}

/// An agent that keeps its memory from one run to the next.
package struct PersistentIdentity: Sendable, Equatable {
    /// The name that the manifest gives.
    package var name: String
    /// What its records belong to.
    package var identity: String
    package var createdAt: Timestamp
}

extension MemoryStore {
    // MARK: For people

    /// Every place that holds records, the last used first.
    ///
    /// - Throws: what the database throws.
    package func places() async throws -> [MemoryPlaceSummary] {
        try await blocking { [self] in
            try database.read { tx in
                try tx.all(
                    """
                    SELECT owner, scope, count(*), sum(length(CAST(content AS BLOB))), max(used_at) FROM memories
                    GROUP BY owner, scope ORDER BY max(used_at) DESC, owner, scope
                    """
                ) { row throws(SQLiteError) in
                    MemoryPlaceSummary(
                        place: MemoryPlace(owner: try row.get(0), scope: try row.get(1)), records: try row.get(2),
                        contentBytes: try row.get(3), usedAt: Timestamp(milliseconds: try row.get(4)))
                }
            }
        }
    }

    /// The records of a place, the newest first.
    ///
    /// - Parameters:
    ///   - place: which.
    ///   - category: only of this one.
    ///   - before: the id of the last record of the page before; nil for the first page.
    ///   - limit: at most so many, up to 1000.
    /// - Returns: a page; fewer than `limit` when it is the last.
    /// - Throws: what the database throws.
    package func list(
        _ place: MemoryPlace, category: MemoryCategory? = nil, before: String? = nil, limit: Int = 100
    ) async throws -> [MemoryRecord] {
        try await blocking { [self] in
            try database.read { tx in
                try tx.all(
                    """
                    SELECT \(MemoryRows.columns) FROM memories WHERE owner = ? AND scope = ?
                    AND (? IS NULL OR category = ?) AND (? IS NULL OR seq < (SELECT seq FROM memories WHERE id = ?))
                    ORDER BY seq DESC LIMIT ?
                    """, place.owner, place.scope, category?.rawValue, category?.rawValue, before, before,
                    min(1000, max(1, limit)), map: MemoryRows.record
                ).map(\.record)
            }
        }
    }

    /// How many records another model has embedded: a query embeds some of its place again before it compares.
    ///
    /// - Throws: what the database throws.
    package func staleCount() async throws -> Int {
        try await blocking { [self] in
            try database.read { tx in
                try tx.first(
                    "SELECT count(*) FROM memories WHERE model <> ? OR dimension <> ?", embedder.model,
                    embedder.dimensions
                ) { row throws(SQLiteError) in try row.get(0, as: Int.self) } ?? 0
            }
        }
    }

    // MARK: Identities

    /// The identity of an agent that asked to keep its memory from run to run; the first call makes it.
    ///
    /// Only the runtime calls it, for a manifest that says so: an agent cannot choose whose memory it has.
    ///
    /// - Throws: what the database throws.
    package func persistentIdentity(of name: String) async throws -> PersistentIdentity {
        precondition(!name.isEmpty, "an agent has a name")
        let fresh = PersistentIdentity(name: name, identity: newIdentity(), createdAt: now())
        return try await blocking { [self] in
            // Asked for at every call of a tool: what is there is only read.
            let known = try database.read { tx in try identity(of: name, tx) }
            if let known { return known }
            return try database.transaction(.synced) { tx in
                if let known = try identity(of: name, tx) { return known }
                try tx.run(
                    "INSERT INTO memory_identities(name, identity, created_at) VALUES (?, ?, ?)", fresh.name,
                    fresh.identity, fresh.createdAt.milliseconds)
                return fresh
            }
        }
    }

    private func identity(of name: String, _ tx: borrowing Transaction) throws(SQLiteError) -> PersistentIdentity? {
        try tx.first("SELECT identity, created_at FROM memory_identities WHERE name = ?", name) {
            row throws(SQLiteError) in
            PersistentIdentity(
                name: name, identity: try row.get(0), createdAt: Timestamp(milliseconds: try row.get(1)))
        }
    }

    /// The agents that keep their memory.
    ///
    /// - Throws: what the database throws.
    package func persistentIdentities() async throws -> [PersistentIdentity] {
        try await blocking { [self] in
            try database.read { tx in
                try tx.all("SELECT name, identity, created_at FROM memory_identities ORDER BY name") {
                    row throws(SQLiteError) in
                    PersistentIdentity(
                        name: try row.get(0), identity: try row.get(1),
                        createdAt: Timestamp(milliseconds: try row.get(2)))
                }
            }
        }
    }

    /// Forgets everything that belongs to an identity, and the identity itself: its agent starts with a new one.
    ///
    /// What it has put into shared scopes stays there: that is not its own any more.
    ///
    /// - Returns: how many records there were.
    /// - Throws: what the database throws.
    @discardableResult
    package func reset(identity: String) async throws -> Int {
        let place = MemoryPlace.own(identity)
        return try await inTurn(place) { [self] in
            let removed = try database.transaction(.synced) { tx in
                try tx.run("DELETE FROM memory_identities WHERE identity = ?", identity)
                return try tx.run("DELETE FROM memories WHERE owner = ?", identity)
            }
            count(by: -removed)
            cache.drop(place)
            return removed
        }
    }

    /// Forgets the private records of identities that no agent has any more: neither a persistent one nor one of those given.
    ///
    /// For the start of the daemon, which may have been killed before it could reset the identities of agents that had ended.
    ///
    /// - Parameter live: identities of agents that go on.
    /// - Returns: how many records there were.
    /// - Throws: what the database throws.
    @discardableResult
    package func forgetOthers(than live: Set<String>) async throws -> Int {
        let owners = try await blocking { [self] in
            try database.read { tx in
                try tx.all(
                    """
                    SELECT DISTINCT owner FROM memories
                    WHERE owner <> '' AND owner NOT IN (SELECT identity FROM memory_identities)
                    """
                ) { row throws(SQLiteError) in try row.get(0, as: String.self) }
            }
        }
        var removed = 0
        for owner in owners where !live.contains(owner) { removed += try await reset(identity: owner) }
        return removed
    }
}
