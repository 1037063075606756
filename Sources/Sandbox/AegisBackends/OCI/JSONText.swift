/// A JSON value that is only ever written. Keys keep their order, so that the same input gives the same bytes.
enum JSONText: Sendable {
    case text(String)
    case number(Int64)
    case flag(Bool)
    case list([JSONText])
    case object([(String, JSONText)])
    /// A value that was encoded before.
    case encoded([UInt8])

    /// A list of texts.
    static func texts(_ values: [String]) -> JSONText { .list(values.map(JSONText.text)) }

    /// Appends the value's bytes.
    func write(to out: inout [UInt8]) {
        switch self {
        case .text(let value): Self.quote(value, into: &out)
        case .number(let value): out.append(contentsOf: String(value).utf8)
        case .flag(let value): out.append(contentsOf: (value ? "true" : "false").utf8)
        case .encoded(let bytes): out.append(contentsOf: bytes)
        case .list(let values):
            out.append(UInt8(ascii: "["))
            for (index, value) in values.enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                value.write(to: &out)
            }
            out.append(UInt8(ascii: "]"))
        case .object(let members):
            out.append(UInt8(ascii: "{"))
            for (index, member) in members.enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                Self.quote(member.0, into: &out)
                out.append(UInt8(ascii: ":"))
                member.1.write(to: &out)
            }
            out.append(UInt8(ascii: "}"))
        }
    }

    /// The value's bytes.
    var bytes: [UInt8] {
        var out: [UInt8] = []
        write(to: &out)
        return out
    }

    private static func quote(_ value: String, into out: inout [UInt8]) {
        out.append(UInt8(ascii: "\""))
        for byte in value.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                out.append(UInt8(ascii: "\\"))
                out.append(byte)
            case 0..<0x20:
                let digits = Array("0123456789abcdef".utf8)
                out.append(contentsOf: "\\u00".utf8)
                out.append(digits[Int(byte >> 4)])
                out.append(digits[Int(byte & 15)])
            default: out.append(byte)
            }
        }
        out.append(UInt8(ascii: "\""))
    }
}
