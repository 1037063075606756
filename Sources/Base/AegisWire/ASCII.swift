/// Byte classes and comparisons of RFC 9110 and RFC 3986, on bytes and without tables in memory.
enum ASCII {
    static let tab: UInt8 = 9
    static let lineFeed: UInt8 = 10
    static let carriageReturn: UInt8 = 13
    static let space: UInt8 = 32
    static let percent: UInt8 = 37
    static let colon: UInt8 = 58

    /// Whether a byte is one of two 64-bit sets (bytes 0-63 and 64-127).
    @inline(always)
    private static func contains(_ low: UInt64, _ high: UInt64, _ byte: UInt8) -> Bool {
        // Without a branch for the half that the byte is in.
        ((byte & 64 == 0 ? low : high) &>> UInt64(byte)) & 1 == 1 && byte < 128
    }

    /// `tchar` of RFC 9110: what method and field names consist of.
    @inline(always)
    static func isToken(_ byte: UInt8) -> Bool { contains(0x3ff_6cfa_0000_0000, 0x57ff_ffff_c7ff_fffe, byte) }

    /// `unreserved` of RFC 3986: what never needs a percent escape.
    @inline(always)
    static func isUnreserved(_ byte: UInt8) -> Bool { contains(0x3ff_6000_0000_0000, 0x47ff_fffe_87ff_fffe, byte) }

    /// What a field value may hold: visible characters, blank, tab and bytes above ASCII.
    @inline(always)
    static func isFieldValue(_ byte: UInt8) -> Bool { byte >= 32 ? byte != 127 : byte == tab }

    /// Space or tab, the only optional white space of HTTP.
    @inline(always)
    static func isBlank(_ byte: UInt8) -> Bool { byte == space || byte == tab }

    @inline(always)
    static func isDigit(_ byte: UInt8) -> Bool { byte >= 48 && byte <= 57 }

    @inline(always)
    static func lowercased(_ byte: UInt8) -> UInt8 { byte >= 65 && byte <= 90 ? byte | 0x20 : byte }

    /// The value of a hexadecimal digit, or nil.
    @inline(always)
    static func hexValue(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 48...57: byte - 48
        case 65...70: byte - 55
        case 97...102: byte - 87
        default: nil
        }
    }

    /// A digit of a hexadecimal number below 16.
    static func hexDigit(_ value: UInt8, uppercase: Bool = false) -> UInt8 {
        value < 10 ? 48 + value : (uppercase ? 55 : 87) + value
    }

    /// Whether two spans hold the same text, letters compared without case.
    static func equal(_ a: Span<UInt8>, _ b: Span<UInt8>) -> Bool {
        guard a.count == b.count else { return false }
        for index in a.indices where lowercased(a[index]) != lowercased(b[index]) { return false }
        return true
    }

    /// Appends a whole number in decimal.
    static func append(decimal value: Int, to out: inout [UInt8]) {
        if value >= 10 { append(decimal: value / 10, to: &out) }
        out.append(48 + UInt8(truncatingIfNeeded: value % 10))
    }

    /// Appends a whole number in hexadecimal.
    static func append(hex value: Int, to out: inout [UInt8]) {
        if value >= 16 { append(hex: value >> 4, to: &out) }
        out.append(hexDigit(UInt8(truncatingIfNeeded: value & 15)))
    }
}
