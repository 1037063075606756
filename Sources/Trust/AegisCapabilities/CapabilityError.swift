package import AegisCore

/// A capability, grant or request that cannot be read: where, what is wrong, and the nearest form that can be.
package struct CapabilityError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The text as it was given.
    package var text: String
    /// Where in the text, in characters, from 1.
    package var column: Int
    /// The key of a grant written as a map whose value this is; nil for a text of its own.
    package var field: String?
    /// What is wrong there.
    package var problem: String
    /// The nearest text that can be read; nil when nothing is near.
    package var nearest: String?

    package var description: String {
        let place = field.map { "in \($0), column \(column)" } ?? "column \(column)"
        return "'\(shown(text))', \(place): \(problem)" + (nearest.map { "; nearest valid form: \($0)" } ?? "")
    }

    /// The same as an error for the reader: `invalid-capability`, exit 2, status 400.
    package var asAegisError: AegisError {
        let place = field.map { "in \($0), column \(column)" } ?? "column \(column)"
        return AegisError(
            .usage, "invalid-capability", "'\(shown(text))', \(place): \(problem)",
            hint: nearest.map { "the nearest valid form is \($0)" })
    }
}

/// What is wrong with a value, before it is known in which text the value stands.
struct ValueProblem: Error {
    /// Bytes from the start of the value.
    var offset: Int
    var problem: String
    /// The nearest value that can be read.
    var nearest: String?

    init(_ offset: Int, _ problem: String, nearest: String? = nil) {
        self.offset = offset
        self.problem = problem
        self.nearest = nearest
    }

    /// The same problem in a text in which the value starts at a byte and follows a prefix.
    func within(_ text: String, at start: Int, prefix: String = "", field: String? = nil) -> CapabilityError {
        let bytes = text.utf8.prefix(min(start + offset, text.utf8.count))
        return CapabilityError(
            text: text, column: String(decoding: bytes, as: UTF8.self).count + 1, field: field, problem: problem,
            nearest: nearest.map { prefix + $0 })
    }

    /// The same problem of a part that starts at a byte of the value.
    func shifted(by bytes: Int, nearest: ((String) -> String)? = nil) -> ValueProblem {
        ValueProblem(offset + bytes, problem, nearest: nearest.flatMap { make in self.nearest.map(make) })
    }
}

/// Text as it may be shown: without control, format and bidirectional characters, and not without end.
func shown(_ text: String) -> String {
    if text.utf8.count <= 200, text.utf8.allSatisfy({ (0x20..<0x7f).contains($0) }) { return text }
    var out = ""
    for scalar in text.unicodeScalars {
        guard out.unicodeScalars.count < 200 else { return out + "…" }
        switch scalar.properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator:
            out += "\\u{\(String(scalar.value, radix: 16))}"
        default: out.unicodeScalars.append(scalar)
        }
    }
    return out
}

/// What a byte may be in names.
enum Letters {
    static func isDigit(_ byte: UInt8) -> Bool { (48...57).contains(byte) }
    static func isLower(_ byte: UInt8) -> Bool { (97...122).contains(byte) }
    static func isUpper(_ byte: UInt8) -> Bool { (65...90).contains(byte) }
    static func isAlphanumeric(_ byte: UInt8) -> Bool { isDigit(byte) || isLower(byte) || isUpper(byte) }
    static func lowered(_ byte: UInt8) -> UInt8 { isUpper(byte) ? byte | 0x20 : byte }
    static func isHex(_ byte: UInt8) -> Bool {
        isDigit(byte) || (97...102).contains(byte) || (65...70).contains(byte)
    }
}
