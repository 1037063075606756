package import AegisCore
internal import AegisJSON
package import AegisStore

/// The table of goals.
package struct GoalStore: Sendable {
    private let database: Database

    /// The table as this release makes it.
    package static let migrations = [
        Migration(
            "goals",
            sql: """
                CREATE TABLE goals (
                    id TEXT PRIMARY KEY, created INTEGER NOT NULL, over INTEGER NOT NULL, record TEXT NOT NULL
                ) STRICT, WITHOUT ROWID
                """)
    ]

    /// Uses a database that has `migrations` applied.
    package init(_ database: Database) { self.database = database }

    /// Keeps a goal as it stands, synced: one that was taken is not lost.
    ///
    /// - Parameters:
    ///   - goal: the goal.
    ///   - forgotten: ids of goals that are not kept any longer.
    /// - Throws: what SQLite says.
    package func save(_ goal: Goal, forgetting forgotten: [String] = []) throws(AegisError) {
        let text: String
        do { text = String(decoding: try JSONValue(encoding: goal).compact, as: UTF8.self) } catch {
            throw .failed("internal-error", "a goal cannot be written: \(error)")
        }
        _ = try database.transaction(.synced) { t throws(SQLiteError) in
            for id in forgotten { _ = try t.run("DELETE FROM goals WHERE id = ?", id) }
            return try t.run(
                "INSERT OR REPLACE INTO goals (id, created, over, record) VALUES (?, ?, ?, ?)", goal.id,
                goal.createdAt.milliseconds, goal.isOver, text)
        }
    }

    /// Every goal that is kept, oldest first.
    ///
    /// - Parameter unreadable: is told of one that cannot be read, which is left alone.
    /// - Returns: the goals.
    /// - Throws: what SQLite says.
    package func all(unreadable: (_ id: String, any Error) -> Void = { _, _ in }) throws(AegisError) -> [Goal] {
        let rows = try database.read { t throws(SQLiteError) in
            try t.all("SELECT id, record FROM goals ORDER BY created, id") { row throws(SQLiteError) in
                (try row.get(0, as: String.self), try row.get(1, as: String.self))
            }
        }
        return rows.compactMap { id, text in
            do { return try JSONValue(parsing: text.utf8).decode(Goal.self) } catch {
                unreadable(id, error)
                return nil
            }
        }
    }
}
