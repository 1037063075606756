internal import AegisCore
internal import AegisJSON

/// One line of a segment, taken apart as far as the chain needs it; the bytes between are not looked at.
struct RecordLine {
    let seq: UInt64
    let time: ArraySlice<UInt8>
    let kind: String
    let prev: AuditHash
    /// What the line says that its hash is.
    let hash: AuditHash
    /// Whether it is.
    let isWhole: Bool

    private static let tail = 2 * AuditHash.digits + 10 + 9 + 2

    /// Takes a line apart, without its newline; nil when it is no record.
    init?(_ line: ArraySlice<UInt8>) {
        // …,"prev":"<64>","hash":"<64>"}
        guard line.count > Self.tail + 60, line.last == UInt8(ascii: "}") else { return nil }
        let end = line.endIndex
        let hashAt = end - 2 - AuditHash.digits
        let prevAt = hashAt - 10 - AuditHash.digits
        guard line[(end - 2)...].elementsEqual("\"}".utf8),
            line[(hashAt - 10)..<hashAt].elementsEqual("\",\"hash\":\"".utf8),
            line[(prevAt - 9)..<prevAt].elementsEqual(",\"prev\":\"".utf8),
            let hash = AuditHash(hex: line[hashAt..<(end - 2)]),
            let prev = AuditHash(hex: line[prevAt..<(prevAt + AuditHash.digits)])
        else { return nil }
        var scanner = LineScanner(line[..<(prevAt - 9)])
        guard scanner.skip("{\"v\":1,\"seq\":"), let seq = scanner.number(), scanner.skip(",\"time\":\""),
            let time = scanner.take(24), scanner.skip("\",\"kind\":\""), let kind = scanner.upTo(UInt8(ascii: "\""))
        else { return nil }
        self.seq = seq
        self.time = time
        self.kind = String(decoding: kind, as: UTF8.self)
        self.prev = prev
        self.hash = hash
        let hashed = line[..<(hashAt - 9)]
        isWhole = AuditHash(of: hashed.span) == hash
    }

    /// The fields of a record, for the few kinds whose fields the chain needs.
    static func fields(_ line: ArraySlice<UInt8>) -> JSONValue? {
        (try? JSONValue(parsing: line))?["fields"]
    }
}

/// Reads the fixed parts of a line.
private struct LineScanner {
    private let bytes: ArraySlice<UInt8>
    private var at: Int

    init(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        at = bytes.startIndex
    }

    mutating func skip(_ text: String) -> Bool {
        guard bytes[at...].starts(with: text.utf8) else { return false }
        at += text.utf8.count
        return true
    }

    mutating func number() -> UInt64? {
        let start = at
        var value: UInt64 = 0
        while at < bytes.endIndex, (48...57).contains(bytes[at]), at - start < 19 {
            value = value * 10 + UInt64(bytes[at] - 48)
            at += 1
        }
        return at > start ? value : nil
    }

    mutating func take(_ count: Int) -> ArraySlice<UInt8>? {
        guard bytes.endIndex - at >= count else { return nil }
        defer { at += count }
        return bytes[at..<(at + count)]
    }

    mutating func upTo(_ byte: UInt8) -> ArraySlice<UInt8>? {
        guard let end = bytes[at...].firstIndex(of: byte) else { return nil }
        defer { at = end }
        return bytes[at..<end]
    }
}
