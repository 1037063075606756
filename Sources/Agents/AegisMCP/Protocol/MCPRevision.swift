internal import AegisCore
internal import AegisJSON

/// Revisions of the protocol, named by their dates.
package enum MCPRevision {
    /// The one without sessions: each request says what it is of, and `server/discover` stands in the place of `initialize`.
    package static let stateless = "2026-07-28"
    /// Those that begin with `initialize`, the one that is asked for first. Their messages about tools are the same.
    package static let withSession = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]

    /// Which revision a server is spoken to in.
    package enum Choice: String, Sendable, CaseIterable {
        /// The newest that both sides know.
        case auto
        /// Only with `initialize`, at most this one.
        case session = "2025-11-25"
        /// Only without sessions.
        case stateless = "2026-07-28"
    }
}

/// What is known of a server after the first words with it.
package struct MCPHello: Sendable, Hashable {
    /// The revision that is spoken.
    package var revision: String
    /// What the server calls itself, and its version; text of others, for showing only.
    package var software: String
    /// Whether it has tools.
    package var hasTools: Bool
    /// Whether it tells when its tools change.
    package var tellsChanges: Bool

    var isStateless: Bool { revision == MCPRevision.stateless }

    init(revision: String, software: JSONValue?, capabilities: JSONValue?) {
        self.revision = revision
        let words = [software?["name"]?.text, software?["version"]?.text].compactMap(\.self)
        self.software = MCPText.line(words.joined(separator: " "), most: 120)
        // Servers that say nothing of their capabilities are asked all the same.
        hasTools = capabilities?["tools"] != nil || capabilities == nil
        tellsChanges = capabilities?["tools"]?["listChanged"]?.flag ?? false
    }
}
