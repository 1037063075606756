internal import CSQLite

/// One SQLite connection with its prepared statements. Not thread-safe: `Database` keeps it behind a `Mutex`.
@safe final class Connection {
    /// How many prepared statements a connection keeps; the one used longest ago goes first.
    static let cacheLimit = 128

    let path: String
    // SAFETY: opened in init, closed in deinit, used by nobody else.
    private let handle: OpaquePointer
    private var cache: [String: Statement] = [:]
    private var clock: UInt64 = 0
    /// The value of `PRAGMA synchronous` on this connection, so that it is only changed when it must be.
    private var durability: Durability?
    /// A query that stands on its only row keeps the snapshot that it sees.
    private var holder: Statement?
    private var isHolding = false
    /// How many changes were made since that was let go.
    private var changesHeld = 0
    /// After so many changes one is made without it, so that the WAL is written back to the main file when it is long.
    private static let mostHeld = 32

    /// Opens a file with the given flags of `sqlite3_open_v2`; `uri` opens it by such a name instead.
    init(path: String, flags: Int32, uri: String? = nil, busyTimeout: Int32 = 5000) throws(SQLiteError) {
        guard !path.utf8.contains(0) else {
            throw SQLiteError(code: SQLITE_CANTOPEN, message: "the path contains a NUL byte", path: path)
        }
        // A relative path that starts with "file:" would be read as a URI.
        let name = uri ?? (path.hasPrefix("/") ? path : "./\(path)")
        var handle: OpaquePointer?
        let mode = flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE | (uri == nil ? 0 : SQLITE_OPEN_URI)
        let code = unsafe sqlite3_open_v2(name, &handle, mode, nil)
        guard let handle = unsafe handle else {
            throw SQLiteError(code: SQLITE_NOMEM, message: "out of memory", path: path)
        }
        self.path = path
        unsafe self.handle = unsafe handle
        guard code == SQLITE_OK else { throw failure(code) }
        unsafe sqlite3_busy_timeout(handle, busyTimeout)
        unsafe al_sqlite_distrust_file(handle)
    }

    deinit {
        letGo()
        holder = nil
        cache.removeAll()
        unsafe sqlite3_close_v2(handle)
    }

    /// Leaves main file and WAL as they are when the connection closes.
    func keepFilesOnClose(_ keep: Bool) { _ = unsafe al_sqlite_keep_wal_on_close(handle, keep ? 1 : 0) }

    /// Whether a transaction is open.
    var inTransaction: Bool { unsafe sqlite3_get_autocommit(handle) == 0 }

    /// The error of the call that just failed with `code`.
    func failure(_ code: Int32) -> SQLiteError {
        // First of all: it may be the thread's errno of the call that failed.
        let system = unsafe code & 0xff == SQLITE_IOERR ? al_sqlite_system_errno(handle) : 0
        let message = unsafe String(cString: sqlite3_errmsg(handle))
        return SQLiteError(code: code, message: message, path: path, systemCode: system)
    }

    /// Runs one or more statements that take no values and give no rows.
    func execute(script: String) throws(SQLiteError) {
        let code = unsafe sqlite3_exec(handle, script, nil, nil, nil)
        guard code == SQLITE_OK else { throw failure(code) }
    }

    /// Number of rows that the last INSERT, UPDATE or DELETE changed.
    var changes: Int { Int(unsafe sqlite3_changes64(handle)) }
    /// Row id of the last INSERT.
    var lastInsertedRow: Int64 { unsafe sqlite3_last_insert_rowid(handle) }

    /// Runs `body` with the prepared statement of `sql`, bound and fresh; afterwards it is reset and kept.
    ///
    /// One that is in use is not used again: where the same text is run from within a row, it gets a statement of its own.
    func withStatement<T>(
        _ sql: String, _ values: [(any SQLiteValue)?], _ body: (Statement) throws(SQLiteError) -> T
    ) throws(SQLiteError) -> T {
        let statement: Statement
        if let cached = cache[sql], !cached.isInUse {
            statement = cached
        } else {
            statement = try prepare(sql)
            keep(statement, for: sql)
        }
        clock += 1
        statement.lastUse = clock
        statement.isInUse = true
        defer {
            statement.reset()
            statement.isInUse = false
        }
        try statement.bind(values, on: self)
        return try body(statement)
    }

    private func prepare(_ sql: String) throws(SQLiteError) -> Statement {
        var sql = sql
        var pointer: OpaquePointer?
        var rest = 0
        let code = sql.withUTF8 { bytes in
            unsafe bytes.withMemoryRebound(to: CChar.self) { text -> Int32 in
                guard let length = Int32(exactly: text.count) else { return SQLITE_TOOBIG }
                var tail: UnsafePointer<CChar>?
                let code = unsafe sqlite3_prepare_v3(
                    handle, text.baseAddress, length, UInt32(SQLITE_PREPARE_PERSISTENT), &pointer, &tail)
                if let tail = unsafe tail, let start = text.baseAddress { rest = unsafe text.count - (tail - start) }
                return code
            }
        }
        guard code == SQLITE_OK else { throw failure(code) }
        guard let pointer = unsafe pointer else {
            throw SQLiteError(code: SQLITE_MISUSE, message: "no statement in '\(sql)'", path: path)
        }
        let statement = unsafe Statement(owning: pointer)
        guard sql.utf8.suffix(rest).allSatisfy({ $0 == 0x20 || $0 == 0x0a || $0 == 0x3b }) else {
            throw SQLiteError(code: SQLITE_MISUSE, message: "more than one statement in '\(sql)'", path: path)
        }
        return statement
    }

    /// Makes room for a statement and keeps it, unless the one of its text is in use.
    private func keep(_ statement: Statement, for sql: String) {
        guard cache[sql] == nil else { return }
        if cache.count >= Self.cacheLimit, let oldest = cache.min(by: { $0.value.lastUse < $1.value.lastUse }) {
            cache[oldest.key] = nil
        }
        cache[sql] = statement
    }

    /// Number of prepared statements that are kept.
    var cachedStatements: Int { cache.count }

    /// Makes the commits that follow saved or synced.
    func setDurability(_ wanted: Durability) throws(SQLiteError) {
        guard durability != wanted else { return }
        try execute(script: wanted == .synced ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL")
        durability = wanted
    }

    /// Keeps the snapshot of the database over the changes that follow: a change takes and gives back two locks then instead of four,
    /// a third of the system calls of a small one. What it changes itself it sees; where another program has changed something in
    /// between, or is changing something, it fails as `SQLiteError.isBusy` at once, and is done when that was let go. Meanwhile nobody
    /// can empty the WAL (`wal_checkpoint(TRUNCATE)`); it is written back all the same.
    func hold() throws(SQLiteError) {
        changesHeld += 1
        if changesHeld >= Self.mostHeld {
            letGo()
            return
        }
        guard !isHolding else { return }
        let query: Statement
        if let holder { query = holder } else { query = try prepare("SELECT 1 FROM sqlite_schema LIMIT 1") }
        holder = query
        isHolding = try query.step(on: self)
    }

    /// Gives the snapshot back.
    ///
    /// - Returns: whether there was one.
    @discardableResult func letGo() -> Bool {
        changesHeld = 0
        guard isHolding else { return false }
        isHolding = false
        holder?.reset()
        return true
    }

    /// The single integer that a PRAGMA or an aggregate answers.
    func integer(_ sql: String) throws(SQLiteError) -> Int64 {
        try withStatement(sql, []) { statement throws(SQLiteError) in
            guard try statement.step(on: self) else {
                throw SQLiteError(code: SQLITE_MISUSE, message: "no row from '\(sql)'", path: path)
            }
            return statement.column(0).integer
        }
    }

    /// The single text that a PRAGMA answers.
    func text(_ sql: String) throws(SQLiteError) -> String {
        try withStatement(sql, []) { statement throws(SQLiteError) in
            try statement.step(on: self) ? statement.column(0).text : ""
        }
    }

    /// Copies the whole database into an empty one, as one snapshot.
    func copy(to target: Connection) throws(SQLiteError) {
        guard let backup = unsafe sqlite3_backup_init(target.handle, "main", handle, "main") else {
            throw target.failure(unsafe sqlite3_extended_errcode(target.handle))
        }
        let stepped = unsafe sqlite3_backup_step(backup, -1)
        let finished = unsafe sqlite3_backup_finish(backup)
        guard stepped == SQLITE_DONE else { throw target.failure(stepped) }
        guard finished == SQLITE_OK else { throw target.failure(finished) }
    }
}

/// A prepared statement; finalised when it is dropped.
@safe final class Statement {
    // SAFETY: owned by this object alone; the connection outlives it (its cache is emptied before it closes).
    private let pointer: OpaquePointer
    var lastUse: UInt64 = 0
    var isInUse = false

    init(owning pointer: OpaquePointer) { unsafe self.pointer = unsafe pointer }
    deinit { unsafe sqlite3_finalize(pointer) }

    func bind(_ values: [(any SQLiteValue)?], on connection: Connection) throws(SQLiteError) {
        let wanted = Int(unsafe sqlite3_bind_parameter_count(pointer))
        guard values.count == wanted else {
            let sql = unsafe sqlite3_sql(pointer).map { unsafe String(cString: $0) } ?? ""
            throw SQLiteError(
                code: SQLITE_MISUSE, message: "\(values.count) values for \(wanted) parameters in '\(sql)'",
                path: connection.path)
        }
        for (index, value) in values.enumerated() {
            let parameter = unsafe SQLiteParameter(statement: pointer, index: Int32(index + 1))
            let code = value?.bind(to: parameter) ?? parameter.bindNull()
            guard code == SQLITE_OK else { throw connection.failure(code) }
        }
    }

    /// Steps to the next row; false at the end.
    func step(on connection: Connection) throws(SQLiteError) -> Bool {
        switch unsafe sqlite3_step(pointer) {
        case SQLITE_ROW: return true
        case SQLITE_DONE: return false
        case let code: throw connection.failure(code)
        }
    }

    var columns: Int { Int(unsafe sqlite3_column_count(pointer)) }
    func name(of index: Int) -> String {
        unsafe sqlite3_column_name(pointer, Int32(index)).map { unsafe String(cString: $0) } ?? "?"
    }
    func column(_ index: Int) -> SQLiteColumn { unsafe SQLiteColumn(statement: pointer, index: Int32(index)) }

    func reset() {
        unsafe sqlite3_reset(pointer)
        unsafe sqlite3_clear_bindings(pointer)
    }
}
