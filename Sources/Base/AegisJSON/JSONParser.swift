/// Reads one JSON text (RFC 8259), strictly and with bounds.
struct JSONParser {
    /// The deepest nesting that is read.
    static let maximumDepth = 64

    private let bytes: ArraySlice<UInt8>
    private let duplicates: JSONValue.Duplicates
    private var at: Int

    init(_ bytes: ArraySlice<UInt8>, duplicates: JSONValue.Duplicates) {
        self.bytes = bytes
        self.duplicates = duplicates
        at = bytes.startIndex
    }

    private func failure(_ reason: String) -> JSONError { JSONError(reason: reason, offset: at - bytes.startIndex) }
    private var current: UInt8? { at < bytes.endIndex ? bytes[at] : nil }

    /// The whole text as one value.
    mutating func document() throws(JSONError) -> JSONValue {
        let value = try self.value(depth: 0)
        skipSpace()
        guard at == bytes.endIndex else { throw failure("something follows the value") }
        return value
    }

    private mutating func skipSpace() {
        while let byte = current, byte == 32 || byte == 10 || byte == 13 || byte == 9 { at += 1 }
    }

    private mutating func value(depth: Int) throws(JSONError) -> JSONValue {
        guard depth < Self.maximumDepth else { throw failure("nested deeper than \(Self.maximumDepth)") }
        skipSpace()
        guard let first = current else { throw failure("the text ends early") }
        switch first {
        case UInt8(ascii: "{"): return try object(depth: depth)
        case UInt8(ascii: "["): return try array(depth: depth)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number(try number())
        default: throw failure("a value was expected")
        }
    }

    private mutating func word(_ word: String, _ value: JSONValue) throws(JSONError) -> JSONValue {
        guard bytes[at...].starts(with: word.utf8) else { throw failure("'\(word)' was expected") }
        at += word.utf8.count
        return value
    }

    private mutating func object(depth: Int) throws(JSONError) -> JSONValue {
        at += 1
        var fields: [JSONValue.Field] = []
        var names: Set<String> = []
        skipSpace()
        if current == UInt8(ascii: "}") {
            at += 1
            return .object(fields)
        }
        while true {
            skipSpace()
            guard current == UInt8(ascii: "\"") else { throw failure("a field name was expected") }
            let name = try string()
            if duplicates == .refuse, !names.insert(name).inserted { throw failure("the field '\(name)' comes twice") }
            skipSpace()
            guard current == UInt8(ascii: ":") else { throw failure("':' was expected") }
            at += 1
            fields.append(JSONValue.Field(name, try value(depth: depth + 1)))
            skipSpace()
            switch current {
            case UInt8(ascii: ","): at += 1
            case UInt8(ascii: "}"):
                at += 1
                return .object(fields)
            default: throw failure("',' or '}' was expected")
            }
        }
    }

    private mutating func array(depth: Int) throws(JSONError) -> JSONValue {
        at += 1
        var elements: [JSONValue] = []
        skipSpace()
        if current == UInt8(ascii: "]") {
            at += 1
            return .array(elements)
        }
        while true {
            elements.append(try value(depth: depth + 1))
            skipSpace()
            switch current {
            case UInt8(ascii: ","): at += 1
            case UInt8(ascii: "]"):
                at += 1
                return .array(elements)
            default: throw failure("',' or ']' was expected")
            }
        }
    }

    private mutating func digits() throws(JSONError) {
        let start = at
        while let byte = current, (48...57).contains(byte) { at += 1 }
        guard at > start else { throw failure("a digit was expected") }
    }

    private mutating func number() throws(JSONError) -> String {
        let start = at
        if current == UInt8(ascii: "-") { at += 1 }
        if current == UInt8(ascii: "0") { at += 1 } else { try digits() }
        if current == UInt8(ascii: ".") {
            at += 1
            try digits()
        }
        if current == UInt8(ascii: "e") || current == UInt8(ascii: "E") {
            at += 1
            if current == UInt8(ascii: "+") || current == UInt8(ascii: "-") { at += 1 }
            try digits()
        }
        return String(decoding: bytes[start..<at], as: UTF8.self)
    }

    private mutating func string() throws(JSONError) -> String {
        at += 1
        let start = at
        while let byte = current, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 32 { at += 1 }
        if current == UInt8(ascii: "\"") {
            defer { at += 1 }
            return try text(bytes[start..<at])
        }
        var out = Array(bytes[start..<at])
        while let byte = current {
            switch byte {
            case UInt8(ascii: "\""):
                at += 1
                return try text(out[...])
            case UInt8(ascii: "\\"):
                at += 1
                try escape(into: &out)
            case 0..<32: throw failure("a control character stands in a string")
            default:
                out.append(byte)
                at += 1
            }
        }
        throw failure("a string is not closed")
    }

    private func text(_ slice: ArraySlice<UInt8>) throws(JSONError) -> String {
        guard let text = String(validating: slice, as: UTF8.self) else { throw failure("a string is not UTF-8") }
        return text
    }

    private mutating func escape(into out: inout [UInt8]) throws(JSONError) {
        guard let byte = current else { throw failure("a string is not closed") }
        at += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): out.append(byte)
        case UInt8(ascii: "b"): out.append(8)
        case UInt8(ascii: "f"): out.append(12)
        case UInt8(ascii: "n"): out.append(10)
        case UInt8(ascii: "r"): out.append(13)
        case UInt8(ascii: "t"): out.append(9)
        case UInt8(ascii: "u"): try unicodeEscape(into: &out)
        default: throw failure("an unknown escape")
        }
    }

    /// `\uXXXX`, with its second half when it is a surrogate; a lone surrogate becomes U+FFFD.
    private mutating func unicodeEscape(into out: inout [UInt8]) throws(JSONError) {
        let first = try fourHex()
        var scalar = Unicode.Scalar(UInt32(first))
        if UTF16.isLeadSurrogate(first), bytes[at...].starts(with: #"\u"#.utf8) {
            let back = at
            at += 2
            let second = try fourHex()
            if UTF16.isTrailSurrogate(second) {
                scalar = Unicode.Scalar(0x10000 + (UInt32(first & 0x3ff) << 10 | UInt32(second & 0x3ff)))
            } else {
                at = back
            }
        }
        out.append(contentsOf: String(scalar ?? "\u{fffd}").utf8)
    }

    private mutating func fourHex() throws(JSONError) -> UInt16 {
        guard at + 4 <= bytes.endIndex else { throw failure("four hexadecimal digits were expected") }
        var value: UInt16 = 0
        for _ in 0..<4 {
            switch bytes[at] {
            case 48...57: value = value << 4 | UInt16(bytes[at] - 48)
            case 65...70: value = value << 4 | UInt16(bytes[at] - 55)
            case 97...102: value = value << 4 | UInt16(bytes[at] - 87)
            default: throw failure("four hexadecimal digits were expected")
            }
            at += 1
        }
        return value
    }
}

extension JSONValue {
    /// What happens to a field that an object has twice.
    package enum Duplicates: Sendable {
        /// Both are kept; the first one counts.
        case keep
        /// It is an error: two readers of the text could take different ones (RFC 8259, section 4).
        case refuse
    }

    /// Reads one JSON text; anything after it but white space is an error.
    ///
    /// - Throws: `JSONError` with the place.
    package init(parsing bytes: some Collection<UInt8>, duplicates: Duplicates = .keep) throws(JSONError) {
        var parser = JSONParser(ArraySlice(bytes), duplicates: duplicates)
        self = try parser.document()
    }
}
