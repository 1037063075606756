internal import AegisConfig
package import AegisCore

/// A header field for a server, whose value may end with a secret: `Authorization: "Bearer secret:TOKEN"`.
package struct MCPHeader: Sendable, Hashable {
    package var name: String
    /// What stands before the secret, or the whole value.
    package var text: String
    /// The secret that stands at the end.
    package var secret: String?

    /// Reads a value.
    package init(_ name: String, _ value: String) {
        self.name = name
        let last = value.split(separator: " ", omittingEmptySubsequences: false).last ?? ""
        if last.hasPrefix("secret:"), last.count > 7 {
            secret = String(last.dropFirst(7))
            text = String(value.dropLast(last.count))
        } else {
            text = value
        }
    }

    /// The value as it is sent.
    ///
    /// - Parameter reveal: gives the value of a secret.
    /// - Returns: the value.
    /// - Throws: what `reveal` throws.
    package func value(_ reveal: (String) throws(AegisError) -> String) throws(AegisError) -> String {
        guard let secret else { return text }
        return text + (try reveal(secret))
    }

    /// Fields that this client sets itself.
    private static let own = [
        "accept", "content-type", "content-length", "host", "connection", "transfer-encoding", "mcp-session-id",
        "mcp-protocol-version", "mcp-method", "mcp-name", "last-event-id",
    ]

    /// Reads `headers` of an entry. Values are taken as they stand: the secret store is not open yet.
    static func read(_ reader: ConfigReader) -> [MCPHeader] {
        reader.readRaw("headers") { node, problem in
            guard case .map(let entries) = node.content else {
                problem(node, "a map of header fields is expected")
                return nil
            }
            return entries.compactMap { entry in
                guard case .scalar(let value, _) = entry.value.content else {
                    problem(entry.value, "the value of '\(entry.key)' must be a text")
                    return nil
                }
                let isToken = entry.key.utf8.allSatisfy {
                    (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0) || $0 == 0x2d
                }
                guard isToken, !entry.key.isEmpty, !own.contains(entry.key.lowercased()),
                    !entry.key.lowercased().hasPrefix("mcp-param-")
                else {
                    problem(entry.value, "'\(entry.key)' cannot be set")
                    return nil
                }
                guard value.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7f }), value.utf8.count <= 8192 else {
                    problem(entry.value, "the value of '\(entry.key)' must be one line of ASCII")
                    return nil
                }
                return MCPHeader(entry.key, value)
            }
        } ?? []
    }
}
