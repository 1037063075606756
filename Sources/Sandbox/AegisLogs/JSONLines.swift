internal import AegisCore
internal import AegisSandboxTypes

/// Base64 with padding (RFC 4648).
package enum Base64 {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    /// Appends the text of bytes.
    package static func encode(_ bytes: ArraySlice<UInt8>, into out: inout [UInt8]) {
        out.reserveCapacity(out.count + (bytes.count + 2) / 3 * 4)
        var at = bytes.startIndex
        while bytes.endIndex - at >= 3 {
            let word = UInt32(bytes[at]) << 16 | UInt32(bytes[at + 1]) << 8 | UInt32(bytes[at + 2])
            for shift: UInt32 in [18, 12, 6, 0] { out.append(alphabet[Int(word >> shift & 63)]) }
            at += 3
        }
        let rest = bytes[at...]
        guard let first = rest.first else { return }
        let word = UInt32(first) << 16 | (rest.count == 2 ? UInt32(rest[at + 1]) << 8 : 0)
        out.append(alphabet[Int(word >> 18)])
        out.append(alphabet[Int(word >> 12 & 63)])
        out.append(rest.count == 2 ? alphabet[Int(word >> 6 & 63)] : UInt8(ascii: "="))
        out.append(UInt8(ascii: "="))
    }

    /// The text of bytes.
    package static func encode(_ bytes: [UInt8]) -> String {
        var out: [UInt8] = []
        encode(bytes[...], into: &out)
        return String(decoding: out, as: UTF8.self)
    }

    /// The bytes of a text; nil when it is not padded base64.
    package static func decode(_ text: String) -> [UInt8]? {
        let bytes = Array(text.utf8)
        guard bytes.count % 4 == 0 else { return nil }
        let padding = bytes.suffix(2).filter { $0 == UInt8(ascii: "=") }.count
        var out: [UInt8] = []
        var word: UInt32 = 0
        for (index, byte) in bytes.dropLast(padding).enumerated() {
            guard let value = value(byte) else { return nil }
            word = word << 6 | value
            if index % 4 == 3 { out += [UInt8(word >> 16 & 255), UInt8(word >> 8 & 255), UInt8(word & 255)] }
        }
        switch padding {
        case 1: out += [UInt8(word >> 10 & 255), UInt8(word >> 2 & 255)]
        case 2: out.append(UInt8(word >> 4 & 255))
        default: break
        }
        return out
    }

    private static func value(_ byte: UInt8) -> UInt32? {
        switch byte {
        case 65...90: UInt32(byte) - 65
        case 97...122: UInt32(byte) - 71
        case 48...57: UInt32(byte) + 4
        case 43: 62
        case 47: 63
        default: nil
        }
    }
}

/// Whether bytes are UTF-8 as JSON wants it (no surrogates, nothing above U+10FFFF, no overlong forms).
func isUTF8(_ bytes: ArraySlice<UInt8>) -> Bool {
    var at = bytes.startIndex
    while at < bytes.endIndex {
        let byte = bytes[at]
        if byte < 0x80 {
            at += 1
            continue
        }
        let count: Int
        switch byte {
        case 0xC2...0xDF: count = 1
        case 0xE0...0xEF: count = 2
        case 0xF0...0xF4: count = 3
        default: return false
        }
        guard at + count < bytes.endIndex else { return false }
        let second = bytes[at + 1]
        let allowed: ClosedRange<UInt8> =
            switch byte {
            case 0xE0: 0xA0...0xBF
            case 0xED: 0x80...0x9F
            case 0xF0: 0x90...0xBF
            case 0xF4: 0x80...0x8F
            default: 0x80...0xBF
            }
        guard allowed.contains(second) else { return false }
        for next in bytes[(at + 2)..<(at + count + 1)] where next & 0xC0 != 0x80 { return false }
        at += count + 1
    }
    return true
}

/// The NDJSON form of log records, written without intermediate strings.
enum JSONLines {
    private static let hex = Array("0123456789abcdef".utf8)

    /// Appends one record and its newline.
    static func append(_ piece: LogPiece, to out: inout [UInt8]) {
        out += "{\"ts\":\"".utf8
        out += Timestamp(milliseconds: piece.time).utf8
        out += "\",\"stream\":\"".utf8
        out += piece.key.stream.name.utf8
        out += "\",\"source\":\"".utf8
        out += piece.source.utf8
        out.append(UInt8(ascii: "\""))
        if !piece.key.id.isEmpty {
            out += ",\"exec_id\":".utf8
            // Ids are made by us; one that was damaged is still written as JSON.
            appendString(isUTF8(piece.key.id[...]) ? piece.key.id[...] : [], to: &out)
        }
        if let gap = piece.gap {
            out += ",\"gap\":\(gap)".utf8
            if let reason = piece.gapReason { out += ",\"gap_reason\":\"\(reason.rawValue)\"".utf8 }
        } else if isUTF8(piece.bytes[...]) {
            out += ",\"line\":".utf8
            appendString(piece.bytes[...], to: &out)
        } else {
            out += ",\"data\":\"".utf8
            Base64.encode(piece.bytes[...], into: &out)
            out.append(UInt8(ascii: "\""))
        }
        if piece.partial { out += ",\"partial\":true".utf8 }
        out += "}\n".utf8
    }

    /// Appends valid UTF-8 as a JSON string.
    private static func appendString(_ bytes: ArraySlice<UInt8>, to out: inout [UInt8]) {
        out.append(UInt8(ascii: "\""))
        var plain = bytes.startIndex
        for at in bytes.indices {
            let byte = bytes[at]
            guard byte < 0x20 || byte == 0x22 || byte == 0x5C else { continue }
            out += bytes[plain..<at]
            plain = at + 1
            switch byte {
            case 0x22, 0x5C: out += [0x5C, byte]
            case 0x0A: out += "\\n".utf8
            case 0x0D: out += "\\r".utf8
            case 0x09: out += "\\t".utf8
            default: out += "\\u00".utf8 + [hex[Int(byte >> 4)], hex[Int(byte & 15)]]
            }
        }
        out += bytes[plain...]
        out.append(UInt8(ascii: "\""))
    }
}
