package import AegisCore
internal import CSQLite
internal import LinuxSys

extension Database {
    /// Opens the database, makes it when there is none, and brings its schema up to date.
    ///
    /// Each migration is one synced transaction. Nothing is changed in a file that is refused.
    ///
    /// - Parameters:
    ///   - path: the file; its folder must exist.
    ///   - applicationID: the number in the file's header that says that it is ours, not 0.
    ///   - migrations: every step ever released, oldest first.
    ///   - busyTimeout: how long to wait, in milliseconds, while another program holds the lock.
    /// - Returns: the open database.
    /// - Throws: `database-foreign` when the file was made by another program, `database-newer` when a later version of this
    ///   program wrote it, `database-corrupt`, `database-not-writable`, `database-busy`, `disk-full`.
    ///
    /// The file and those that SQLite keeps beside it are the owner's alone (mode 0600): they hold what was given to
    /// instances as variables.
    package static func open(
        path: String, applicationID: Int32, migrations: [Migration], busyTimeout: Int32 = 5000
    ) throws(AegisError) -> Database {
        precondition(applicationID != 0, "0 means that no program claims the file")
        let schema = Schema(path: path, applicationID: applicationID, migrations: migrations)
        do {
            try schema.inspectWithoutTouching()
            DatabaseFiles(path).make()
            let writer = try Connection(
                path: path, flags: SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, busyTimeout: busyTimeout)
            // Until we know that it is ours, closing must leave its files as they were.
            writer.keepFilesOnClose(true)
            if try schema.check(writer) == .empty { try schema.claim(writer) }
            try DatabaseFiles(path).close()
            try schema.enableWriteAheadLog(writer)
            try schema.migrate(writer)
            writer.keepFilesOnClose(false)
            try writer.execute(script: "PRAGMA foreign_keys=ON")

            let reader = try Connection(path: path, flags: SQLITE_OPEN_READWRITE, busyTimeout: busyTimeout)
            try reader.execute(script: "PRAGMA query_only=ON")
            return Database(path: path, writer: writer, reader: reader)
        } catch {
            throw visible(error)
        }
    }
}

/// The files of a database, closed to everybody but their owner.
struct DatabaseFiles {
    private let path: String

    init(_ path: String) { self.path = path }

    /// Makes an empty file where there is none; SQLite gives what it makes beside it the same mode.
    ///
    /// - Returns: whether it was made; what keeps it from being made is explained when it is opened.
    @discardableResult func make() -> Bool {
        (try? FileDescriptor.open(path, [.writeOnly, .create, .exclusive], mode: 0o600)) != nil
    }

    /// Closes files that an earlier release has left open.
    ///
    /// By name, without opening them: closing any descriptor of such a file would give up this process's locks on it.
    func close() throws(AegisError) {
        for file in ["", "-wal", "-shm", "-journal"].map({ path + $0 }) {
            guard let status = try? Files.status(file, followLinks: false), status.type == .regular,
                status.permissions & 0o077 != 0
            else { continue }
            do throws(Errno) { try Files.setPermissions(file, 0o600) } catch {
                guard error != .noSuchFile else { continue }
                throw .failed(
                    "database-not-private", "\(file) cannot be closed to other users: \(error)",
                    hint: "give it to the user that the daemon runs as, with mode 0600")
            }
        }
    }
}

/// What a database of ours must look like.
private struct Schema {
    let path: String
    let applicationID: Int32
    let migrations: [Migration]

    enum State { case empty, ours }

    /// Looks at the main file alone: no lock, no journal, no WAL, nothing written beside it.
    ///
    /// `claim` puts our number into the main file before the WAL exists, so a foreign file shows here. What only its WAL
    /// would show is seen by `check` on the real connection.
    func inspectWithoutTouching() throws {
        let inspector: Connection
        do {
            inspector = try Connection(path: path, flags: SQLITE_OPEN_READONLY, uri: immutableURI)
            _ = try inspector.integer("PRAGMA schema_version")
        } catch {
            // Not there, not readable, or being written at this moment: the real open will tell.
            guard error.primaryCode == SQLITE_NOTADB else { return }
            throw foreign("it is not a SQLite database")
        }
        _ = try check(inspector)
    }

    /// Whether the database is empty or ours; anything else is refused.
    func check(_ connection: Connection) throws -> State {
        let found: Int64
        let version: Int64
        let objects: Int64
        do {
            found = try connection.integer("PRAGMA application_id")
            version = try connection.integer("PRAGMA user_version")
            objects = try connection.integer("SELECT count(*) FROM sqlite_schema")
        } catch {
            guard error.primaryCode == SQLITE_NOTADB else { throw error }
            throw foreign("it is not a SQLite database")
        }
        if found == 0, version == 0, objects == 0 { return .empty }
        guard found == Int64(applicationID) else { throw foreign("its application id is \(found)") }
        guard version <= migrations.count else {
            throw AegisError(
                .conflict, "database-newer",
                "\(path) has schema version \(version), written by a newer Aegis; this one knows up to \(migrations.count)",
                hint: "start the newer version again, or use another AEGIS_HOME; the file was not changed")
        }
        return .ours
    }

    /// Makes an empty database ours, in the main file, before the WAL hides what the header says.
    func claim(_ connection: Connection) throws {
        try connection.setDurability(.synced)
        try connection.transaction("BEGIN EXCLUSIVE") { _ in
            guard try check(connection) == .empty else { return }
            try connection.execute(
                script: """
                    PRAGMA application_id=\(applicationID);
                    CREATE TABLE aegis_migrations(
                        version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT NOT NULL) STRICT;
                    """)
        }
    }

    func enableWriteAheadLog(_ connection: Connection) throws {
        let mode = try connection.text("PRAGMA journal_mode=WAL")
        guard mode == "wal" else {
            throw AegisError.failed(
                "database-no-wal",
                "the file system of \(path) does not support SQLite's write-ahead log (mode '\(mode)')",
                hint: "put AEGIS_HOME, or the file that database.url names, on a local file system")
        }
    }

    func migrate(_ connection: Connection) throws {
        try connection.setDurability(.synced)
        while try step(connection) {}
    }

    /// Applies the next migration; false when there is none. The version is read inside the transaction, since
    /// another process may have opened the file at the same moment.
    private func step(_ connection: Connection) throws -> Bool {
        try connection.transaction("BEGIN IMMEDIATE") { transaction in
            _ = try check(connection)
            let applied = try transaction.all("SELECT name FROM aegis_migrations ORDER BY version") {
                row throws(SQLiteError) in
                try row.get(0, as: String.self)
            }
            guard applied == migrations.prefix(applied.count).map(\.name),
                Int64(applied.count) == (try connection.integer("PRAGMA user_version"))
            else {
                throw AegisError.failed(
                    "database-history", "the migrations of \(path) are not those of this program: \(applied)",
                    hint: "it was made by a build that was never released; use another AEGIS_HOME")
            }
            guard applied.count < migrations.count else { return false }
            let next = migrations[applied.count]
            try next.apply(transaction)
            try transaction.run(
                "INSERT INTO aegis_migrations(version, name, applied_at) VALUES (?, ?, ?)", applied.count + 1,
                next.name,
                Timestamp.now().description)
            try connection.execute(script: "PRAGMA user_version=\(applied.count + 1)")
            return true
        }
    }

    private func foreign(_ why: String) -> AegisError {
        AegisError(
            .conflict, "database-foreign", "\(path) was made by another program (\(why)); it was left untouched",
            hint: "set AEGIS_HOME to another folder, or move that file away")
    }

    /// The path as a URI that tells SQLite to read nothing but the file itself.
    private var immutableURI: String {
        var uri = path.hasPrefix("/") ? "file://" : "file:"
        for byte in path.utf8 {
            switch byte {
            case 0x61...0x7a, 0x41...0x5a, 0x30...0x39, 0x2f, 0x2e, 0x2d, 0x5f:
                uri.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                let digits = String(byte, radix: 16)
                uri += digits.utf8.count == 1 ? "%0\(digits)" : "%\(digits)"
            }
        }
        return uri + "?immutable=1"
    }
}
