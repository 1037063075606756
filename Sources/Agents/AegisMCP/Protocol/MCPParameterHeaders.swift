internal import AegisJSON

/// Parameters that a tool's schema wants told in header fields too (`x-mcp-header`, revision 2026-07-28).
enum MCPParameterHeaders {
    /// Header fields that a tool may have.
    private static let most = 32

    /// The fields of a call; none when the schema has none that are right.
    static func values(of input: JSONValue, schema: JSONValue) -> [(name: String, value: String)] {
        guard let places = try? places(in: schema) else { return [] }
        return places.compactMap { place in
            var value: JSONValue? = input
            for key in place.path { value = value?[key] }
            let text: String? =
                switch value {
                case .string(let text): text
                case .bool(let flag): flag ? "true" : "false"
                case .number(let text): text
                default: nil
                }
            return text.map { ("Mcp-Param-\(place.name)", encoded($0)) }
        }
    }

    /// What is wrong with the annotations of a schema; nil when nothing is.
    static func problem(in schema: JSONValue) -> String? {
        do throws(MCPMalformed) { _ = try places(in: schema) } catch { return error.why }
        return nil
    }

    private struct Place {
        var name: String
        var path: [String]
    }

    private static func places(in schema: JSONValue) throws(MCPMalformed) -> [Place] {
        var found: [Place] = []
        var reachable = 0
        try walk(schema, [], &found, &reachable)
        guard count(schema) == reachable else {
            throw MCPMalformed(why: "'x-mcp-header' stands where no parameter is")
        }
        guard Set(found.map { $0.name.lowercased() }).count == found.count, found.count <= most else {
            throw MCPMalformed(why: "two parameters share one header, or there are more than \(most)")
        }
        return found
    }

    private static func walk(
        _ schema: JSONValue, _ path: [String], _ found: inout [Place], _ reachable: inout Int
    ) throws(MCPMalformed) {
        for field in schema["properties"]?.fields ?? [] {
            let here = path + [field.name]
            if let header = field.value["x-mcp-header"] {
                reachable += 1
                guard let name = header.text, isToken(name) else {
                    throw MCPMalformed(why: "'x-mcp-header' of '\(field.name)' is no name of a header")
                }
                guard ["string", "integer", "boolean"].contains(field.value["type"]?.text ?? "") else {
                    throw MCPMalformed(why: "'\(field.name)' is of no type that a header can carry")
                }
                found.append(Place(name: name, path: here))
            }
            try walk(field.value, here, &found, &reachable)
        }
    }

    /// How often a schema has the annotation, also where it means nothing. A parameter may be called so.
    private static func count(_ value: JSONValue, isProperties: Bool = false) -> Int {
        switch value {
        case .object(let fields):
            fields.reduce(0) { sum, field in
                sum + (!isProperties && field.name == "x-mcp-header" ? 1 : 0)
                    + count(field.value, isProperties: !isProperties && field.name == "properties")
            }
        case .array(let elements): elements.reduce(0) { $0 + count($1) }
        default: 0
        }
    }

    private static func isToken(_ name: String) -> Bool {
        let marks = Array("!#$%&'*+-.^_`|~".utf8)
        return (1...64).contains(name.utf8.count)
            && name.utf8.allSatisfy {
                (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0)
                    || marks.contains($0)
            }
    }

    /// A value as a header field carries it: in base64 when it is not plain.
    static func encoded(_ text: String) -> String {
        let bytes = Array(text.utf8)
        let isPlain = bytes.allSatisfy { ($0 >= 0x20 && $0 < 0x7f) || $0 == 9 }
        let edges: Set<UInt8> = [0x20, 9]
        let isTrimmed = !(bytes.first.map(edges.contains) ?? false) && !(bytes.last.map(edges.contains) ?? false)
        let looksEncoded = text.hasPrefix("=?base64?") && text.hasSuffix("?=")
        guard !isPlain || !isTrimmed || looksEncoded else { return text }
        return "=?base64?\(base64(bytes))?="
    }

    private static func base64(_ bytes: [UInt8]) -> String {
        let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        var out: [UInt8] = []
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let group = bytes[start..<min(start + 3, bytes.count)]
            var bits: UInt32 = 0
            for index in 0..<3 { bits = bits << 8 | (index < group.count ? UInt32(group[start + index]) : 0) }
            for index in 0..<4 {
                out.append(index <= group.count ? letters[Int(bits >> UInt32(18 - 6 * index)) & 63] : 0x3d)
            }
        }
        return String(decoding: out, as: UTF8.self)
    }
}
