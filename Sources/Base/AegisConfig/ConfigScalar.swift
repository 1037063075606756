package import AegisCore

/// A type that can be written as one text in a configuration.
package protocol ConfigScalar: Sendable {
    /// What a user should write, to stand after "expected": `a whole number`.
    static var expectation: String { get }
    /// Reads the text; nil when it is none of this type.
    init?(configText: String)
    /// The text that reads back to the same value.
    var configText: String { get }
    /// Words that are accepted, when there are only a few: the nearest one is suggested.
    static var words: [String] { get }
    /// What messages show of a text that may be none of this type; `config show` shows the value itself.
    static func quotable(_ text: String) -> String
}

extension ConfigScalar {
    package static var words: [String] { [] }
    package static func quotable(_ text: String) -> String { text }
}

extension String: ConfigScalar {
    package static var expectation: String { "a text" }
    package init?(configText: String) { self = configText }
    package var configText: String { self }
}

extension Int: ConfigScalar {
    package static var expectation: String { "a whole number" }
    package init?(configText: String) { self.init(configText) }
    package var configText: String { description }
}

extension Double: ConfigScalar {
    package static var expectation: String { "a number" }
    package init?(configText: String) {
        // Double reads hexadecimal, inf and nan as well; a configuration has no use for them.
        guard
            configText.utf8.allSatisfy({ (0x30...0x39).contains($0) || [0x2b, 0x2d, 0x2e, 0x45, 0x65].contains($0) }),
            let value = Double(configText), value.isFinite
        else { return nil }
        self = value
    }
    package var configText: String { description }
}

extension Bool: ConfigScalar {
    package static var expectation: String { "true or false" }
    package init?(configText: String) {
        switch configText {
        case "true": self = true
        case "false": self = false
        default: return nil
        }
    }
    package var configText: String { description }
}

extension ByteSize: ConfigScalar {
    package static var expectation: String { "a size such as 512Mi" }
    package init?(configText: String) { try? self.init(parsing: configText) }
    package var configText: String { description }
}

extension TimeSpan: ConfigScalar {
    package static var expectation: String { "a length of time such as 60s or 1h30m" }
    package init?(configText: String) { try? self.init(parsing: configText) }
    package var configText: String { description }
}

/// An enumeration of words is a scalar by declaring so: `extension Mode: ConfigWord {}`.
package protocol ConfigWord: ConfigScalar, CaseIterable, RawRepresentable where RawValue == String {}

extension ConfigWord {
    package static var words: [String] { allCases.map(\.rawValue) }
    package static var expectation: String { "one of \(words.joined(separator: ", "))" }
    package init?(configText: String) { self.init(rawValue: configText) }
    package var configText: String { rawValue }
}
