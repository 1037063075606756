/// A key that `aegis top` knows.
package enum TopKey: Sendable, Equatable {
    case up, down, pageUp, pageDown, home, end, escape, enter
    case letter(Character)
}

/// Keys from a terminal's bytes, whatever the pieces are in which they come. Pure.
package struct TopKeys: Sendable {
    private var pending: [UInt8] = []

    /// Nothing was typed yet.
    package init() {}

    /// The keys of some bytes. Sequences that nobody knows are passed over whole; a lone escape at the end of a piece is the key.
    package mutating func keys(_ bytes: [UInt8]) -> [TopKey] {
        var keys: [TopKey] = []
        var rest = (pending + bytes)[...]
        pending = []
        while let byte = rest.first {
            if byte != 0x1b {
                rest.removeFirst()
                if let key = Self.plain(byte) { keys.append(key) }
                continue
            }
            guard rest.count > 1 else {
                keys.append(.escape)
                break
            }
            let second = rest[rest.startIndex + 1]
            guard second == UInt8(ascii: "[") || second == UInt8(ascii: "O") else {
                keys.append(.escape)
                rest.removeFirst()
                continue
            }
            // CSI: parameters up to a final byte (ECMA-48, 5.4).
            guard let end = rest.dropFirst(2).firstIndex(where: { (0x40...0x7e).contains($0) }) else {
                if rest.count < 32 { pending = Array(rest) }
                break
            }
            if let key = Self.sequence(rest[(rest.startIndex + 2)...end]) { keys.append(key) }
            rest = rest[(end + 1)...]
        }
        return keys
    }

    private static func plain(_ byte: UInt8) -> TopKey? {
        switch byte {
        case 10, 13: .enter
        case 3, 4: .letter("q")
        case 0x20...0x7e: .letter(Character(UnicodeScalar(byte)))
        default: nil
        }
    }

    private static func sequence(_ bytes: ArraySlice<UInt8>) -> TopKey? {
        switch String(decoding: bytes, as: UTF8.self) {
        case "A": .up
        case "B": .down
        case "H", "1~", "7~": .home
        case "F", "4~", "8~": .end
        case "5~": .pageUp
        case "6~": .pageDown
        default: nil
        }
    }
}
