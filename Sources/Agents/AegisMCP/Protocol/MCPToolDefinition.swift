package import AegisJSON
internal import CSodium

/// A tool as its server describes it, with everything that a model would read made safe to show.
package struct MCPToolDefinition: Sendable, Hashable {
    /// The server's own name of it.
    package var name: String
    /// What it does, as the server says; bounded and clean.
    package var description: String
    /// The JSON Schema of its input; bounded and clean.
    package var schema: JSONValue
    /// SHA-256 of name, description and schema, as they are shown: what an approval is of.
    package var hash: String

    /// The most bytes of a description, and of a schema.
    static let longestDescription = 4 << 10
    static let largestSchema = 64 << 10

    /// Reads an entry of `tools/list`.
    ///
    /// - Throws: `MCPMalformed`, which says why the tool cannot be offered.
    package init(_ value: JSONValue) throws(MCPMalformed) {
        guard let name = value["name"]?.text else { throw MCPMalformed(why: "a tool without a name") }
        let shown = MCPText.line(name, most: 80)
        let isPlain = name.utf8.allSatisfy {
            (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0)
                || $0 == 0x5f || $0 == 0x2d || $0 == 0x2e
        }
        guard isPlain, (1...100).contains(name.utf8.count) else {
            throw MCPMalformed(why: "'\(shown)': a name is 1 to 100 of A-Z, a-z, 0-9, '_', '-' and '.'")
        }
        guard let given = value["inputSchema"], given.fields != nil else {
            throw MCPMalformed(why: "'\(shown)' has no input schema")
        }
        guard let schema = MCPText.tree(given, most: Self.largestSchema) else {
            throw MCPMalformed(
                why: "'\(shown)': its input schema is larger than \(Self.largestSchema) bytes, or too deep")
        }
        let said = value["description"]?.text ?? value["title"]?.text ?? value["annotations"]?["title"]?.text ?? ""
        self.init(
            name: name, description: MCPText.block(said, most: Self.longestDescription), schema: schema)
    }

    init(name: String, description: String, schema: JSONValue) {
        self.name = name
        self.description = description
        self.schema = schema
        let whole: JSONValue = [
            "description": .string(description), "name": .string(name), "schema": schema,
        ]
        hash = Self.digest(whole.canonical)
    }

    /// The definition as it is kept.
    package var kept: JSONValue {
        ["name": .string(name), "description": .string(description), "inputSchema": schema]
    }

    static func digest(_ bytes: [UInt8]) -> String {
        var digest = [UInt8](repeating: 0, count: 32)
        // SAFETY: reads `count` bytes, writes 32.
        _ = unsafe crypto_hash_sha256(&digest, bytes, UInt64(bytes.count))
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: digest.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
