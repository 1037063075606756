package import AegisCore
internal import AegisJSON
package import AegisStore

/// What is kept of servers and their tools: so that tools are there before their server is started, and what a person agreed to is
/// known again.
package struct MCPStore: Sendable {
    private let database: Database

    /// A store in a database.
    package init(_ database: Database) { self.database = database }

    /// The tables as this release makes them.
    package static let migrations = [
        Migration(
            "mcp: servers and tools",
            sql: """
                CREATE TABLE mcp_servers (
                    name TEXT PRIMARY KEY, origin TEXT NOT NULL, revision TEXT NOT NULL, software TEXT NOT NULL,
                    listed_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
                CREATE TABLE mcp_tools (
                    server TEXT NOT NULL, tool TEXT NOT NULL, definition TEXT NOT NULL, accepted TEXT,
                    is_listed INTEGER NOT NULL, seen_at INTEGER NOT NULL, PRIMARY KEY (server, tool)
                ) STRICT, WITHOUT ROWID;
                """)
    ]

    /// What was listed first is not what a person agreed to, of which nothing is known from before.
    package static let agreementMigrations = [
        Migration("mcp: what a person agreed to", sql: "ALTER TABLE mcp_tools ADD COLUMN agreed TEXT;")
    ]

    /// A tool, and what is known of it.
    package struct Entry: Sendable, Hashable {
        package var definition: MCPToolDefinition
        /// The hash of the definition that was agreed to, by a person or by being listed first, as it is configured now; nil before
        /// anything was.
        package var accepted: String?

        /// Whether this definition is the one.
        package var isAccepted: Bool { accepted == definition.hash }
        /// Whether another one was.
        package var hasChanged: Bool { accepted != nil && !isAccepted }
    }

    /// What a server said at its last list.
    package struct Kept: Sendable, Hashable {
        package var origin: String
        package var revision: String
        package var software: String
        package var entries: [Entry]
    }

    /// Rows of tools that a server does not list any more, at most.
    private static let mostGone = 2000

    /// What is kept of a server; nil when it was never listed.
    ///
    /// - Parameters:
    ///   - server: its name.
    ///   - trustsFirst: says of a tool whether its first definition needs nobody's agreement, which may not have been so before.
    /// - Returns: it, with what was agreed to.
    /// - Throws: when it cannot be read.
    package func kept(
        _ server: String, trustsFirst: @Sendable (String) -> Bool
    ) throws(AegisError) -> Kept? {
        try database.read { t throws(SQLiteError) in
            let row = try t.first(
                "SELECT origin, revision, software FROM mcp_servers WHERE name = ?", server
            ) { row throws(SQLiteError) in
                try (row.get(0, as: String.self), row.get(1, as: String.self), row.get(2, as: String.self))
            }
            guard let row else { return nil }
            let entries = try t.all(
                "SELECT definition, accepted, agreed FROM mcp_tools WHERE server = ? AND is_listed = 1 ORDER BY tool",
                server
            ) { row throws(SQLiteError) in try Self.entry(row, trustsFirst) }
            return Kept(origin: row.0, revision: row.1, software: row.2, entries: entries.compactMap(\.self))
        }
    }

    private static func entry(
        _ row: borrowing Row, _ trustsFirst: @Sendable (String) -> Bool
    ) throws(SQLiteError) -> Entry? {
        let text = try row.get(0, as: String.self)
        let (accepted, agreed) = try (row.get(1, as: String?.self), row.get(2, as: String?.self))
        guard let value = try? JSONValue(parsing: text.utf8), let definition = try? MCPToolDefinition(value) else {
            return nil
        }
        return Entry(definition: definition, accepted: trustsFirst(definition.name) ? accepted : agreed)
    }

    /// Keeps a list. What is listed for the first time counts as agreed to where `trustsFirst` says so; what changed does not. What a
    /// person agreed to first was the tool of that origin: of another one they are asked again, also where it looks the same.
    ///
    /// - Parameters:
    ///   - server: whose list.
    ///   - origin: what it was started from.
    ///   - hello: what it said of itself.
    ///   - tools: its tools.
    ///   - time: now.
    ///   - trustsFirst: says of a tool whether its first definition needs nobody's agreement.
    /// - Returns: the tools with what was agreed to.
    /// - Throws: when it cannot be kept; then nothing of it is.
    package func keep(
        _ server: String, origin: String, _ hello: MCPHello, _ tools: [MCPToolDefinition], at time: Timestamp,
        trustsFirst: @Sendable (String) -> Bool
    ) throws(AegisError) -> [Entry] {
        try database.transaction(.saved) { t throws(SQLiteError) in
            try Self.forgetAgreements(with: server, unless: origin, t, trustsFirst)
            try t.run(
                "INSERT OR REPLACE INTO mcp_servers (name, origin, revision, software, listed_at) VALUES (?,?,?,?,?)",
                server, origin, hello.revision, hello.software, time.milliseconds)
            try t.run("UPDATE mcp_tools SET is_listed = 0 WHERE server = ?", server)
            var entries: [Entry] = []
            for tool in tools {
                let known = try t.first(
                    "SELECT accepted, agreed FROM mcp_tools WHERE server = ? AND tool = ?", server, tool.name
                ) { row throws(SQLiteError) in try (row.get(0, as: String?.self), row.get(1, as: String?.self)) }
                let isTrusted = trustsFirst(tool.name)
                let (accepted, agreed) = known ?? (isTrusted ? tool.hash : nil, nil)
                try t.run(
                    """
                    INSERT OR REPLACE INTO mcp_tools (server, tool, definition, accepted, agreed, is_listed, seen_at)
                    VALUES (?,?,?,?,?,1,?)
                    """, server, tool.name, String(decoding: tool.kept.compact, as: UTF8.self), accepted, agreed,
                    time.milliseconds)
                entries.append(Entry(definition: tool, accepted: isTrusted ? accepted : agreed))
            }
            try t.run(
                """
                DELETE FROM mcp_tools WHERE server = ? AND tool IN (SELECT tool FROM mcp_tools
                    WHERE server = ? AND is_listed = 0 ORDER BY seen_at DESC LIMIT -1 OFFSET \(Self.mostGone))
                """, server, server)
            return entries
        }
    }

    /// Forgets what was agreed to for a server that is started from something else now, also of tools that it does not list. Where
    /// nobody was asked first, what was there is still what a tool must not differ from.
    private static func forgetAgreements(
        with server: String, unless origin: String, _ t: borrowing Transaction,
        _ trustsFirst: @Sendable (String) -> Bool
    ) throws(SQLiteError) {
        let before = try t.first("SELECT origin FROM mcp_servers WHERE name = ?", server) { row throws(SQLiteError) in
            try row.get(0, as: String.self)
        }
        guard let before, before != origin else { return }
        try t.run("UPDATE mcp_tools SET agreed = NULL WHERE server = ?", server)
        let accepted = try t.all(
            "SELECT tool FROM mcp_tools WHERE server = ? AND accepted IS NOT NULL", server
        ) { row throws(SQLiteError) in try row.get(0, as: String.self) }
        for tool in accepted where !trustsFirst(tool) {
            try t.run("UPDATE mcp_tools SET accepted = NULL WHERE server = ? AND tool = ?", server, tool)
        }
    }

    /// Forgets servers whose names begin so: what they served is gone.
    package func forget(prefix: String) throws(AegisError) {
        _ = try database.transaction(.saved) { t throws(SQLiteError) in
            let end = prefix + "\u{10FFFF}"
            try t.run("DELETE FROM mcp_servers WHERE name >= ? AND name < ?", prefix, end)
            try t.run("DELETE FROM mcp_tools WHERE server >= ? AND server < ?", prefix, end)
            return true
        }
    }

    /// Keeps that a person agreed to a definition.
    package func accept(_ server: String, _ definition: MCPToolDefinition) throws(AegisError) {
        _ = try database.transaction(.saved) { t throws(SQLiteError) in
            try t.run(
                "UPDATE mcp_tools SET accepted = ?, agreed = ? WHERE server = ? AND tool = ?", definition.hash,
                definition.hash, server, definition.name)
        }
    }
}
