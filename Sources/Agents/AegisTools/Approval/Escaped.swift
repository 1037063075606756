/// Text of others as people may see it: no control, no direction, no invisible character acts on a terminal or disguises a word.
package enum Escaped {
    /// One line: what ends lines is escaped too.
    ///
    /// - Parameters:
    ///   - text: what somebody else wrote.
    ///   - limit: how many characters are shown.
    /// - Returns: the text, with `…` where it was cut.
    package static func line(_ text: String, atMost limit: Int) -> String { escape(text, limit, keeping: []) }

    /// Several lines: newlines and tabs stay.
    ///
    /// - Parameters:
    ///   - text: what somebody else wrote.
    ///   - limit: how many characters are shown.
    /// - Returns: the text, with `…` where it was cut.
    package static func block(_ text: String, atMost limit: Int) -> String {
        escape(text, limit, keeping: ["\n", "\t"])
    }

    private static func escape(_ text: String, _ limit: Int, keeping kept: Set<Unicode.Scalar>) -> String {
        var out = String.UnicodeScalarView()
        var count = 0
        for scalar in text.unicodeScalars {
            guard count < limit else {
                out.append("…")
                break
            }
            count += 1
            if (0x20..<0x7f).contains(scalar.value) || kept.contains(scalar) {
                out.append(scalar)
            } else if isHidden(scalar) {
                out.append(contentsOf: "\\u{\(String(scalar.value, radix: 16))}".unicodeScalars)
            } else {
                out.append(scalar)
            }
        }
        return String(out)
    }

    /// Control, format (bidi among them), private and unassigned characters; separators other than the space; and those
    /// that are drawn as nothing at all.
    private static func isHidden(_ scalar: Unicode.Scalar) -> Bool {
        let properties = scalar.properties
        switch properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator: return true
        case .spaceSeparator: return scalar != " "
        default: return properties.isDefaultIgnorableCodePoint
        }
    }
}
