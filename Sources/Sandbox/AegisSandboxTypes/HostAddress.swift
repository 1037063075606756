/// A numeric address of this host, IPv4 or IPv6, in the one spelling that it is printed in.
package struct HostAddress: Sendable, Hashable, CustomStringConvertible {
    /// Four bytes, or eight groups of sixteen bits.
    private enum Form: Hashable { case v4([UInt8]), v6([UInt16]) }
    private let form: Form

    /// Reads `127.0.0.1` or `::1`; nil for anything else, names included.
    package init?(_ text: String) {
        if let bytes = Self.v4(text) {
            form = .v4(bytes)
        } else if let groups = Self.v6(text) {
            form = .v6(groups)
        } else {
            return nil
        }
    }

    package var isIPv6: Bool {
        if case .v6 = form { true } else { false }
    }

    /// Whether only this host reaches it.
    package var isLoopback: Bool {
        switch form {
        case .v4(let bytes): bytes[0] == 127
        case .v6(let groups): groups == [0, 0, 0, 0, 0, 0, 0, 1]
        }
    }

    /// Whether it stands for every address of its family.
    package var isAny: Bool {
        switch form {
        case .v4(let bytes): bytes.allSatisfy { $0 == 0 }
        case .v6(let groups): groups.allSatisfy { $0 == 0 }
        }
    }

    /// Whether listeners on both would be in each other's way on one port.
    package func overlaps(_ other: HostAddress) -> Bool {
        self == other || isIPv6 == other.isIPv6 && (isAny || other.isAny)
    }

    /// As RFC 5952 writes it: lower case, the longest run of zero groups as `::`.
    package var description: String {
        switch form {
        case .v4(let bytes): return bytes.map(String.init).joined(separator: ".")
        case .v6(let groups):
            let words = groups.map { String($0, radix: 16) }
            guard let run = Self.longestZeros(groups) else { return words.joined(separator: ":") }
            return words[..<run.lowerBound].joined(separator: ":") + "::"
                + words[run.upperBound...].joined(separator: ":")
        }
    }

    /// In front of a port: IPv6 in brackets.
    package var beforePort: String { isIPv6 ? "[\(self)]" : description }

    private static func longestZeros(_ groups: [UInt16]) -> Range<Int>? {
        var best = 0..<0
        var start = 0
        for index in 0...groups.count where index == groups.count || groups[index] != 0 {
            if index - start > best.count { best = start..<index }
            start = index + 1
        }
        return best.count > 1 ? best : nil
    }

    private static func v4(_ text: String) -> [UInt8]? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var bytes: [UInt8] = []
        for part in parts {
            // A leading zero would be octal to some readers.
            guard part.allSatisfy({ $0.isASCII && $0.isNumber }), part.count == 1 || part.first != "0",
                let byte = UInt8(part)
            else { return nil }
            bytes.append(byte)
        }
        return bytes
    }

    private static func v6(_ text: String) -> [UInt16]? {
        guard text.utf8.count <= 39, let gap = text.firstRange(of: "::") else { return groups(text, upTo: 8) }
        guard let before = groups(String(text[..<gap.lowerBound]), upTo: 7),
            let after = groups(String(text[gap.upperBound...]), upTo: 7), before.count + after.count <= 7
        else { return nil }
        return before + [UInt16](repeating: 0, count: 8 - before.count - after.count) + after
    }

    /// Groups between colons: exactly eight where eight are asked for, else any number up to the limit.
    private static func groups(_ text: String, upTo limit: Int) -> [UInt16]? {
        if text.isEmpty, limit < 8 { return [] }
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count <= limit, limit < 8 || parts.count == 8 else { return nil }
        var groups: [UInt16] = []
        for part in parts {
            guard (1...4).contains(part.utf8.count), part.allSatisfy({ $0.isASCII && $0.isHexDigit }),
                let group = UInt16(part, radix: 16)
            else { return nil }
            groups.append(group)
        }
        return groups
    }
}
