internal import AegisJSON

/// What a rule may refer to: the turn that was asked.
struct ScenarioTurn: Sendable {
    /// A tool's answer, with the tool's name.
    struct Result: Sendable, Hashable {
        var tool: String
        var text: String
        var isError: Bool
    }
    var agent: String
    var model: String
    var system: String
    /// The last text that the user said.
    var message: String
    /// Which answer of the model this will be, from 1.
    var number: Int
    /// The tools' answers that the last message carries.
    var results: [Result]
    /// What the `*` of the rule's patterns stood for.
    var captures: [String] = []

    init(_ request: ModelRequest) {
        agent = request.agent
        model = request.model
        system = request.system
        message = request.messages.last { $0.role == .user && $0.blocks.contains { $0.text != nil } }?.text ?? ""
        number = request.messages.count { $0.role == .assistant } + 1
        let names = Dictionary(
            request.messages.flatMap(\.toolUses).map { ($0.id, $0.name) }, uniquingKeysWith: { _, last in last })
        results = (request.messages.last?.toolResults ?? []).map {
            Result(tool: names[$0.id] ?? "?", text: $0.text, isError: $0.isError)
        }
    }
}

/// Why a template cannot be filled in.
struct ScenarioFailure: Error { var message: String }

/// A text with `{{...}}` in it.
struct ScenarioTemplate: Sendable, Hashable {
    private enum Part: Sendable, Hashable {
        case text(String)
        case agent, model, turn, message
        case capture(Int)
        /// A tool's answer (nil: all of them), or what stands at a path of it when it is JSON.
        case result(tool: String?, path: [String])
    }
    private static let words = ["agent", "model", "turn", "message", "result"]
    private let parts: [Part]

    /// Reads a text.
    ///
    /// - Throws: what is wrong with it.
    init(_ source: String) throws(ScenarioFailure) {
        var parts: [Part] = []
        var rest = Substring(source)
        while let open = rest.range(ofFirst: "{{") {
            if open.lowerBound > rest.startIndex { parts.append(.text(String(rest[..<open.lowerBound]))) }
            let after = rest[open.upperBound...]
            guard let close = after.range(ofFirst: "}}") else {
                throw ScenarioFailure(message: "has '{{' without '}}'")
            }
            parts.append(try Self.part(after[..<close.lowerBound].trimmed))
            rest = after[close.upperBound...]
        }
        if !rest.isEmpty { parts.append(.text(String(rest))) }
        self.parts = parts
    }

    private static func part(_ word: String) throws(ScenarioFailure) -> Part {
        if let number = Int(word), (1...9).contains(number) { return .capture(number) }
        switch word {
        case "agent": return .agent
        case "model": return .model
        case "turn": return .turn
        case "message": return .message
        default: break
        }
        if word == "result" || word.hasPrefix("result.") || word.hasPrefix("result:") {
            let path = word.dropFirst(6).split(separator: ".", omittingEmptySubsequences: false).map(String.init)
            let tool = path.first.map { String($0.dropFirst()) } ?? ""
            guard !path.dropFirst().contains(""), !word.hasPrefix("result:") || !tool.isEmpty else {
                throw ScenarioFailure(message: "has '{{\(word)}}', which names nothing")
            }
            return .result(tool: tool.isEmpty ? nil : tool, path: Array(path.dropFirst()))
        }
        throw ScenarioFailure(
            message:
                "has '{{\(word)}}', which is none of \(words.joined(separator: ", ")), result:TOOL, result.FIELD and 1 to 9"
        )
    }

    /// The largest number of a `*` that it refers to.
    var capturesUsed: Int { parts.map { if case .capture(let number) = $0 { number } else { 0 } }.max() ?? 0 }

    /// The text with everything filled in.
    func fill(_ turn: ScenarioTurn) throws(ScenarioFailure) -> String {
        var out = ""
        for part in parts {
            let value = try value(of: part, turn)
            out += value.text ?? String(decoding: value.compact, as: UTF8.self)
        }
        return out
    }

    /// The value: JSON of its own when the template is nothing but a place in a tool's answer.
    func fillValue(_ turn: ScenarioTurn) throws(ScenarioFailure) -> JSONValue {
        if parts.count == 1, case .result(_, let path) = parts[0], !path.isEmpty {
            return try value(of: parts[0], turn)
        }
        return .string(try fill(turn))
    }

    private func value(of part: Part, _ turn: ScenarioTurn) throws(ScenarioFailure) -> JSONValue {
        switch part {
        case .text(let text): return .string(text)
        case .agent: return .string(turn.agent)
        case .model: return .string(turn.model)
        case .turn: return .string("\(turn.number)")
        case .message: return .string(turn.message)
        case .capture(let number):
            guard number <= turn.captures.count else { throw ScenarioFailure(message: "no '*' number \(number)") }
            return .string(turn.captures[number - 1])
        case .result(let tool, let path):
            let found = turn.results.filter { tool == nil || $0.tool == tool }
            guard !found.isEmpty else {
                throw ScenarioFailure(message: "the last message has no result\(tool.map { " of \($0)" } ?? "")")
            }
            guard !path.isEmpty else { return .string(found.map(\.text).joined(separator: "\n")) }
            return try Self.walk(found[0].text, path)
        }
    }

    private static func walk(_ text: String, _ path: [String]) throws(ScenarioFailure) -> JSONValue {
        guard var value = try? JSONValue(parsing: text.utf8) else {
            throw ScenarioFailure(message: "the result is not JSON, so it has no '\(path.joined(separator: "."))'")
        }
        for step in path {
            let index = Int(step)
            let next =
                value[step]
                ?? index.flatMap { index in value.elements.flatMap { $0.indices.contains(index) ? $0[index] : nil } }
            guard let next else {
                throw ScenarioFailure(message: "the result has no '\(path.joined(separator: "."))'")
            }
            value = next
        }
        return value
    }
}

/// Arguments of a tool call, with templates in their texts.
indirect enum ScenarioTree: Sendable, Hashable {
    case fixed(JSONValue)
    case template(ScenarioTemplate)
    case list([ScenarioTree])
    case object([String], [ScenarioTree])

    func fill(_ turn: ScenarioTurn) throws(ScenarioFailure) -> JSONValue {
        switch self {
        case .fixed(let value): return value
        case .template(let template): return try template.fillValue(turn)
        case .list(let items):
            var out: [JSONValue] = []
            for item in items { out.append(try item.fill(turn)) }
            return .array(out)
        case .object(let names, let values):
            var out: [JSONValue.Field] = []
            for (name, value) in zip(names, values) { out.append(JSONValue.Field(name, try value.fill(turn))) }
            return .object(out)
        }
    }
}

extension Substring {
    /// Where a short text stands first.
    fileprivate func range(ofFirst text: String) -> Range<Index>? {
        var at = startIndex
        while at < endIndex {
            if self[at...].hasPrefix(text), let end = index(at, offsetBy: text.count, limitedBy: endIndex) {
                return at..<end
            }
            at = index(after: at)
        }
        return nil
    }
    fileprivate var trimmed: String {
        var rest = self.drop { $0 == " " }
        while rest.last == " " { rest.removeLast() }
        return String(rest)
    }
}
