internal import AegisJSON

/// A number of JSON for comparing: exact where it is whole and fits, otherwise the nearest double.
struct JSONNumber: Sendable, Comparable, Hashable, CustomStringConvertible {
    private let whole: Int64?
    private let approximate: Double

    /// Takes a number as it was written; nil when no double reaches it.
    init?(_ text: String) {
        guard let double = Double(text), double.isFinite else { return nil }
        approximate = double
        whole = JSONValue.number(text).integer
    }

    init?(_ value: JSONValue) {
        guard case .number(let text) = value, let number = JSONNumber(text) else { return nil }
        self = number
    }

    /// Whether it has no fraction: `1.0` and `1e3` are whole.
    var isWhole: Bool { whole != nil || abs(approximate) >= 0x1p63 }

    static func == (a: JSONNumber, b: JSONNumber) -> Bool {
        if let a = a.whole, let b = b.whole { return a == b }
        return a.approximate == b.approximate
    }
    static func < (a: JSONNumber, b: JSONNumber) -> Bool {
        if let a = a.whole, let b = b.whole { return a < b }
        return a.approximate < b.approximate
    }
    func hash(into hasher: inout Hasher) { hasher.combine(approximate) }

    /// Whether it is the other one so and so often.
    func isMultiple(of step: JSONNumber) -> Bool {
        if let whole, let step = step.whole { return step != 0 && whole.isMultiple(of: step) }
        let times = approximate / step.approximate
        // 0.3 / 0.1 is not 3 in doubles.
        return times.isFinite && abs(times - times.rounded()) <= max(1, abs(times)) * 1e-12
    }

    var description: String { whole.map { "\($0)" } ?? "\(approximate)" }
}

/// Whether two values are the same to a schema: order of members and spelling of numbers do not count.
func isSame(_ a: JSONValue, _ b: JSONValue) -> Bool {
    switch (a, b) {
    case (.number(let x), .number(let y)):
        guard let x = JSONNumber(x), let y = JSONNumber(y) else { return a == b }
        return x == y
    case (.array(let x), .array(let y)): return x.count == y.count && zip(x, y).allSatisfy(isSame)
    case (.object(let x), .object(let y)):
        guard x.count == y.count else { return false }
        let known = Dictionary(y.map { ($0.name, $0.value) }) { first, _ in first }
        return x.allSatisfy { field in known[field.name].map { isSame(field.value, $0) } ?? false }
    default: return a == b
    }
}
