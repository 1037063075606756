internal import AegisCore
internal import AegisSandboxTypes
package import AegisStore
internal import FoundationEssentials

/// The table of instances.
package struct InstanceStore: Sendable {
    private let database: Database

    /// The table as this release makes it.
    package static let migrations = [
        Migration(
            "instances",
            sql: """
                CREATE TABLE instances (
                    id TEXT PRIMARY KEY, name TEXT UNIQUE, owner INTEGER NOT NULL, created INTEGER NOT NULL, record BLOB NOT NULL
                ) STRICT
                """),
        Migration(
            "instances: secrets of the live run",
            sql: "CREATE TABLE instance_secrets (id TEXT PRIMARY KEY, sealed BLOB NOT NULL) STRICT, WITHOUT ROWID"),
    ]

    /// Uses a database that has `migrations` applied.
    package init(_ database: Database) { self.database = database }

    /// Adds a record.
    ///
    /// - Throws: `name-in-use` if another instance has the name.
    package func insert(_ instance: StoredInstance, synced: Bool) throws {
        let record = try encode(instance)
        let (id, name, owner) = (instance.info.id, instance.info.name, Int64(instance.info.owner))
        let created = instance.info.createdAt.milliseconds
        let isTaken = try database.transaction(synced ? .synced : .saved) { t throws(SQLiteError) -> Bool in
            let taken =
                try t.first("SELECT 1 FROM instances WHERE name = ?", name) { _ throws(SQLiteError) in true } ?? false
            guard !taken else { return true }
            _ = try t.run(
                "INSERT INTO instances (id, name, owner, created, record) VALUES (?, ?, ?, ?, ?)", id, name, owner,
                created, record)
            return false
        }
        if isTaken { throw InstanceStore.nameInUse(name ?? "") }
    }

    /// The error for a name that another instance has: names are those of the node, as hosts of the router are made of them.
    ///
    /// - Parameters:
    ///   - name: the name.
    ///   - isForeign: whether the other instance is nothing that the caller may see.
    /// - Returns: the error.
    static func nameInUse(_ name: String, isForeign: Bool = false) -> AegisError {
        .conflict(
            "name-in-use", "the name '\(name)' is in use\(isForeign ? " by another user" : "")",
            hint: isForeign
                ? "choose another --name"
                : "choose another --name, or remove that instance with 'aegis instance delete \(name)'")
    }

    /// Replaces a record; nothing happens if it was deleted meanwhile.
    package func update(_ instance: StoredInstance) throws {
        let record = try encode(instance)
        _ = try database.transaction(.saved) { t in
            try t.run("UPDATE instances SET record = ? WHERE id = ?", record, instance.info.id)
        }
    }

    /// Lets another instance have the name of one that is on its way out.
    package func releaseName(of id: String) throws {
        _ = try database.transaction(.saved) { t in
            try t.run("UPDATE instances SET name = NULL WHERE id = ?", id)
        }
    }

    /// Removes a record.
    package func delete(_ id: String, synced: Bool) throws {
        _ = try database.transaction(synced ? .synced : .saved) { t in
            try t.run("DELETE FROM instance_secrets WHERE id IN (?, ?)", id, "\(id)/inspection")
            return try t.run("DELETE FROM instances WHERE id = ?", id)
        }
    }

    /// Keeps the sealed secrets of an instance's run in place of those before; nil when the run has ended.
    package func keepSecrets(_ sealed: [UInt8]?, of id: String) throws {
        _ = try database.transaction(.saved) { t in
            guard let sealed else { return try t.run("DELETE FROM instance_secrets WHERE id = ?", id) }
            return try t.run("INSERT OR REPLACE INTO instance_secrets (id, sealed) VALUES (?, ?)", id, sealed)
        }
    }

    /// The sealed secrets of an instance's run.
    package func secrets(of id: String) throws -> [UInt8]? {
        try database.read { t in
            try t.first("SELECT sealed FROM instance_secrets WHERE id = ?", id) { row throws(SQLiteError) in
                try row.get(0, as: [UInt8].self)
            }
        }
    }

    /// Every record, oldest first.
    ///
    /// - Parameter unreadable: gets the id of a record that cannot be read, and why; it stays as it is.
    /// - Returns: the records that can be read.
    /// - Throws: what the database says.
    package func all(unreadable: (String, any Error) -> Void) throws -> [StoredInstance] {
        let records = try database.read { t in
            try t.all("SELECT id, name, record FROM instances ORDER BY created, id") { row throws(SQLiteError) in
                (
                    id: try row.get(0, as: String.self), name: try row.get(1, as: String?.self),
                    bytes: try row.get(2, as: [UInt8].self)
                )
            }
        }
        return records.compactMap { record in
            do {
                var instance = try JSONDecoder().decode(StoredInstance.self, from: Data(record.bytes))
                // One that was leaving has given its name away.
                instance.info.name = record.name
                return instance
            } catch {
                unreadable(record.id, error)
                return nil
            }
        }
    }

    /// The ids of every record, whether it can be read or not.
    package func ids() throws -> Set<String> {
        try database.read { t in
            Set(
                try t.all("SELECT id FROM instances") { row throws(SQLiteError) in try row.get(0, as: String.self) })
        }
    }

    /// The ids of instances of which a sandbox is recorded, and of records that cannot be read: nobody knows of those.
    package func withSandbox() throws -> Set<String> {
        var unread: Set<String> = []
        let all = try all { id, _ in unread.insert(id) }
        return unread.union(all.filter { $0.sandbox != nil || $0.standby != nil }.map(\.info.id))
    }

    /// Makes the records of a backup those of a node where nothing runs: every instance is stopped, what was asked for and not
    /// done is forgotten, and what lived for a client that is not there is gone.
    ///
    /// - Returns: how many instances there are.
    package func settleRestored() throws -> Int {
        var kept = 0
        for var stored in try all(unreadable: { _, _ in }) {
            guard !stored.info.ephemeral, stored.intent?.verb != .delete else {
                try delete(stored.info.id, synced: false)
                continue
            }
            kept += 1
            if stored.sandbox != nil || stored.info.state != .stopped {
                stored.info.stopReason = InstanceLifecycle.StopReason.stopped.rawValue
                stored.info.exitCode = nil
                stored.info.stoppedAt = .now()
            }
            stored.info.state = .stopped
            (stored.sandbox, stored.standby, stored.intent, stored.isSecondTry) = (nil, nil, nil, nil)
            (stored.crashes, stored.lease, stored.isInspected) = (nil, nil, nil)
            try update(stored)
        }
        _ = try database.transaction(.synced) { t in try t.run("DELETE FROM instance_secrets") }
        return kept
    }

    /// How many instances there are that live on without a client.
    package func count() throws -> Int { try all(unreadable: { _, _ in }).count { !$0.info.ephemeral } }

    private func encode(_ instance: StoredInstance) throws -> [UInt8] { Array(try JSONEncoder().encode(instance)) }
}
