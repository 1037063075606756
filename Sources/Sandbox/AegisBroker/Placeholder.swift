/// What stands inside for a secret: random, new at each start, of no use anywhere else.
///
/// Letters and digits only, always 48 of them: nothing encodes, cuts or escapes it by accident.
package struct Placeholder: Hashable, Sendable, CustomStringConvertible {
    /// How every placeholder begins.
    package static let prefix = "AegisSecret"
    /// How long every placeholder is, in bytes.
    package static let length = 48

    package let description: String
    /// Its bytes.
    var bytes: [UInt8] { Array(description.utf8) }

    /// Makes a new one with 220 random bits.
    package init(using random: inout some RandomNumberGenerator) {
        let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
        var text = Self.prefix
        for _ in Self.prefix.utf8.count..<Self.length { text.append(letters[Int.random(in: 0..<62, using: &random)]) }
        description = text
    }

    /// Makes a new one from the system's random numbers.
    package init() {
        var random = SystemRandomNumberGenerator()
        self.init(using: &random)
    }

    /// One that was made before.
    ///
    /// - Returns: nil when the text has not the form of one.
    package init?(_ text: String) {
        let bytes = Array(text.utf8)
        guard bytes.count == Self.length, Self.firstOffset(in: bytes, from: 0) == 0 else { return nil }
        description = text
    }

    /// Where something begins that has the form of a placeholder, at or after an offset.
    static func firstOffset(in bytes: [UInt8], from start: Int) -> Int? {
        let prefix = Array(Self.prefix.utf8)
        var offset = start
        while offset + length <= bytes.count {
            if bytes[offset..<offset + prefix.count].elementsEqual(prefix),
                bytes[offset..<offset + length].allSatisfy(isAlphanumeric)
            {
                return offset
            }
            offset += 1
        }
        return nil
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
    }
}
