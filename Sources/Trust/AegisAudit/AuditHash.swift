internal import AegisJSON
internal import CSodium

/// A BLAKE2b hash of 256 bits.
package struct AuditHash: Hashable, Sendable, CustomStringConvertible {
    /// How many bytes it has.
    static let count = 32
    /// How many hexadecimal digits.
    static let digits = 64
    /// What the first record has before it.
    package static let none = AuditHash(words: (0, 0, 0, 0))

    private let a, b, c, d: UInt64

    private init(words: (UInt64, UInt64, UInt64, UInt64)) { (a, b, c, d) = words }

    /// The hash of bytes.
    init(of bytes: Span<UInt8>) {
        var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
        // SAFETY: 32 bytes of words; the other pointer and its length are the span's.
        unsafe withUnsafeMutableBytes(of: &words) { out in
            guard let target = unsafe out.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return }
            unsafe bytes.withUnsafeBufferPointer { bytes in
                _ = unsafe crypto_generichash(
                    target, Self.count, bytes.baseAddress, UInt64(bytes.count), nil, 0)
            }
        }
        self.init(words: (words.0.bigEndian, words.1.bigEndian, words.2.bigEndian, words.3.bigEndian))
    }

    /// Reads 64 lower-case hexadecimal digits; nil when they are not.
    init?(hex: ArraySlice<UInt8>) {
        guard hex.count == Self.digits else { return nil }
        var words: [UInt64] = [0, 0, 0, 0]
        for (index, digit) in hex.enumerated() {
            guard let value = Hex.value(digit) else { return nil }
            words[index / 16] = words[index / 16] << 4 | UInt64(value)
        }
        self.init(words: (words[0], words[1], words[2], words[3]))
    }

    /// Reads 64 lower-case hexadecimal digits; nil when they are not.
    package init?(_ text: String) { self.init(hex: Array(text.utf8)[...]) }

    /// Puts the hexadecimal digits.
    func put(to sink: inout ByteSink) {
        func put(_ word: UInt64) {
            sink.put(word: Hex.digits(word >> 32))
            sink.put(word: Hex.digits(word & 0xffff_ffff))
        }
        put(a)
        put(b)
        put(c)
        put(d)
    }

    package var description: String {
        var out: [UInt8] = []
        _ = ByteSink.append(to: &out) { put(to: &$0) }
        return String(decoding: out, as: UTF8.self)
    }
}

/// Lower-case hexadecimal digits.
enum Hex {
    static func digit(_ value: UInt8) -> UInt8 { value < 10 ? 48 + value : 87 + value }

    /// The eight digits of 32 bits, the first one in the byte that comes first in memory.
    static func digits(_ bits: UInt64) -> UInt64 {
        // A digit a byte, then what is added to each: 0x30, and 0x27 more from ten on.
        var spread = (bits | bits << 16) & 0x0000_ffff_0000_ffff
        spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff
        spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f
        let ones: UInt64 = 0x0101_0101_0101_0101
        let letters = (spread &+ ones &* 6) >> 4 & ones
        return (spread &+ ones &* 0x30 &+ letters &* 0x27).bigEndian
    }

    static func value(_ digit: UInt8) -> UInt8? {
        switch digit {
        case 48...57: digit - 48
        case 97...102: digit - 87
        default: nil
        }
    }

    static func text(_ bytes: [UInt8]) -> String {
        String(decoding: bytes.flatMap { [digit($0 >> 4), digit($0 & 15)] }, as: UTF8.self)
    }

    /// Reads an even number of digits; nil when they are not.
    static func bytes(_ text: String) -> [UInt8]? {
        let digits = Array(text.utf8)
        guard digits.count.isMultiple(of: 2) else { return nil }
        var bytes: [UInt8] = []
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let high = value(digits[index]), let low = value(digits[index + 1]) else { return nil }
            bytes.append(high << 4 | low)
        }
        return bytes
    }
}

extension AuditHash {
    /// The hash of a text that stands in a record instead of the text itself.
    package init(ofText bytes: [UInt8]) { self.init(of: bytes.span) }
}
