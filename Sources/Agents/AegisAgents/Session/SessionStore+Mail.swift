internal import AegisCore
internal import AegisJSON
package import AegisStore

extension SessionStore {
    /// The table of messages that wait; it came later than the others.
    package static let mailMigrations = [
        Migration(
            "agent_mail",
            sql: """
                CREATE TABLE agent_mail (
                    seq INTEGER PRIMARY KEY AUTOINCREMENT, agent TEXT NOT NULL, trace TEXT NOT NULL, time INTEGER NOT NULL,
                    mail TEXT NOT NULL, UNIQUE (agent, trace)
                ) STRICT
                """)
    ]

    /// Keeps a message until its turn begins: the step that says so removes it, in one transaction.
    ///
    /// - Throws: what SQLite says; then it was not taken.
    func keep(_ mail: Mail, of agent: String, at time: Timestamp) throws(AegisError) {
        let text: String
        do { text = String(decoding: try JSONValue(encoding: mail).compact, as: UTF8.self) } catch {
            throw .failed("internal-error", "a message cannot be written: \(error)")
        }
        _ = try database.transaction(.saved) { t in
            try t.run(
                "INSERT OR REPLACE INTO agent_mail (agent, trace, time, mail) VALUES (?, ?, ?, ?)", agent, mail.trace,
                time.milliseconds, text)
        }
    }

    /// The messages that wait for an agent, oldest first.
    ///
    /// - Throws: `session-unreadable` when one cannot be read.
    func mail(of agent: String) throws(AegisError) -> [Mail] {
        let texts = try database.read { t throws(SQLiteError) in
            try t.all("SELECT mail FROM agent_mail WHERE agent = ? ORDER BY seq", agent) { row throws(SQLiteError) in
                try row.get(0, as: String.self)
            }
        }
        var mail: [Mail] = []
        for text in texts {
            guard let message = try? JSONValue(parsing: text.utf8).decode(Mail.self) else {
                throw .failed(
                    "session-unreadable", "a message that waits for agent \(agent) cannot be read",
                    hint: "it was written by a newer release, or the database was changed; nothing was deleted")
            }
            mail.append(message)
        }
        return mail
    }

    /// Forgets messages that wait: one trace, or all.
    func forgetMail(of agent: String, trace: String? = nil) throws(AegisError) {
        _ = try database.transaction(.saved) { t in
            try t.run("DELETE FROM agent_mail WHERE agent = ? AND trace = coalesce(?, trace)", agent, trace)
        }
    }
}
