extension JSONValue {
    /// The text without any white space.
    package var compact: [UInt8] {
        var out: [UInt8] = []
        append(to: &out)
        return out
    }

    /// The text for people: two spaces a level, a field a line, no newline at the end.
    package var pretty: String {
        var out: [UInt8] = []
        appendPretty(to: &out, level: 0)
        return String(decoding: out, as: UTF8.self)
    }

    /// Appends the text without any white space.
    package func append(to out: inout [UInt8]) {
        switch self {
        case .null: out.append(contentsOf: "null".utf8)
        case .bool(let flag): out.append(contentsOf: (flag ? "true" : "false").utf8)
        case .number(let text): out.append(contentsOf: text.utf8)
        case .string(let text): Self.appendQuoted(text, to: &out)
        case .array(let elements):
            out.append(UInt8(ascii: "["))
            for (index, element) in elements.enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                element.append(to: &out)
            }
            out.append(UInt8(ascii: "]"))
        case .object(let fields):
            out.append(UInt8(ascii: "{"))
            for (index, field) in fields.enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                Self.appendQuoted(field.name, to: &out)
                out.append(UInt8(ascii: ":"))
                field.value.append(to: &out)
            }
            out.append(UInt8(ascii: "}"))
        }
    }

    private func appendPretty(to out: inout [UInt8], level: Int) {
        func newline(_ level: Int) {
            out.append(10)
            out.append(contentsOf: repeatElement(32, count: 2 * level))
        }
        switch self {
        case .array(let elements) where !elements.isEmpty:
            out.append(UInt8(ascii: "["))
            for (index, element) in elements.enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                newline(level + 1)
                element.appendPretty(to: &out, level: level + 1)
            }
            newline(level)
            out.append(UInt8(ascii: "]"))
        case .object(let fields) where !fields.isEmpty:
            out.append(UInt8(ascii: "{"))
            for (index, field) in fields.enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                newline(level + 1)
                Self.appendQuoted(field.name, to: &out)
                out.append(contentsOf: ": ".utf8)
                field.value.appendPretty(to: &out, level: level + 1)
            }
            newline(level)
            out.append(UInt8(ascii: "}"))
        default: append(to: &out)
        }
    }

    /// Appends a string literal; control characters (C0, DEL and C1) are escaped: no terminal ever acts on them.
    package static func appendQuoted(_ text: String, to out: inout [UInt8]) {
        out.append(UInt8(ascii: "\""))
        defer { out.append(UInt8(ascii: "\"")) }
        // Nearly all texts are plain ASCII: no need to look at scalars then.
        let isPlain = unsafe text.utf8.withContiguousStorageIfAvailable { bytes in
            guard unsafe bytes.allSatisfy({ (0x20..<0x7f).contains($0) && $0 != 0x22 && $0 != 0x5c }) else {
                return false
            }
            unsafe out.append(contentsOf: bytes)
            return true
        }
        if isPlain == true { return }
        for scalar in text.unicodeScalars {
            switch scalar.value {
            case 0x22, 0x5c:
                out.append(UInt8(ascii: "\\"))
                out.append(UInt8(truncatingIfNeeded: scalar.value))
            case 10: out.append(contentsOf: #"\n"#.utf8)
            case 13: out.append(contentsOf: #"\r"#.utf8)
            case 9: out.append(contentsOf: #"\t"#.utf8)
            case 0..<0x20, 0x7f..<0xa0:
                let digits = Array("0123456789abcdef".utf8)
                out.append(contentsOf: #"\u00"#.utf8)
                out.append(digits[Int(scalar.value >> 4)])
                out.append(digits[Int(scalar.value & 15)])
            case 0..<0x80: out.append(UInt8(truncatingIfNeeded: scalar.value))
            default: out.append(contentsOf: UTF8.encode(scalar) ?? .init())
            }
        }
    }
}
