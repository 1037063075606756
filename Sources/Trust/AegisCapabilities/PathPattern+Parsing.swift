extension PathPattern {
    /// Reads a pattern.
    ///
    /// - Throws: where it is not one, and the nearest that is.
    init(parsing text: String) throws(ValueProblem) {
        let bytes = Array(text.utf8)
        guard bytes.first == Self.slash else {
            let problem = text == "*" || text == "**" ? "write every file as '/**'" : "a path must start with '/'"
            throw ValueProblem(0, problem, nearest: Self.repaired(text))
        }
        guard bytes.count <= Self.longest else {
            throw ValueProblem(Self.longest, "a pattern has at most \(Self.longest) bytes")
        }
        guard bytes.last != 0x20 else {
            let near = Self.repaired(text.trimmingSpaces)
            throw ValueProblem(bytes.count - 1, "a pattern does not end with a space; write '?' for it", nearest: near)
        }
        guard bytes.count > 1 else {
            self.init([])
            return
        }
        var components: [Component] = []
        var offset = 1
        for part in bytes.dropFirst().split(separator: Self.slash, omittingEmptySubsequences: false) {
            do {
                components.append(try Self.component(Array(part), isLast: offset + part.count == bytes.count))
            } catch {
                throw ValueProblem(offset + error.offset, error.problem, nearest: Self.repaired(text))
            }
            offset += part.count + 1
        }
        guard components.count <= Self.mostComponents else {
            throw ValueProblem(0, "a pattern has at most \(Self.mostComponents) components")
        }
        self.init(components)
    }

    private static func component(_ part: [UInt8], isLast: Bool) throws(ValueProblem) -> Component {
        switch part {
        case []: throw ValueProblem(0, isLast ? "a path does not end with '/'" : "there is nothing between two '/'")
        case [0x2e]: throw ValueProblem(0, "'.' is not a component of a canonical path")
        case [0x2e, 0x2e]: throw ValueProblem(0, "'..' is not a component of a canonical path")
        case [star, star]: return .tree
        default: break
        }
        guard part.count <= CanonicalPath.longestComponent else {
            throw ValueProblem(0, "a component has at most \(CanonicalPath.longestComponent) bytes")
        }
        for (index, byte) in part.enumerated() {
            if let problem = problem(of: byte) { throw ValueProblem(index, problem) }
            if byte == star, index > 0, part[index - 1] == star {
                throw ValueProblem(index - 1, "'**' must be a whole component")
            }
        }
        return part.contains { $0 == star || $0 == question } ? .glob(part) : .literal(part)
    }

    private static func problem(of byte: UInt8) -> String? {
        switch byte {
        case 0..<0x20, 0x7f: "a pattern contains no control characters; '?' stands for any one character"
        case UInt8(ascii: "["), UInt8(ascii: "]"), UInt8(ascii: "{"), UInt8(ascii: "}"), UInt8(ascii: "\\"):
            "only '*', '?' and '**' are wildcards; write '?' for the character '\(Character(Unicode.Scalar(byte)))'"
        default: nil
        }
    }

    /// A pattern near a text that is none; nil when there is none that says no more than the text.
    private static func repaired(_ text: String) -> String? {
        let isRelative = !text.hasPrefix("/")
        var parts: [[UInt8]] = []
        for part in text.utf8.split(separator: slash) {
            var part = Array(part)
            switch part {
            case [0x2e]: continue
            case [0x2e, 0x2e]:
                // What `..` after a wildcard means cannot be said; and nothing lies above the root.
                guard let last = parts.last, !last.contains(star), !last.contains(question) else { return nil }
                parts.removeLast()
                continue
            case [star, star]: break
            default:
                var repaired: [UInt8] = []
                for byte in part where !(byte == star && repaired.last == star) {
                    repaired.append(problem(of: byte) == nil ? byte : question)
                }
                part = repaired
            }
            parts.append(part)
        }
        // A relative path is meant below the workspace, where an agent's files are.
        if isRelative, text != "*", text != "**" { parts.insert(Array("workspace".utf8), at: 0) }
        if text.hasPrefix("~") { return nil }
        let candidate = "/" + parts.map { String(decoding: $0, as: UTF8.self) }.joined(separator: "/")
        return (try? PathPattern(parsing: candidate, orNil: ()))?.description
    }

    /// Reads without a repair, so that a repair does not call itself.
    private init?(parsing text: String, orNil: Void) throws(ValueProblem) {
        guard text.utf8.first == Self.slash, text.utf8.count <= Self.longest else { return nil }
        var components: [Component] = []
        for part in text.utf8.split(separator: Self.slash) {
            components.append(try Self.component(Array(part), isLast: true))
        }
        guard components.count <= Self.mostComponents else { return nil }
        self.init(components)
    }
}
