package import AegisCore

extension AegisError {
    /// The JSON of a failed answer, `{"error":{"code","message","hint"}}`, written without a JSON library.
    package var jsonBody: [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(64 + message.utf8.count + (hint?.utf8.count ?? 0))
        out.append(contentsOf: #"{"error":{"code":"#.utf8)
        JSONText.append(code, to: &out)
        out.append(contentsOf: #","message":"#.utf8)
        JSONText.append(message, to: &out)
        if let hint {
            out.append(contentsOf: #","hint":"#.utf8)
            JSONText.append(hint, to: &out)
        }
        out.append(contentsOf: "}}\n".utf8)
        return out
    }
}

/// JSON string literals by RFC 8259.
enum JSONText {
    /// Appends a text in quotes; control characters and what ends a script line are escaped.
    static func append(_ text: String, to out: inout [UInt8]) {
        out.append(34)
        for byte in text.utf8 {
            switch byte {
            case 34, 92:
                out.append(92)
                out.append(byte)
            case 10: out.append(contentsOf: [92, 110])
            case 13: out.append(contentsOf: [92, 114])
            case 9: out.append(contentsOf: [92, 116])
            case 0..<32, 127:
                out.append(contentsOf: #"\u00"#.utf8)
                out.append(ASCII.hexDigit(byte >> 4))
                out.append(ASCII.hexDigit(byte & 15))
            default: out.append(byte)
            }
        }
        out.append(34)
    }
}
