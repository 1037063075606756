/// A numeric address. An IPv4 address written as IPv6 (`::ffff:10.0.0.1`) is the IPv4 address.
package struct IPAddress: Hashable, Sendable, CustomStringConvertible {
    /// Whether it has 32 bits; else 128.
    package let isIPv4: Bool
    /// Its number; the upper 96 bits of an IPv4 address are 0.
    package let value: UInt128

    /// How many bits it has.
    package var width: Int { isIPv4 ? 32 : 128 }

    /// Makes an IPv4 address from its number.
    package init(ipv4 value: UInt32) {
        isIPv4 = true
        self.value = UInt128(value)
    }

    /// Makes an IPv6 address from its number; `::ffff:0:0/96` becomes IPv4.
    package init(ipv6 value: UInt128) {
        isIPv4 = value >> 32 == 0xffff
        self.value = isIPv4 ? value & 0xffff_ffff : value
    }

    init(isIPv4: Bool, value: UInt128) {
        self.isIPv4 = isIPv4
        self.value = value
    }

    /// Reads dotted IPv4 (four decimal numbers without leading zeros) or IPv6, without a zone; nil when it is neither.
    package init?(_ text: String) {
        let bytes = Array(text.utf8)
        if bytes.contains(0x3a) {
            guard let value = Self.ipv6(bytes) else { return nil }
            self.init(ipv6: value)
        } else {
            guard let value = Self.ipv4(bytes[...]) else { return nil }
            self.init(ipv4: value)
        }
    }

    private static func ipv4(_ bytes: ArraySlice<UInt8>) -> UInt32? {
        let parts = bytes.split(separator: 0x2e, omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var value: UInt32 = 0
        for part in parts {
            guard (1...3).contains(part.count), part.allSatisfy(Letters.isDigit), part.count == 1 || part.first != 48
            else { return nil }
            let number = part.reduce(UInt32(0)) { $0 * 10 + UInt32($1 - 48) }
            guard number < 256 else { return nil }
            value = value << 8 | number
        }
        return value
    }

    private static func ipv6(_ bytes: [UInt8]) -> UInt128? {
        var head: [UInt16] = []
        var tail: [UInt16]?
        var rest = bytes[...]
        if rest.starts(with: [0x3a, 0x3a]) {
            tail = []
            rest = rest.dropFirst(2)
        }
        while !rest.isEmpty {
            let part = rest.prefix { $0 != 0x3a }
            rest = rest.dropFirst(part.count)
            var groups: [UInt16]
            if part.contains(0x2e) {
                guard rest.isEmpty, let value = ipv4(part) else { return nil }
                groups = [UInt16(value >> 16), UInt16(truncatingIfNeeded: value)]
            } else {
                guard (1...4).contains(part.count), part.allSatisfy(Letters.isHex),
                    let group = UInt16(String(decoding: part, as: UTF8.self), radix: 16)
                else { return nil }
                groups = [group]
            }
            if tail == nil { head += groups } else { tail?.append(contentsOf: groups) }
            guard !rest.isEmpty else { break }
            rest = rest.dropFirst()
            guard !rest.isEmpty else { return nil }
            if rest.first == 0x3a {
                guard tail == nil else { return nil }
                tail = []
                rest = rest.dropFirst()
            }
        }
        let count = head.count + (tail?.count ?? 0)
        guard tail == nil ? count == 8 : count < 8 else { return nil }
        let zeros = [UInt16](repeating: 0, count: 8 - count)
        return (head + zeros + (tail ?? [])).reduce(UInt128(0)) { $0 << 16 | UInt128($1) }
    }

    /// The canonical text (RFC 5952 for IPv6).
    package var description: String {
        guard !isIPv4 else {
            return [24, 16, 8, 0].map { "\(value >> $0 & 0xff)" }.joined(separator: ".")
        }
        let groups = stride(from: 112, through: 0, by: -16).map { UInt16(truncatingIfNeeded: value >> $0) }
        var longest = 0..<0
        var start = 0
        while start < 8 {
            var end = start
            while end < 8, groups[end] == 0 { end += 1 }
            if end - start > max(1, longest.count) { longest = start..<end }
            start = max(end, start + 1)
        }
        let hex = { (range: Range<Int>) in groups[range].map { String($0, radix: 16) }.joined(separator: ":") }
        return longest.isEmpty ? hex(0..<8) : hex(0..<longest.lowerBound) + "::" + hex(longest.upperBound..<8)
    }
}

/// A block of addresses: all that share their first bits.
package struct AddressBlock: Hashable, Sendable, CustomStringConvertible {
    /// The first address of the block.
    package let base: IPAddress
    /// How many bits all its addresses share: 0 to 32 or 128.
    package let bits: Int

    /// Makes the block in which an address lies.
    ///
    /// - Returns: nil when there are not so many bits.
    package init?(_ address: IPAddress, bits: Int) {
        guard (0...address.width).contains(bits) else { return nil }
        base = IPAddress(isIPv4: address.isIPv4, value: address.value & Self.mask(bits, address.width))
        self.bits = bits
    }

    private static func mask(_ bits: Int, _ width: Int) -> UInt128 {
        bits == 0 ? 0 : (UInt128.max >> UInt128(128 - width)) & ~((UInt128(1) << UInt128(width - bits)) &- 1)
    }

    /// Whether an address lies in the block.
    package func contains(_ address: IPAddress) -> Bool {
        address.isIPv4 == base.isIPv4 && (address.value ^ base.value) & Self.mask(bits, base.width) == 0
    }
    /// Whether all addresses of another block lie in this one.
    package func contains(_ block: AddressBlock) -> Bool { bits <= block.bits && contains(block.base) }

    package var description: String { "\(base)/\(bits)" }
}
