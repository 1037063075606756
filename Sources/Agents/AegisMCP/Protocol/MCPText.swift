package import AegisJSON

/// Text of MCP servers, as models and people may see it (decision D14): bounded, and without characters that act on a terminal,
/// turn directions around or are drawn as nothing.
package enum MCPText {
    /// A text of several lines.
    package static func block(_ text: String, most: Int) -> String { clean(text, most, keeping: ["\n", "\t"]) }

    /// A text of one line; what ends lines becomes a space.
    package static func line(_ text: String, most: Int) -> String { clean(text, most, keeping: []) }

    private static func clean(_ text: String, _ most: Int, keeping kept: Set<Unicode.Scalar>) -> String {
        var out = String.UnicodeScalarView()
        var size = 0
        for scalar in text.unicodeScalars {
            guard !isHidden(scalar) || kept.contains(scalar) else {
                if kept.isEmpty, scalar == "\n" || scalar == "\t" {
                    out.append(" ")
                    size += 1
                }
                continue
            }
            size += UTF8.width(scalar)
            guard size <= most else {
                out.append("…")
                break
            }
            out.append(scalar)
        }
        return String(out)
    }

    private static func isHidden(_ scalar: Unicode.Scalar) -> Bool {
        if (0x20..<0x7f).contains(scalar.value) { return false }
        let properties = scalar.properties
        switch properties.generalCategory {
        case .control, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator: return true
        // Joiners make one sign of several, in writing and in emoji; every other format character hides or turns something.
        case .format: return scalar != "\u{200d}" && scalar != "\u{200c}"
        default:
            // Variation selectors of emoji and the like change how a sign looks; tags and fillers carry text that nobody sees.
            return properties.isDefaultIgnorableCodePoint && !(0xfe00...0xfe0f).contains(scalar.value)
        }
    }

    /// A tree whose texts, also the names of members, are clean; nil when it is larger or deeper than is taken.
    package static func tree(_ value: JSONValue, most: Int, depth: Int = 64) -> JSONValue? {
        var left = most
        return tree(value, &left, depth)
    }

    private static func tree(_ value: JSONValue, _ left: inout Int, _ depth: Int) -> JSONValue? {
        guard depth > 0 else { return nil }
        switch value {
        case .null, .bool: left -= 4
        case .number(let text): left -= text.utf8.count
        case .string(let text):
            left -= text.utf8.count + 2
            guard left >= 0 else { return nil }
            return .string(block(text, most: text.utf8.count))
        case .array(let elements):
            left -= 2
            var clean: [JSONValue] = []
            for element in elements {
                guard left >= 0, let element = tree(element, &left, depth - 1) else { return nil }
                clean.append(element)
            }
            return .array(clean)
        case .object(let fields):
            left -= 2
            var clean: [JSONValue.Field] = []
            for field in fields {
                left -= field.name.utf8.count + 4
                guard left >= 0, let value = tree(field.value, &left, depth - 1) else { return nil }
                clean.append(JSONValue.Field(line(field.name, most: field.name.utf8.count), value))
            }
            return .object(clean)
        }
        return left >= 0 ? value : nil
    }
}
