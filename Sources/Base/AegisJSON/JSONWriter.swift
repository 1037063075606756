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
        // Most values are small. Of one that is not, the same is tried with its parts.
        if ByteSink.append(to: &out, { put(to: &$0) }) { return }
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

    private func put(to sink: inout ByteSink) {
        switch self {
        case .null: sink.put("null" as StaticString)
        case .bool(let flag): sink.put((flag ? "true" : "false") as StaticString)
        case .number(let text): sink.put(text)
        case .string(let text): sink.quote(text)
        case .array(let elements):
            sink.put(UInt8(ascii: "["))
            var isFirst = true
            for element in elements {
                guard !sink.isCut else { return }
                if !isFirst { sink.put(UInt8(ascii: ",")) }
                isFirst = false
                element.put(to: &sink)
            }
            sink.put(UInt8(ascii: "]"))
        case .object(let fields):
            sink.put(UInt8(ascii: "{"))
            var isFirst = true
            for field in fields {
                guard !sink.isCut else { return }
                if !isFirst { sink.put(UInt8(ascii: ",")) }
                isFirst = false
                sink.quote(field.name)
                sink.put(UInt8(ascii: ":"))
                field.value.put(to: &sink)
            }
            sink.put(UInt8(ascii: "}"))
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
        var text = text
        text.withUTF8 { bytes in
            var start = 0
            while start < bytes.count {
                // A byte takes six at most; and a piece ends where a character does.
                var end = min(start + (ByteSink.room - 32) / 6, bytes.count)
                while end < bytes.count, unsafe bytes[end] & 0xc0 == 0x80 { end += 1 }
                let isWhole = ByteSink.append(to: &out) { sink in
                    unsafe sink.putEscaped(UnsafeBufferPointer(rebasing: bytes[start..<end]))
                }
                precondition(isWhole, "a piece is short enough for that")
                start = end
            }
        }
        out.append(UInt8(ascii: "\""))
    }
}
