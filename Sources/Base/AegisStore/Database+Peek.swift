package import AegisCore
internal import CSQLite

extension Database {
    /// Reads a database as it is, of whatever release, and changes nothing: for programs beside the one that owns it.
    ///
    /// - Parameters:
    ///   - path: the file; it must exist.
    ///   - body: reads one consistent snapshot.
    /// - Returns: what `body` returned.
    /// - Throws: what `body` threw; a `SQLiteError` is turned into the `AegisError` that users see.
    package static func peek<T>(_ path: String, _ body: (borrowing Transaction) throws -> T) throws(AegisError) -> T {
        do {
            let connection = try Connection(path: path, flags: SQLITE_OPEN_READONLY, busyTimeout: 5000)
            return try connection.transaction("BEGIN", body)
        } catch { throw visible(error) }
    }
}
