/// What names of tools, agents, models, scopes and programs may consist of.
struct NameRule: Sendable {
    /// What the name is of, for messages.
    let what: String
    /// Punctuation that may stand inside, beside letters and digits.
    let inside: String
    let longest: Int
    /// What to say of a name that contains `*`.
    let wildcard: String

    static let tool = NameRule(
        what: "a tool", inside: "_-.:/", longest: 128, wildcard: "a tool is named whole; '*' alone means every tool")
    static let agent = NameRule(
        what: "an agent", inside: "_-.", longest: 64, wildcard: "an agent is named whole; '*' alone means every agent")
    static let model = NameRule(
        what: "a model", inside: "_-.:/@+", longest: 128, wildcard: "each model is granted by its name or alias")
    static let scope = NameRule(
        what: "a memory scope", inside: "_-.:/", longest: 128, wildcard: "each memory scope is granted by its name")
    static let program = NameRule(
        what: "a program", inside: "_-.+", longest: 128,
        wildcard: "a program is named whole; '*' alone means every program")

    /// Checks one name.
    ///
    /// - Returns: the name.
    /// - Throws: where it is none, and the nearest that is one.
    @discardableResult
    func check(_ name: String) throws(ValueProblem) -> String {
        let bytes = Array(name.utf8)
        let allowed = Array(inside.utf8)
        guard let first = bytes.first else { throw ValueProblem(0, "the name of \(what) is missing") }
        guard bytes.count <= longest else { throw ValueProblem(longest, "a name has at most \(longest) bytes") }
        if let at = bytes.firstIndex(where: { !(Letters.isAlphanumeric($0) || allowed.contains($0)) }) {
            let problem =
                bytes[at] == PathPattern.star
                ? wildcard
                : "'\(shown(String(name.unicodeScalars[scalar(name, at)])))' cannot stand in the name of \(what)"
            throw ValueProblem(at, problem, nearest: repaired(bytes, allowed))
        }
        guard Letters.isAlphanumeric(first) || first == 0x5f else {
            throw ValueProblem(
                0, "the name of \(what) starts with a letter or digit", nearest: repaired(bytes, allowed))
        }
        return name
    }

    private func scalar(_ name: String, _ at: Int) -> String.UnicodeScalarView.Index {
        name.utf8.index(name.utf8.startIndex, offsetBy: at)
    }

    private func repaired(_ bytes: [UInt8], _ allowed: [UInt8]) -> String? {
        let kept = bytes.filter { Letters.isAlphanumeric($0) || allowed.contains($0) }
            .drop { !Letters.isAlphanumeric($0) && $0 != 0x5f }
        return kept.isEmpty ? nil : String(decoding: kept, as: UTF8.self)
    }
}

/// `*`, or some names.
package enum NameSet: Hashable, Sendable, CustomStringConvertible {
    /// Every name.
    case any
    /// These, in order and each once; never empty.
    case names([String])

    /// Whether a name is meant.
    package func contains(_ name: String) -> Bool {
        switch self {
        case .any: true
        case .names(let names): names.contains(name)
        }
    }
    /// Whether every name of the other is meant.
    package func covers(_ other: NameSet) -> Bool {
        switch (self, other) {
        case (.any, _): true
        case (.names, .any): false
        case (.names(let own), .names(let names)): names.allSatisfy(own.contains)
        }
    }
    /// The canonical text: `*` or `[a, b]`.
    package var description: String {
        switch self {
        case .any: "*"
        case .names(let names): "[\(names.joined(separator: ", "))]"
        }
    }

    /// The most names in one grant.
    static let most = 256

    /// Reads `*`, `[a, b]`, or the same without brackets.
    init(parsing text: String, _ rule: NameRule) throws(ValueProblem) {
        var inner = Substring(text)
        var offset = 0
        if text.hasPrefix("[") {
            guard text.hasSuffix("]") else {
                let near = try? NameSet(parsing: text + "]", rule)
                throw ValueProblem(text.utf8.count, "']' is missing", nearest: near?.description)
            }
            inner = inner.dropFirst().dropLast()
            offset = 1
        }
        var names: Set<String> = []
        var isAny = false
        let parts = inner.split(separator: ",", omittingEmptySubsequences: false)
        for part in parts {
            let name = part.trimmingSpaces
            let at = offset + part.utf8.count - part.drop { $0 == " " }.utf8.count
            if name == "*" {
                isAny = true
            } else {
                do { names.insert(try rule.check(name)) } catch {
                    throw Self.problem(error.shifted(by: at), in: parts, rule, isList: text.hasPrefix("["))
                }
            }
            offset += part.utf8.count + 1
        }
        guard names.count <= Self.most else { throw ValueProblem(0, "a grant has at most \(Self.most) names") }
        guard isAny, !names.isEmpty else {
            self = isAny ? .any : .names(names.sorted())
            return
        }
        throw ValueProblem(
            0, "'*' means every name: either it, or a list", nearest: NameSet.names(names.sorted()).description)
    }

    /// Names the nearest list: the good names of it, and what the bad ones are near to.
    private static func problem(
        _ error: ValueProblem, in parts: [Substring], _ rule: NameRule, isList: Bool
    ) -> ValueProblem {
        if parts.allSatisfy({ $0.trimmingSpaces.isEmpty }) {
            return ValueProblem(error.offset, "an empty list grants nothing: leave the grant out")
        }
        var names: Set<String> = []
        for part in parts {
            do { names.insert(try rule.check(part.trimmingSpaces)) } catch {
                if let near = error.nearest { names.insert(near) }
            }
        }
        let near = names.isEmpty ? nil : NameSet.names(names.sorted()).description
        return ValueProblem(error.offset, error.problem, nearest: near)
    }
}

extension StringProtocol {
    /// The text without spaces at both ends.
    var trimmingSpaces: String {
        let text = Substring(self)
        let bytes = text.utf8
        let space = UInt8(ascii: " ")
        guard let first = bytes.firstIndex(where: { $0 != space }), let last = bytes.lastIndex(where: { $0 != space })
        else {
            return ""
        }
        return String(text[first..<bytes.index(after: last)])
    }
}
