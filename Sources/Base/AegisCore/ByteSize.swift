/// A number of bytes as people write it: `512Mi`, `1Gi`, `64k`, `1000000`.
package struct ByteSize: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// The size in bytes.
    package var bytes: UInt64
    /// Makes a size from bytes.
    package init(_ bytes: UInt64) { self.bytes = bytes }

    private static let units: [(suffix: String, factor: UInt64)] = [
        ("ki", 1 << 10), ("mi", 1 << 20), ("gi", 1 << 30), ("ti", 1 << 40),
        ("k", 1000), ("m", 1_000_000), ("g", 1_000_000_000), ("t", 1_000_000_000_000), ("", 1),
    ]

    /// Reads a whole number with an optional unit (`k M G T` decimal, `Ki Mi Gi Ti` binary, a final `B` is allowed).
    ///
    /// - Throws: `invalid-argument` naming the text and the accepted forms.
    package init(parsing text: String) throws(AegisError) {
        let bad = AegisError.usage(
            "'\(text)' is not a size", hint: "write a whole number with a unit, as in 512Mi, 2Gi or 64k")
        var lower = text.lowercased()
        if lower.hasSuffix("b") { lower.removeLast() }
        let digits = lower.prefix { $0.isASCII && $0.isNumber }
        let suffix = lower.dropFirst(digits.count)
        guard let value = UInt64(digits), let unit = Self.units.first(where: { $0.suffix == suffix }) else { throw bad }
        let (bytes, overflow) = value.multipliedReportingOverflow(by: unit.factor)
        guard !overflow else { throw bad }
        self.bytes = bytes
    }

    /// The largest binary unit that divides the size, as `512Mi`.
    package var description: String {
        for (suffix, shift) in [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)] as [(String, UInt64)] {
            if bytes != 0, bytes % (1 << shift) == 0 { return "\(bytes >> shift)\(suffix)" }
        }
        return "\(bytes)"
    }

    package static func < (a: ByteSize, b: ByteSize) -> Bool { a.bytes < b.bytes }
}

extension ByteSize: Codable {
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let number = try? container.decode(UInt64.self) {
            self.init(number)
        } else {
            try self.init(parsing: container.decode(String.self))
        }
    }
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
