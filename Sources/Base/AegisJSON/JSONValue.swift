/// A JSON text as a tree that keeps what the API wrote: the order of its fields and the spelling of its numbers.
///
/// The CLI prints API objects exactly as they came (`--output json|yaml`), and starts in well under a millisecond:
/// a JSON library that sorts fields, rounds numbers or doubles the size of the binary serves neither.
package enum JSONValue: Sendable, Hashable {
    case null
    case bool(Bool)
    /// A number as it was written.
    case number(String)
    case string(String)
    case array([JSONValue])
    case object([Field])

    /// One member of an object.
    package struct Field: Sendable, Hashable {
        package var name: String
        package var value: JSONValue
        /// Makes a member.
        package init(_ name: String, _ value: JSONValue) {
            self.name = name
            self.value = value
        }
    }

    /// The member of that name, or nil when this is not an object or has none.
    package subscript(_ name: String) -> JSONValue? {
        guard case .object(let fields) = self else { return nil }
        return fields.first { $0.name == name }?.value
    }

    /// The text of a string.
    package var text: String? {
        guard case .string(let text) = self else { return nil }
        return text
    }

    /// The number, when it is whole and fits: `2.0` and `2e0` are 2, as they are in JSON.
    package var integer: Int64? {
        guard case .number(let text) = self else { return nil }
        return Int64(text) ?? Self.whole(text)
    }

    /// The number, when it is whole, not negative and fits.
    package var unsigned: UInt64? {
        guard case .number(let text) = self else { return nil }
        return UInt64(text) ?? Self.whole(text).flatMap { UInt64(exactly: $0) }
    }

    /// A number with a point or an exponent that is whole, by its digits: a double would round a small fraction away.
    private static func whole(_ text: String) -> Int64? {
        let parts = text.utf8.split(maxSplits: 1, omittingEmptySubsequences: false) { $0 == 0x65 || $0 == 0x45 }
        let exponent = parts.count == 1 ? 0 : Int(String(decoding: parts[1], as: UTF8.self))
        let isNegative = parts[0].first == 0x2d
        let mantissa = parts[0].dropFirst(isNegative ? 1 : 0)
            .split(separator: 0x2e, maxSplits: 1, omittingEmptySubsequences: false)
        guard let exponent, abs(exponent) < 1 << 40, !mantissa[0].isEmpty else { return nil }
        var digits = Array(mantissa.joined().drop { $0 == 0x30 })
        // How many of the digits stand before the point.
        let place = mantissa[0].count + exponent - (mantissa.reduce(0) { $0 + $1.count } - digits.count)
        while digits.last == 0x30 { digits.removeLast() }
        if digits.isEmpty { return 0 }
        guard digits.count <= place, place <= 19 else { return nil }
        digits += Array(repeating: 0x30, count: place - digits.count)
        return Int64((isNegative ? "-" : "") + String(decoding: digits, as: UTF8.self))
    }

    /// The number as the nearest that a double can hold; nil when it is none, or beyond what a double reaches.
    package var double: Double? {
        guard case .number(let text) = self, let value = Double(text), value.isFinite else { return nil }
        return value
    }

    /// The truth value.
    package var flag: Bool? {
        guard case .bool(let flag) = self else { return nil }
        return flag
    }

    /// The members of an object.
    package var fields: [Field]? {
        guard case .object(let fields) = self else { return nil }
        return fields
    }

    /// The elements of an array.
    package var elements: [JSONValue]? {
        guard case .array(let elements) = self else { return nil }
        return elements
    }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    package init(stringLiteral value: String) { self = .string(value) }
    /// A whole number.
    package static func number(_ value: some BinaryInteger) -> JSONValue { .number(String(value)) }

    package init(booleanLiteral value: Bool) { self = .bool(value) }
    package init(integerLiteral value: Int64) { self = .number(String(value)) }
    package init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
    package init(dictionaryLiteral elements: (String, JSONValue)...) {
        self = .object(elements.map { Field($0.0, $0.1) })
    }
}

/// Why a text is not JSON.
package struct JSONError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What was expected or found.
    package var reason: String
    /// The offset in bytes at which reading stopped.
    package var offset: Int
    package var description: String { "not JSON at byte \(offset): \(reason)" }
}
