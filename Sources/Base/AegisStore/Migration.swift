/// One step from a version of the schema to the next.
///
/// Targets declare their own migrations; the composition root puts them into one list whose order never changes again:
/// the position of a migration in that list, counted from 1, is the `user_version` that it leads to.
package struct Migration: Sendable {
    /// A name that never changes, `target: what`; it is written into the database.
    package let name: String
    let apply: @Sendable (borrowing Transaction) throws(SQLiteError) -> Void

    /// A migration that is a script of SQL.
    package init(_ name: String, sql: String) {
        self.name = name
        apply = { transaction throws(SQLiteError) in try transaction.connection.execute(script: sql) }
    }

    /// A migration that computes.
    package init(_ name: String, apply: @escaping @Sendable (borrowing Transaction) throws(SQLiteError) -> Void) {
        self.name = name
        self.apply = apply
    }
}
