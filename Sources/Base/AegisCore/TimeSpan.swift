/// A length of time as people write it: `300s`, `20m`, `1h30m`, `7d`, `250ms`.
package struct TimeSpan: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// The length in milliseconds.
    package var milliseconds: Int64
    /// Makes a span from milliseconds.
    package init(milliseconds: Int64) { self.milliseconds = milliseconds }
    /// Makes a span from whole seconds.
    package static func seconds(_ seconds: Int64) -> TimeSpan { TimeSpan(milliseconds: seconds * 1000) }
    /// The same length for Swift's clocks.
    package var duration: Duration { .milliseconds(milliseconds) }

    private static let units: [(suffix: String, factor: Int64)] = [
        ("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000),
    ]

    /// Reads one or more numbers with units `ms s m h d`, each at most once and from large to small.
    ///
    /// - Throws: `invalid-argument` naming the text and the accepted forms.
    package init(parsing text: String) throws(AegisError) {
        let bad = AegisError.usage(
            "'\(text)' is not a length of time", hint: "write numbers with units, as in 300s, 20m, 1h30m, 7d or 250ms")
        var rest = Substring(text)
        var total: Int64 = 0
        var smallest = Int64.max
        guard !rest.isEmpty else { throw bad }
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            rest = rest.dropFirst(digits.count)
            let suffix = rest.prefix { $0.isLetter }
            rest = rest.dropFirst(suffix.count)
            guard let value = Int64(digits), let unit = Self.units.first(where: { $0.suffix == suffix }),
                unit.factor < smallest
            else { throw bad }
            smallest = unit.factor
            let (part, overflow) = value.multipliedReportingOverflow(by: unit.factor)
            let (sum, carry) = total.addingReportingOverflow(part)
            guard !overflow, !carry else { throw bad }
            total = sum
        }
        milliseconds = total
    }

    /// The shortest spelling that reads back to the same span.
    package var description: String {
        guard milliseconds != 0 else { return "0s" }
        var rest = milliseconds
        var text = ""
        for unit in Self.units.reversed() where rest >= unit.factor {
            text += "\(rest / unit.factor)\(unit.suffix)"
            rest %= unit.factor
        }
        return text
    }

    package static func < (a: TimeSpan, b: TimeSpan) -> Bool { a.milliseconds < b.milliseconds }
}

extension TimeSpan: Codable {
    package init(from decoder: any Decoder) throws {
        try self.init(parsing: decoder.singleValueContainer().decode(String.self))
    }
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
