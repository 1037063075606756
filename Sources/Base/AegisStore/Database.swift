package import AegisCore
internal import CSQLite
internal import Synchronization

/// A SQLite file of ours: one writer, one reader beside it, both safe to use from any thread.
///
/// All calls block (up to the busy timeout while another program holds the lock; a synced commit waits for the disk): call them from a
/// blocking pool, never on an event loop that serves others. A transaction must not start another on the same database.
package final class Database: Sendable {
    /// The path that it was opened with.
    package let path: String
    private let writer: Mutex<Connection?>
    private let reader: Mutex<Connection?>

    init(path: String, writer: sending Connection, reader: sending Connection) {
        self.path = path
        self.writer = Mutex(writer)
        self.reader = Mutex(reader)
    }

    /// Runs `body` in one transaction of the writer: all of it is committed, or, when `body` throws, none.
    ///
    /// - Parameters:
    ///   - durability: what the commit survives.
    ///   - body: the changes; keep it short, other writers wait.
    /// - Returns: what `body` returned, once the commit has been done.
    /// - Throws: what `body` threw; a `SQLiteError` is turned into the `AegisError` that users see.
    package func transaction<T: Sendable>(
        _ durability: Durability, _ body: (borrowing Transaction) throws -> T
    ) throws(AegisError) -> T {
        try locked(writer) { connection in
            connection.letGo()
            try connection.setDurability(durability)
            return try connection.transaction("BEGIN IMMEDIATE", body)
        }
    }

    /// Runs one statement that gives no rows and is a transaction by itself, which costs less than one around it.
    ///
    /// - Parameters:
    ///   - durability: what the commit survives.
    ///   - sql: one statement with `?` for each value.
    ///   - values: what to bind, in order; nil is NULL.
    /// - Returns: how many rows it changed, once the commit has been done.
    /// - Throws: a `SQLiteError`, turned into the `AegisError` that users see.
    @discardableResult
    package func run(
        _ durability: Durability, _ sql: String, _ values: [(any SQLiteValue)?]
    ) throws(AegisError) -> Int {
        try locked(writer) { connection in
            try connection.setDurability(durability)
            guard durability == .saved else {
                connection.letGo()
                return try connection.change(sql, values)
            }
            try connection.hold()
            do throws(SQLiteError) { return try connection.change(sql, values) } catch {
                // After a failure nothing is kept: some are over only once nobody reads any more. Who holds a snapshot does not wait for a
                // lock either, as SQLite has it; nothing was done, and without the snapshot the statement waits like any other.
                guard connection.letGo(), error.isBusy else { throw error }
                return try connection.change(sql, values)
            }
        }
    }

    /// Runs `body` on one consistent snapshot that holds everything committed before; it cannot write.
    ///
    /// It does not wait for a writer. At most one read runs at a time.
    package func read<T: Sendable>(_ body: (borrowing Transaction) throws -> T) throws(AegisError) -> T {
        try locked(reader) { try $0.transaction("BEGIN", body) }
    }

    /// Closes both connections; everything after it fails with `database-closed`. Idempotent.
    package func close() {
        reader.withLock { $0 = nil }
        writer.withLock { $0 = nil }
    }

    private func locked<T: Sendable>(
        _ mutex: borrowing Mutex<Connection?>, _ body: (Connection) throws -> T
    ) throws(AegisError) -> T {
        let result: Result<T, AegisError> = mutex.withLock { connection in
            guard let connection else { return .failure(.failed("database-closed", "the database \(path) is closed")) }
            do {
                return .success(try body(connection))
            } catch {
                return .failure(Self.visible(error))
            }
        }
        return try result.get()
    }

    /// Any error in the shape that users see.
    static func visible(_ error: any Error) -> AegisError {
        switch error {
        case let error as AegisError: error
        case let error as SQLiteError: error.aegisError
        default: .failed("internal-error", "\(error)")
        }
    }
}

extension Connection {
    /// Runs `body` between BEGIN and COMMIT; rolls back when either fails.
    // Specialising this crashes the optimiser of Swift 6.3.1 (SIGABRT in GenericSpecializer); a call costs little beside SQLite.
    @_semantics("optimize.sil.specialize.generic.never")
    func transaction<T>(_ begin: String, _ body: (borrowing Transaction) throws -> T) throws -> T {
        try run(begin)
        do {
            let result = try body(Transaction(connection: self))
            try run("COMMIT")
            return result
        } catch {
            // SQLite has rolled back by itself after some failures (disk full, I/O error). Should ROLLBACK fail
            // too, the next BEGIN reports it: there is nothing better to tell than the first error.
            if inTransaction { try? run("ROLLBACK") }
            throw error
        }
    }

    /// Runs one statement that changes something.
    ///
    /// - Returns: how many rows.
    func change(_ sql: String, _ values: [(any SQLiteValue)?]) throws(SQLiteError) -> Int {
        try withStatement(sql, values) { statement throws(SQLiteError) in
            while try statement.step(on: self) {}
            return changes
        }
    }

    func run(_ sql: String) throws(SQLiteError) {
        try withStatement(sql, []) { statement throws(SQLiteError) in
            while try statement.step(on: self) {}
        }
    }
}
