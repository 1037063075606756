package import AegisCore
internal import CSQLite

extension Database {
    /// Writes one consistent copy of the database, synced and checked, while others go on reading and writing.
    ///
    /// The copy is a single file without a WAL. When it fails, the file is removed again.
    ///
    /// - Parameter target: the path of a file that does not exist yet.
    /// - Throws: `file-exists` when there is one, `disk-full`, `database-not-writable`.
    package func backup(to target: String) throws(AegisError) { try Self.backup(path, to: target) }

    /// Writes one consistent copy of the database of a path, which another process may have open; see `backup(to:)`.
    package static func backup(_ path: String, to target: String) throws(AegisError) {
        guard (try? Connection(path: target, flags: SQLITE_OPEN_READONLY)) == nil else {
            throw .conflict("file-exists", "\(target) exists already", hint: "name a file that does not exist")
        }
        var made = false
        do {
            let source = try Connection(path: path, flags: SQLITE_OPEN_READONLY)
            made = DatabaseFiles(target).make()
            let copy = try Connection(path: target, flags: SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)
            made = true
            try copy.setDurability(.synced)
            try source.copy(to: copy)
            _ = try copy.text("PRAGMA journal_mode=DELETE")
            let verdict = try copy.text("PRAGMA quick_check(1)")
            guard verdict == "ok" else {
                throw SQLiteError(code: SQLITE_CORRUPT, message: verdict, path: target)
            }
        } catch {
            if made {
                for suffix in ["", "-journal", "-wal", "-shm"] { _ = unsafe al_sqlite_delete_file(target + suffix) }
            }
            throw visible(error)
        }
    }
}
