package import AegisCore
package import AegisStore

/// What may be known of a secret without its value.
package struct SecretInfo: Sendable, Equatable {
    /// The name, which is also the environment variable inside an instance.
    package let name: String
    /// When it was first set.
    package let created: Timestamp
    /// When its value was last set.
    package let updated: Timestamp

    /// Makes the description of a secret.
    package init(name: String, created: Timestamp, updated: Timestamp) {
        self.name = name
        self.created = created
        self.updated = updated
    }
}

/// A secret on its way into an instance.
package struct InjectedSecret: Sendable {
    /// The environment variable.
    package let name: String
    /// Its value.
    package let value: Secret<[UInt8]>

    /// Pairs a variable with its value.
    package init(name: String, value: Secret<[UInt8]>) {
        self.name = name
        self.value = value
    }
}

/// Named values, encrypted in the database under a key that is in a file beside it.
///
/// Each value is sealed with XChaCha20-Poly1305 under a random nonce, its name as associated data: a row that was changed,
/// or moved to another name, does not open. What this does not see is a whole row put back to an older value. Sizes are
/// visible. Calls block like those of `Database`; changes are synced before they return (decision D12).
package final class SecretStore: Sendable {
    /// How many bytes a value may have.
    package static let valueLimit = 64 << 10
    /// How many secrets there may be.
    package static let countLimit = 1000
    /// How many bytes of secrets one instance may get: about half of what the kernel takes as environment.
    package static let injectionLimit = 1 << 20

    /// The tables of the store; for the composition root's list of migrations.
    package static let migration = Migration(
        "secrets: values and key check",
        sql: """
            CREATE TABLE secrets(
                name TEXT PRIMARY KEY, sealed BLOB NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
            ) STRICT, WITHOUT ROWID;
            CREATE TABLE secrets_key_check(id INTEGER PRIMARY KEY CHECK (id = 1), sealed BLOB NOT NULL) STRICT;
            """)

    private let database: Database
    let key: SecretKey
    private let now: @Sendable () -> Timestamp
    let masks = MaskCache()

    /// Opens the store, and makes its key when there is neither a key nor a secret.
    ///
    /// - Parameters:
    ///   - database: one that has `migration`.
    ///   - keyFile: the path of the key, `$AEGIS_HOME/secrets.key`.
    ///   - now: the clock that stamps changes.
    /// - Throws: `secret-key-missing` when secrets exist that only a lost key opens, `secret-key-wrong` when the file holds
    ///   another key, `secret-key-invalid` when size, mode, owner or type of the file are not right, `secret-memory`.
    package init(
        database: Database, keyFile: String, now: @escaping @Sendable () -> Timestamp = { Timestamp.now() }
    ) throws(AegisError) {
        self.database = database
        self.now = now
        let file = SecretKeyFile(path: keyFile)
        let (count, check) = try database.read { tx in
            let count = try tx.first("SELECT count(*) FROM secrets") { row throws(SQLiteError) in
                try row.get(0, as: Int.self)
            }
            let check = try tx.first("SELECT sealed FROM secrets_key_check") { row throws(SQLiteError) in
                try row.get(0, as: [UInt8].self)
            }
            return (count ?? 0, check)
        }
        if let existing = try file.load() {
            key = existing
            if let check {
                guard existing.open(check, label: Self.checkLabel) != nil else { throw Self.wrongKey(keyFile) }
                return
            }
            guard count == 0 else { throw Self.wrongKey(keyFile) }
        } else {
            guard count == 0 else {
                throw .failed(
                    "secret-key-missing", "the key file \(keyFile) is missing, and \(count) secrets need it",
                    hint: "restore the file from a backup; nothing was changed")
            }
            key = try file.create()
        }
        // The key's file is synced by now; no value can exist before this row does.
        let sealed = key.seal([], label: Self.checkLabel)
        try database.transaction(.synced) { tx in
            _ = try tx.run("INSERT OR REPLACE INTO secrets_key_check(id, sealed) VALUES (1, ?)", sealed)
        }
    }

    /// Sets a value, new or in place of the one before.
    ///
    /// - Parameters:
    ///   - name: see `SecretName`.
    ///   - value: 1 byte to 64 KiB, without NUL (it becomes an environment variable).
    ///   - record: keeps record of it, once it is clear that it can be done: what it throws keeps it from being done.
    /// - Returns: what may be shown of it.
    /// - Throws: `invalid-argument`, `secret-too-large`, `secret-limit`; what `record` throws.
    @discardableResult
    package func set(
        _ name: String, to value: Secret<[UInt8]>, recording record: () throws(AegisError) -> Void = {}
    ) throws(AegisError) -> SecretInfo {
        try SecretName.validate(name)
        let plain = value.reveal()
        guard !plain.isEmpty else {
            throw .usage("the value of secret '\(name)' is empty", hint: "to remove it, delete it")
        }
        guard plain.count <= Self.valueLimit else {
            throw AegisError(
                .tooLarge, "secret-too-large",
                "the value of secret '\(name)' has \(plain.count) bytes; at most \(Self.valueLimit) are kept",
                hint: "mount a file for data of that size")
        }
        guard !plain.contains(0) else {
            throw .usage(
                "the value of secret '\(name)' contains a NUL byte, which an environment variable cannot hold",
                hint: "store it as base64")
        }
        let sealed = key.seal(plain, label: Self.label(name))
        let time = now()
        try record()
        defer { masks.clear() }
        return try database.transaction(.synced) { tx in
            let created = try tx.first("SELECT created_at FROM secrets WHERE name = ?", name) {
                row throws(SQLiteError) in
                try row.get(0, as: Int64.self)
            }
            if created == nil {
                let count = try tx.first("SELECT count(*) FROM secrets") { row throws(SQLiteError) in
                    try row.get(0, as: Int.self)
                }
                guard count ?? 0 < Self.countLimit else {
                    throw AegisError.conflict(
                        "secret-limit", "there are \(Self.countLimit) secrets, which is the limit")
                }
            }
            try tx.run(
                """
                INSERT INTO secrets(name, sealed, created_at, updated_at) VALUES (?, ?, ?, ?)
                ON CONFLICT(name) DO UPDATE SET sealed = excluded.sealed, updated_at = excluded.updated_at
                """, name, sealed, time.milliseconds, time.milliseconds)
            return SecretInfo(name: name, created: created.map { Timestamp(milliseconds: $0) } ?? time, updated: time)
        }
    }

    /// Names and times of all secrets, by name; no value is decrypted.
    package func list() throws(AegisError) -> [SecretInfo] {
        try database.read { tx in
            try tx.all("SELECT name, created_at, updated_at FROM secrets ORDER BY name") { row throws(SQLiteError) in
                SecretInfo(
                    name: try row.get(0), created: Timestamp(milliseconds: try row.get(1)),
                    updated: Timestamp(milliseconds: try row.get(2)))
            }
        }
    }

    /// Whether there is a secret of this name.
    package func exists(_ name: String) throws(AegisError) -> Bool {
        try database.read { tx in
            try tx.first("SELECT 1 FROM secrets WHERE name = ?", name) { _ throws(SQLiteError) in true } ?? false
        }
    }

    /// Removes a secret.
    ///
    /// - Parameter name: the secret's name.
    /// - Throws: `secret-not-found` naming the nearest one.
    package func delete(_ name: String) throws(AegisError) {
        defer { masks.clear() }
        let gone = try database.transaction(.synced) { tx in try tx.run("DELETE FROM secrets WHERE name = ?", name) }
        guard gone == 1 else { throw try missing(name) }
    }

    /// The values for an instance that is about to start or for a gateway that sends them; resolved anew at each start.
    ///
    /// - Parameters:
    ///   - names: names, or `*` for all there are; each comes once, in the order of the names.
    ///   - earlier: what the instance was given already: it stands for secrets that were deleted meanwhile. The last one of a
    ///     name counts.
    /// - Returns: names and values; in memory they are ordinary bytes, so let go of them soon.
    /// - Throws: `secret-not-found` for a name that does not exist, `secret-damaged` for a row that does not open,
    ///   `secret-too-large` when they are too many bytes together.
    package func resolve(_ names: [String], earlier: [InjectedSecret] = []) throws(AegisError) -> [InjectedSecret] {
        var wanted: [String] = []
        for name in names {
            let more = name == SecretName.all ? try list().map(\.name) + earlier.map(\.name) : [name]
            for name in more where !wanted.contains(name) { wanted.append(name) }
        }
        var total = 0
        var result: [InjectedSecret] = []
        for name in wanted {
            let value: Secret<[UInt8]>
            do throws(AegisError) { value = try self.value(of: name) } catch {
                guard error.code == "secret-not-found", let old = earlier.last(where: { $0.name == name }) else {
                    throw error
                }
                value = old.value
            }
            total += name.utf8.count + value.reveal().count + 2
            guard total <= Self.injectionLimit else {
                throw AegisError(
                    .tooLarge, "secret-too-large",
                    "the secrets asked for are more than \(Self.injectionLimit) bytes together",
                    hint: "name those that are needed instead of '*'")
            }
            result.append(InjectedSecret(name: name, value: value))
        }
        return result
    }

    /// One value.
    ///
    /// - Parameter name: the secret's name.
    /// - Returns: the value.
    /// - Throws: `secret-not-found`, `secret-damaged`.
    package func value(of name: String) throws(AegisError) -> Secret<[UInt8]> {
        try SecretName.validate(name)
        let sealed = try database.read { tx in
            try tx.first("SELECT sealed FROM secrets WHERE name = ?", name) { row throws(SQLiteError) in
                try row.get(0, as: [UInt8].self)
            }
        }
        guard let sealed else { throw try missing(name) }
        guard let plain = key.open(sealed, label: Self.label(name)) else {
            throw .failed(
                "secret-damaged",
                "secret '\(name)' cannot be decrypted: its row in the database was changed or damaged",
                hint: "set it again: aegis secret set \(name)")
        }
        return Secret(plain)
    }

    private func missing(_ name: String) throws(AegisError) -> AegisError {
        let near = nearest(name, in: try list().map(\.name))
        return .notFound(
            "secret-not-found", "there is no secret '\(name)'",
            hint: near.map { "did you mean '\($0)'?" } ?? "set it: aegis secret set \(name)")
    }

    private static func wrongKey(_ path: String) -> AegisError {
        .failed(
            "secret-key-wrong", "the key file \(path) is not the one that the stored secrets were sealed with",
            hint: "restore the right file from a backup; nothing was changed")
    }

    private static let checkLabel = "aegis secrets key check v1"
    private static func label(_ name: String) -> String { "aegis secret v1\0\(name)" }
}
