extension JSONValue {
    /// The same tree as block-style YAML 1.2, ending with a newline.
    package var yaml: String {
        var out = ""
        appendYAML(to: &out, level: 0, afterKey: false)
        return out
    }

    fileprivate func appendYAML(to out: inout String, level: Int, afterKey: Bool) {
        let indent = String(repeating: "  ", count: level)
        switch self {
        case .array(let elements) where !elements.isEmpty:
            if afterKey { out += "\n" }
            for element in elements {
                out += indent + "-"
                element.appendElement(to: &out, level: level + 1)
            }
        case .object(let fields) where !fields.isEmpty:
            if afterKey { out += "\n" }
            for field in fields { field.appendYAML(to: &out, indent: indent, level: level) }
        default: out += (afterKey ? " " : "") + yamlScalar + "\n"
        }
    }

    /// An element of a list: an object's first field stands on the line of the dash.
    private func appendElement(to out: inout String, level: Int) {
        guard case .object(let fields) = self, let first = fields.first else {
            return appendYAML(to: &out, level: level, afterKey: true)
        }
        first.appendYAML(to: &out, indent: " ", level: level)
        let indent = String(repeating: "  ", count: level)
        for field in fields.dropFirst() { field.appendYAML(to: &out, indent: indent, level: level) }
    }

    private var yamlScalar: String {
        switch self {
        case .null: "null"
        case .bool(let flag): flag ? "true" : "false"
        case .number(let text): text
        case .string(let text): Self.yamlString(text)
        case .array: "[]"
        case .object: "{}"
        }
    }

    /// A string plain where no reader of YAML 1.1 or 1.2 takes it for something else, in double quotes otherwise.
    static func yamlString(_ text: String) -> String {
        let inner: (UInt8) -> Bool = { byte in
            switch byte {
            case 48...57, 65...90, 97...122: true
            case UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "/"), UInt8(ascii: "@"),
                UInt8(ascii: "+"), UInt8(ascii: "="), UInt8(ascii: ","), UInt8(ascii: " "):
                true
            default: false
            }
        }
        let reserved = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
        if let first = text.utf8.first, let last = text.utf8.last, first | 32 >= 97 && first | 32 <= 122 || first == 47,
            last != 32, text.utf8.allSatisfy(inner), !reserved.contains(text.lowercased())
        {
            return text
        }
        var out: [UInt8] = []
        appendQuoted(text, to: &out)
        return String(decoding: out, as: UTF8.self)
    }
}

extension JSONValue.Field {
    fileprivate func appendYAML(to out: inout String, indent: String, level: Int) {
        out += indent + JSONValue.yamlString(name) + ":"
        value.appendYAML(to: &out, level: level + 1, afterKey: true)
    }
}
