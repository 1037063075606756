internal import AegisConfig
package import AegisCore
package import AegisStore

/// Manifests that were deployed, by name: what `agent.spawn` and goals may name instead of a text.
package struct ManifestStore: Sendable {
    private let database: Database

    /// The table as this release makes it.
    package static let migrations = [
        Migration(
            "agent_manifests",
            sql: """
                CREATE TABLE agent_manifests (
                    name TEXT NOT NULL, owner INTEGER NOT NULL, text TEXT NOT NULL, prompt TEXT NOT NULL, deployed INTEGER NOT NULL,
                    PRIMARY KEY (owner, name)
                ) STRICT, WITHOUT ROWID
                """)
    ]

    /// Uses a database that has `migrations` applied.
    package init(_ database: Database) { self.database = database }

    /// A deployed manifest.
    package struct Entry: Sendable, Hashable {
        package var name: String
        package var owner: UInt32
        package var text: String
        /// Its prompt, which a file may have had when it was deployed.
        package var prompt: String
        package var deployed: Timestamp

        /// Makes an entry.
        package init(name: String, owner: UInt32, text: String, prompt: String, deployed: Timestamp) {
            self.name = name
            self.owner = owner
            self.text = text
            self.prompt = prompt
            self.deployed = deployed
        }

        /// The manifest, as it was then.
        package func manifest() throws(AegisError) -> AgentManifest {
            let prompt = prompt
            return try AgentManifest(ConfigFile(name: name, bytes: Array(text.utf8))) { _ in prompt }
        }
    }

    /// Keeps a manifest under its name, synced.
    ///
    /// - Returns: whether another one of that name was replaced.
    package func deploy(_ entry: Entry) throws(AegisError) -> Bool {
        try database.transaction(.synced) { t throws(SQLiteError) in
            let isThere =
                try t.first(
                    "SELECT 1 FROM agent_manifests WHERE owner = ? AND name = ?", Int(entry.owner), entry.name
                ) { _ throws(SQLiteError) in true } ?? false
            _ = try t.run(
                "INSERT OR REPLACE INTO agent_manifests (name, owner, text, prompt, deployed) VALUES (?, ?, ?, ?, ?)",
                entry.name, Int(entry.owner), entry.text, entry.prompt, entry.deployed.milliseconds)
            return isThere
        }
    }

    /// The manifests of an owner by name; of everybody when the owner is nil.
    package func list(owner: UInt32?) throws(AegisError) -> [Entry] {
        try database.read { t throws(SQLiteError) in
            try t.all(
                "SELECT name, owner, text, prompt, deployed FROM agent_manifests WHERE ? IS NULL OR owner = ? ORDER BY name, owner",
                owner.map { Int($0) }, owner.map { Int($0) }
            ) { row throws(SQLiteError) in
                Entry(
                    name: try row.get(0), owner: UInt32(clamping: try row.get(1, as: Int.self)), text: try row.get(2),
                    prompt: try row.get(3), deployed: Timestamp(milliseconds: try row.get(4)))
            }
        }
    }

    /// One manifest.
    ///
    /// - Parameters:
    ///   - name: its name.
    ///   - owner: who asks.
    ///   - ofAnybody: whether root means others' manifests, too: to look at and to delete, never to run them as its own.
    /// - Returns: the manifest.
    /// - Throws: `manifest-not-found` with the nearest name.
    package func find(_ name: String, owner: UInt32, ofAnybody: Bool = false) throws(AegisError) -> Entry {
        let all = try list(owner: ofAnybody && owner == 0 ? nil : owner)
        if let entry = all.first(where: { $0.name == name && $0.owner == owner })
            ?? all.first(where: { $0.name == name })
        {
            return entry
        }
        throw .notFound(
            "manifest-not-found", "no agent '\(name)' is deployed",
            hint: nearest(name, in: all.map(\.name)).map { "did you mean '\($0)'?" }
                ?? "'aegis agent list' lists those that are; 'aegis agent deploy FILE' adds one")
    }

    /// Forgets a manifest; agents that live go on.
    ///
    /// - Throws: `manifest-not-found`.
    package func delete(_ name: String, owner: UInt32) throws(AegisError) {
        let entry = try find(name, owner: owner, ofAnybody: true)
        _ = try database.transaction(.synced) { t in
            try t.run("DELETE FROM agent_manifests WHERE owner = ? AND name = ?", Int(entry.owner), entry.name)
        }
    }
}
