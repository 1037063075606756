package import AegisCore

/// Finds secret values in bytes also where they are percent-encoded, escaped as in JSON, or in base64.
///
/// A second net and no wall: what was compressed, encrypted, reversed, spelled in hexadecimal or encoded twice passes.
/// Values of less than 4 bytes are not looked for, and those of less than 8 not in base64.
package final class EncodedMask: Sendable, CustomStringConvertible, CustomReflectable {
    /// Values shorter than this many bytes are looked for only as they are, percent-encoded or escaped.
    package static let shortestInBase64 = 8
    /// What stands in the place of each byte that belongs to a value: lengths and framing stay as they were.
    package static let star = UInt8(ascii: "*")

    /// Finds the values and what determines them in base64.
    let automaton: SecretMask
    /// The longest of those, in bytes.
    let longest: Int
    /// A `+` may stand for a blank in some value.
    let hasBlank: Bool

    /// Builds the automaton for a set of values; order and repetition do not matter.
    package init(_ values: [Secret<[UInt8]>]) {
        var forms: [Secret<[UInt8]>] = []
        for value in values where value.reveal().count >= SecretMask.shortestValue {
            forms.append(value)
            guard value.reveal().count >= Self.shortestInBase64 else { continue }
            for before in 0...2 { forms.append(Secret(Self.base64(value.reveal(), after: before))) }
        }
        automaton = SecretMask(forms)
        longest = forms.map { $0.reveal().count }.max() ?? 0
        hasBlank = values.contains { $0.reveal().contains(UInt8(ascii: " ")) }
    }

    /// Whether there is nothing to look for.
    package var isEmpty: Bool { automaton.isEmpty }
    package var description: String { "•••" }
    package var customMirror: Mirror { Mirror(self, children: [] as [Mirror.Child]) }

    /// The characters of base64 that a value alone decides, when so many bytes (mod 3) stand before it.
    private static func base64(_ value: [UInt8], after before: Int) -> [UInt8] {
        let bytes = [UInt8](repeating: 0, count: before) + value
        let whole = bytes.count * 8 / 6
        var out: [UInt8] = []
        for index in (before == 0 ? 0 : before + 1)..<whole {
            let bit = index * 6
            let high = UInt(bytes[bit / 8]) << 8
            let low = bit / 8 + 1 < bytes.count ? UInt(bytes[bit / 8 + 1]) : 0
            out.append(Base64.letter(UInt8(truncatingIfNeeded: (high | low) >> UInt(10 - bit % 8) & 63)))
        }
        return out
    }
}

/// The alphabet of RFC 4648, section 4, and whole texts in it.
package enum Base64 {
    /// The letter for six bits.
    static func letter(_ bits: UInt8) -> UInt8 {
        switch bits {
        case 0..<26: 65 + bits
        case 26..<52: 71 + bits
        case 52..<62: bits - 4
        case 62: 43
        default: 47
        }
    }

    private static func bits(_ letter: UInt8) -> UInt8? {
        switch letter {
        case 65...90: letter - 65
        case 97...122: letter - 71
        case 48...57: letter + 4
        case 43, 45: 62
        case 47, 95: 63
        default: nil
        }
    }

    /// Bytes in base64, with its padding.
    package static func encode(_ bytes: [UInt8]) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity((bytes.count + 2) / 3 * 4)
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let rest = bytes[start..<min(start + 3, bytes.count)]
            var group: UInt32 = 0
            for (place, byte) in rest.enumerated() { group |= UInt32(byte) << UInt32(16 - 8 * place) }
            for place in 0..<4 {
                out.append(
                    place <= rest.count ? letter(UInt8(truncatingIfNeeded: group >> UInt32(18 - 6 * place) & 63)) : 61)
            }
        }
        return out
    }

    /// The bytes of a text in base64, padded or not, in the usual or the URL alphabet.
    ///
    /// - Returns: nil when it is none.
    package static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
        var letters = Array(text)
        while letters.last == 61 { letters.removeLast() }
        guard text.count - letters.count <= 2, letters.count % 4 != 1 else { return nil }
        var out: [UInt8] = []
        out.reserveCapacity(letters.count * 3 / 4)
        var group: UInt32 = 0
        var held = 0
        for byte in letters {
            guard let value = bits(byte) else { return nil }
            group = group << 6 | UInt32(value)
            held += 6
            guard held >= 8 else { continue }
            held -= 8
            out.append(UInt8(truncatingIfNeeded: group >> UInt32(held)))
        }
        return out
    }
}
