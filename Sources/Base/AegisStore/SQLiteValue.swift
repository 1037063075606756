internal import CSQLite

/// A Swift type that can be bound to a statement and read from a row.
///
/// SQLite converts between types silently; reading here does not: a column of another type is an error.
package protocol SQLiteValue {
    /// Binds the value to a parameter; the result is SQLite's code.
    func bind(to parameter: borrowing SQLiteParameter) -> Int32
    /// Reads the value from a column, or nil when the column holds something else.
    static func read(from column: borrowing SQLiteColumn) -> Self?
}

/// A parameter of a statement while it is being bound.
@safe package struct SQLiteParameter: ~Copyable {
    let statement: OpaquePointer
    let index: Int32

    // SAFETY: both functions copy the bytes before they return; the statement outlives this value.
    func bind(_ value: Int64) -> Int32 { unsafe sqlite3_bind_int64(statement, index, value) }
    func bind(_ value: Double) -> Int32 { unsafe sqlite3_bind_double(statement, index, value) }
    func bindNull() -> Int32 { unsafe sqlite3_bind_null(statement, index) }
    func bind(_ text: String) -> Int32 {
        var text = text
        return text.withUTF8 { bytes in
            guard let count = Int32(exactly: bytes.count) else { return SQLITE_TOOBIG }
            return unsafe bytes.withMemoryRebound(to: CChar.self) {
                unsafe al_sqlite_bind_text(statement, index, $0.baseAddress, count)
            }
        }
    }
    func bind(_ blob: [UInt8]) -> Int32 {
        unsafe blob.withUnsafeBytes { bytes in
            guard let count = Int32(exactly: bytes.count) else { return SQLITE_TOOBIG }
            return unsafe al_sqlite_bind_blob(statement, index, bytes.baseAddress, count)
        }
    }
}

/// A column of the row that a statement stands on.
@safe package struct SQLiteColumn: ~Copyable {
    let statement: OpaquePointer
    let index: Int32

    var type: Int32 { unsafe sqlite3_column_type(statement, index) }
    var integer: Int64 { unsafe sqlite3_column_int64(statement, index) }
    var real: Double { unsafe sqlite3_column_double(statement, index) }
    var isNull: Bool { type == SQLITE_NULL }
    // SAFETY: SQLite owns the bytes until the next step; they are copied before this returns. The count is
    // asked for after the pointer, as its documentation wants.
    var text: String {
        guard let start = unsafe sqlite3_column_text(statement, index) else { return "" }
        let count = Int(unsafe sqlite3_column_bytes(statement, index))
        return unsafe String(decoding: UnsafeBufferPointer(start: start, count: count), as: UTF8.self)
    }
    var blob: [UInt8] {
        guard let start = unsafe sqlite3_column_blob(statement, index) else { return [] }
        let count = Int(unsafe sqlite3_column_bytes(statement, index))
        return unsafe [UInt8](UnsafeRawBufferPointer(start: start, count: count))
    }
}

extension Int64: SQLiteValue {
    package func bind(to parameter: borrowing SQLiteParameter) -> Int32 { parameter.bind(self) }
    package static func read(from column: borrowing SQLiteColumn) -> Int64? {
        column.type == SQLITE_INTEGER ? column.integer : nil
    }
}

extension Int: SQLiteValue {
    package func bind(to parameter: borrowing SQLiteParameter) -> Int32 { parameter.bind(Int64(self)) }
    package static func read(from column: borrowing SQLiteColumn) -> Int? {
        column.type == SQLITE_INTEGER ? Int(exactly: column.integer) : nil
    }
}

extension Bool: SQLiteValue {
    package func bind(to parameter: borrowing SQLiteParameter) -> Int32 { parameter.bind(Int64(self ? 1 : 0)) }
    package static func read(from column: borrowing SQLiteColumn) -> Bool? {
        guard column.type == SQLITE_INTEGER, (0...1).contains(column.integer) else { return nil }
        return column.integer == 1
    }
}

extension Double: SQLiteValue {
    package func bind(to parameter: borrowing SQLiteParameter) -> Int32 { parameter.bind(self) }
    package static func read(from column: borrowing SQLiteColumn) -> Double? {
        column.type == SQLITE_FLOAT || column.type == SQLITE_INTEGER ? column.real : nil
    }
}

extension String: SQLiteValue {
    package func bind(to parameter: borrowing SQLiteParameter) -> Int32 { parameter.bind(self) }
    package static func read(from column: borrowing SQLiteColumn) -> String? {
        column.type == SQLITE_TEXT ? column.text : nil
    }
}

extension [UInt8]: SQLiteValue {
    package func bind(to parameter: borrowing SQLiteParameter) -> Int32 { parameter.bind(self) }
    package static func read(from column: borrowing SQLiteColumn) -> [UInt8]? {
        column.type == SQLITE_BLOB ? column.blob : nil
    }
}

extension Optional: SQLiteValue where Wrapped: SQLiteValue {
    package func bind(to parameter: borrowing SQLiteParameter) -> Int32 {
        switch self {
        case .none: parameter.bindNull()
        case .some(let value): value.bind(to: parameter)
        }
    }
    package static func read(from column: borrowing SQLiteColumn) -> Wrapped?? {
        if column.isNull { return .some(.none) }
        return Wrapped.read(from: column).map { .some($0) }
    }
}
