package import AegisCore
package import AegisStore

/// Which skills people have looked at and trust: by the hash of all their files, so that any change asks again. A user's trust
/// counts for that user's agents; that of root and of the daemon's own user for everybody's.
package final class SkillTrust: Sendable {
    /// A trusted skill.
    package struct Entry: Sendable, Equatable {
        package var hash: String
        package var name: String
        /// Who said so, and when.
        package var user: UInt32
        package var trustedAt: Timestamp
    }

    /// The table; for the composition root's list of migrations.
    package static let migration = Migration(
        "skills: trust",
        sql: """
            CREATE TABLE skill_trust(
                hash TEXT NOT NULL, user INTEGER NOT NULL, name TEXT NOT NULL, trusted_at INTEGER NOT NULL,
                PRIMARY KEY (hash, user)
            ) STRICT, WITHOUT ROWID;
            """)

    private let database: Database
    private let administrator: UInt32
    private let now: @Sendable () -> Timestamp

    /// Trust kept in a database that has `migration`. Calls block.
    ///
    /// - Parameters:
    ///   - database: where it is kept.
    ///   - administrator: whose trust counts for everybody, beside root's.
    ///   - now: stamps entries.
    package init(
        database: Database, administrator: UInt32 = 0, now: @escaping @Sendable () -> Timestamp = { Timestamp.now() }
    ) {
        self.database = database
        self.administrator = administrator
        self.now = now
    }

    /// Whether a skill with that hash may be used by a user's agents; no while the database cannot be asked.
    package func isTrusted(_ hash: String, by user: UInt32) -> Bool {
        let found = try? database.read { tx in
            try tx.first(
                "SELECT 1 FROM skill_trust WHERE hash = ? AND user IN (0, ?, ?)", hash, Int64(user),
                Int64(administrator)
            ) { row throws(SQLiteError) in try row.get(0, as: Int.self) }
        }
        return found == .some(1)
    }

    /// Trusts a skill as it is now; synced.
    ///
    /// - Parameters:
    ///   - skill: as it was loaded and shown.
    ///   - user: who says so.
    /// - Throws: what the database throws.
    package func trust(_ skill: Skill, by user: UInt32) throws(AegisError) {
        let time = now()
        _ = try database.transaction(.synced) { tx in
            try tx.run(
                "INSERT OR REPLACE INTO skill_trust(hash, name, user, trusted_at) VALUES (?, ?, ?, ?)", skill.hash,
                skill.name, Int64(user), time.milliseconds)
        }
    }

    /// Trusts nothing of that name any more, whatever its content; synced.
    ///
    /// - Parameters:
    ///   - name: the skill.
    ///   - user: whose trust ends; nil is everybody's.
    /// - Returns: how many were trusted.
    /// - Throws: what the database throws.
    @discardableResult
    package func revoke(_ name: String, by user: UInt32? = nil) throws(AegisError) -> Int {
        let user = user.map { Int64($0) }
        return try database.transaction(.synced) { tx in
            try tx.run("DELETE FROM skill_trust WHERE name = ? AND (? IS NULL OR user = ?)", name, user, user)
        }
    }

    /// What is trusted, by name.
    ///
    /// - Throws: what the database throws.
    package func entries() throws(AegisError) -> [Entry] {
        try database.read { tx in
            try tx.all("SELECT hash, name, user, trusted_at FROM skill_trust ORDER BY name, trusted_at, user") {
                row throws(SQLiteError) in
                let user: Int64 = try row.get(2)
                return Entry(
                    hash: try row.get(0), name: try row.get(1), user: UInt32(truncatingIfNeeded: user),
                    trustedAt: Timestamp(milliseconds: try row.get(3)))
            }
        }
    }
}
