internal import CSQLite

/// How long a committed change lasts (decision D12).
package enum Durability: Sendable, Equatable {
    /// Written: survives `kill -9` of this process (`synchronous=NORMAL`).
    case saved
    /// Synced: survives loss of power as well (`synchronous=FULL`), and with it every commit before it.
    case synced
}

/// What may be done inside a transaction; it cannot leave the closure that it is given to.
package struct Transaction: ~Copyable {
    let connection: Connection

    /// Runs a statement that gives no rows.
    ///
    /// - Parameters:
    ///   - sql: one statement with `?` for each value.
    ///   - values: what to bind, in order; nil is NULL.
    /// - Returns: how many rows it changed.
    /// - Throws: SQLite's answer; `isDuplicate` tells that the key exists already.
    @discardableResult
    package func run(_ sql: String, _ values: (any SQLiteValue)?...) throws(SQLiteError) -> Int {
        try run(sql, values: values)
    }

    /// The same, with the values in an array.
    @discardableResult
    package func run(_ sql: String, values: [(any SQLiteValue)?]) throws(SQLiteError) -> Int {
        try connection.withStatement(sql, values) { statement throws(SQLiteError) in
            while try statement.step(on: connection) {}
            return connection.changes
        }
    }

    /// The row id of the last row that was inserted.
    package var lastInsertedRow: Int64 { connection.lastInsertedRow }

    /// Runs a query and makes a value of each row.
    package func all<T>(
        _ sql: String, _ values: (any SQLiteValue)?..., map: (borrowing Row) throws(SQLiteError) -> T
    ) throws(SQLiteError) -> [T] {
        try connection.withStatement(sql, values) { statement throws(SQLiteError) in
            var result: [T] = []
            while try statement.step(on: connection) {
                result.append(try map(Row(statement: statement, connection: connection)))
            }
            return result
        }
    }

    /// Runs a query and makes a value of its first row; nil when there is none.
    package func first<T>(
        _ sql: String, _ values: (any SQLiteValue)?..., map: (borrowing Row) throws(SQLiteError) -> T
    ) throws(SQLiteError) -> T? {
        try connection.withStatement(sql, values) { statement throws(SQLiteError) in
            guard try statement.step(on: connection) else { return nil }
            return try map(Row(statement: statement, connection: connection))
        }
    }

    /// Runs a query and hands out row by row, in constant memory, until `body` answers false.
    package func each(
        _ sql: String, _ values: (any SQLiteValue)?..., body: (borrowing Row) throws(SQLiteError) -> Bool
    ) throws(SQLiteError) {
        try connection.withStatement(sql, values) { statement throws(SQLiteError) in
            while try statement.step(on: connection) {
                guard try body(Row(statement: statement, connection: connection)) else { return }
            }
        }
    }
}

/// One row of a query's result, valid only while the closure that got it runs.
package struct Row: ~Copyable {
    let statement: Statement
    let connection: Connection

    /// Reads a column, counted from 0, as the type that is asked for; an optional type takes NULL.
    ///
    /// - Throws: `SQLITE_MISMATCH` naming the column when it holds another type.
    package func get<T: SQLiteValue>(_ index: Int, as type: T.Type = T.self) throws(SQLiteError) -> T {
        guard index >= 0, index < statement.columns else {
            throw SQLiteError(code: SQLITE_RANGE, message: "no column \(index)", path: connection.path)
        }
        guard let value = T.read(from: statement.column(index)) else { throw invalid(index, "it is not \(T.self)") }
        return value
    }

    /// The error for a column whose value is not one that was ever written there.
    package func invalid(_ index: Int, _ why: String) -> SQLiteError {
        SQLiteError(
            code: SQLITE_MISMATCH, message: "column '\(statement.name(of: index))' cannot be read: \(why)",
            path: connection.path)
    }
}
