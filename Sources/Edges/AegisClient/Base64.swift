/// Base64 by RFC 4648 with padding, for bytes inside JSON.
package enum Base64 {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    /// The text of some bytes.
    package static func encode(_ bytes: [UInt8]) -> String {
        var out: [UInt8] = []
        out.reserveCapacity((bytes.count + 2) / 3 * 4)
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let part = bytes[start..<min(start + 3, bytes.count)]
            let value = part.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << (8 * UInt32(3 - part.count))
            for place in 0..<4 {
                let digit = Int(value >> (18 - 6 * UInt32(place)) & 63)
                out.append(place <= part.count ? alphabet[digit] : UInt8(ascii: "="))
            }
        }
        return String(decoding: out, as: UTF8.self)
    }

    /// The bytes of a text; nil when it is no base64.
    package static func decode(_ text: String) -> [UInt8]? {
        let digits = Array(text.utf8)
        guard digits.count % 4 == 0 else { return nil }
        let padding = digits.suffix(2).filter { $0 == UInt8(ascii: "=") }.count
        var out: [UInt8] = []
        out.reserveCapacity(digits.count / 4 * 3)
        var value: UInt32 = 0
        for (index, digit) in digits.enumerated() {
            let bits: UInt32
            switch digit {
            case 65...90: bits = UInt32(digit) - 65
            case 97...122: bits = UInt32(digit) - 71
            case 48...57: bits = UInt32(digit) + 4
            case UInt8(ascii: "+"): bits = 62
            case UInt8(ascii: "/"): bits = 63
            case UInt8(ascii: "=") where index >= digits.count - padding: bits = 0
            default: return nil
            }
            value = value << 6 | bits
            if index % 4 == 3 {
                out.append(UInt8(truncatingIfNeeded: value >> 16))
                out.append(UInt8(truncatingIfNeeded: value >> 8))
                out.append(UInt8(truncatingIfNeeded: value))
                value = 0
            }
        }
        out.removeLast(padding)
        return out
    }
}
