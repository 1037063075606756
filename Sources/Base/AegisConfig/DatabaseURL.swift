/// Where the records of a daemon are, as a configuration names it: `sqlite`, `sqlite:///srv/records/aegis.db`,
/// `sqlite:records/aegis.db`, or a path. There is no server that it could name.
package struct DatabaseURL: ConfigScalar, Equatable {
    /// The file as it was given; nil is the one in the home.
    package let path: String?
    /// What is wrong with it; nil when nothing is.
    package let problem: String?
    package let configText: String

    package static var expectation: String { "the place of a SQLite database" }
    /// What may be written, for messages.
    private static let possible = "sqlite, sqlite:///ABSOLUTE/FILE, sqlite:RELATIVE/FILE or a path"

    /// Reads a text; one that names no such place has a problem.
    package init(configText text: String) {
        let (path, problem) = Self.read(text)
        self.path = path
        self.problem = problem.map { "\($0): give \(Self.possible)" }
        configText = text
    }

    private static func read(_ text: String) -> (path: String?, problem: String?) {
        if text == "sqlite" || text == "sqlite:" || text == "sqlite://" { return (nil, nil) }
        if let rest = text.dropping(prefix: "sqlite:") { return file(ofURL: rest) }
        if let colon = text.firstIndex(of: ":"), isScheme(text[..<colon]) {
            return (
                nil,
                "is '\(text[..<colon])', and records are kept in SQLite only (AEGIS_DATABASE_URL goes before a DATABASE_URL"
                    + " that is another program's)"
            )
        }
        guard !isConnectionString(text) else { return (nil, "is a connection string, as servers have it") }
        guard text.contains("/") || [".db", ".sqlite", ".sqlite3"].contains(where: text.hasSuffix) else {
            return (nil, "is neither 'sqlite' nor a path")
        }
        return file(text)
    }

    /// What follows `sqlite:`.
    private static func file(ofURL rest: String) -> (path: String?, problem: String?) {
        guard !rest.contains(where: { "?#%".contains($0) }) else {
            return (nil, "has '?', '#' or '%', which mean nothing here")
        }
        guard rest.hasPrefix("//") else { return file(rest) }
        // One more slash than needed is how some write an absolute path.
        guard rest.hasPrefix("///") else { return (nil, "names a host after '//'") }
        return file("/" + rest.drop { $0 == "/" })
    }

    private static func file(_ path: String) -> (path: String?, problem: String?) {
        if path == ":memory:" { return (nil, "is memory that nothing outlives") }
        guard !path.hasSuffix("/"), path.utf8.count <= 1024, !path.unicodeScalars.contains(where: { $0.value < 32 }),
            !path.split(separator: "/").contains("..")
        else { return (nil, "is not the path of a file without '..'") }
        return (path, nil)
    }

    /// Whether it may be `host=... password=...`, which is no path of a file that anybody has chosen for this.
    private static func isConnectionString(_ text: String) -> Bool { text.contains("=") && !text.hasPrefix("/") }

    private static func isScheme(_ text: Substring) -> Bool {
        text.utf8.count > 1
            && text.utf8.allSatisfy {
                (0x61...0x7a).contains($0) || (0x41...0x5a).contains($0) || (0x30...0x39).contains($0)
                    || [0x2b, 0x2d, 0x2e].contains($0)
            }
    }

    package static func quotable(_ text: String) -> String { Self.withoutSecrets(text) }

    /// An address without what may be a password in it: who asks, and what follows a '?'.
    package static func withoutSecrets(_ text: String) -> String {
        guard let scheme = text.firstRange(of: "://") else { return isConnectionString(text) ? "•••" : text }
        let rest = text[scheme.upperBound...]
        let place = rest.lastIndex(of: "@").map { "•••@\(rest[rest.index(after: $0)...])" } ?? String(rest)
        // Some take it as a parameter.
        let cut = place.firstIndex(of: "?").map { place[..<$0] + "?•••" } ?? place[...]
        return String(text[..<scheme.upperBound] + cut)
    }
}
