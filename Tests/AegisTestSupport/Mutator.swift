/// Repeatable damage to valid bytes: the same seed makes the same inputs on every machine.
///
/// What it damages is valid to begin with, so that the inputs come past the first check of a parser.
package struct Mutator: RandomNumberGenerator, Sendable {
    private var state: UInt64

    /// A source of damage.
    package init(seed: UInt64) { state = seed }

    /// SplitMix64.
    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// A number from 0 to `count` - 1; 0 for 0.
    package mutating func below(_ count: Int) -> Int { count > 0 ? Int.random(in: 0..<count, using: &self) : 0 }

    /// One of the elements.
    package mutating func pick<T>(_ elements: [T]) -> T { elements[below(elements.count)] }

    /// Bytes without any order.
    package mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) } }

    /// A copy with one to four things wrong with it; `others` lend pieces.
    package mutating func mutate(_ original: [UInt8], others: [[UInt8]] = []) -> [UInt8] {
        var bytes = original
        for _ in 0...below(4) { damage(&bytes, others) }
        return bytes
    }

    private mutating func damage(_ bytes: inout [UInt8], _ others: [[UInt8]]) {
        let at = below(bytes.count)
        switch below(9) {
        case 0 where !bytes.isEmpty: bytes[at] ^= 1 << UInt8(below(8))
        case 1 where !bytes.isEmpty: bytes[at] = pick([0, 1, 9, 10, 13, 32, 58, 127, 128, 255])
        case 2 where bytes.count >= 8:
            // A number at its bounds.
            let width = pick([1, 2, 4, 8])
            let start = below(bytes.count - width + 1)
            let value: UInt64 = pick([0, 1, 0x7F, 0x7FFF, 0x7FFF_FFFF, 0xFFFF_FFFF, .max, .max - 7, 1 << 63, next()])
            for place in 0..<width {
                bytes[start + place] = UInt8(truncatingIfNeeded: value >> UInt64(8 * (width - 1 - place)))
            }
        case 3: bytes.insert(contentsOf: self.bytes(1 + below(9)), at: at)
        case 4: bytes.removeSubrange(at..<min(bytes.count, at + 1 + below(9)))
        case 5:
            let piece = bytes[at..<min(bytes.count, at + 1 + below(40))]
            bytes.insert(contentsOf: piece, at: below(bytes.count + 1))
        case 6: bytes.removeSubrange(at...)
        case 7 where !others.isEmpty:
            let other = pick(others)
            bytes.replaceSubrange(at..., with: other[below(other.count)...])
        default: bytes.append(contentsOf: self.bytes(below(5)))
        }
    }

    /// Bytes cut into pieces at up to four places.
    package mutating func pieces(of bytes: [UInt8]) -> [[UInt8]] {
        let cuts = Set((0..<below(5)).map { _ in below(bytes.count + 1) }).sorted()
        var start = 0
        return (cuts + [bytes.count]).map { end in
            defer { start = end }
            return Array(bytes[start..<end])
        }
    }
}
