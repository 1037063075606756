package import AegisCore
package import AegisInference
package import AegisJSON

/// Why a turn ended: the words of the contract.
package enum TurnStop: String, Sendable, Codable, CaseIterable {
    case complete, truncated, cancelled, error
    case maxIterations = "max_iterations"
    case maxTokens = "max_tokens"
    case budgetExceeded = "budget_exceeded"
}

/// What went wrong in a turn.
package struct TurnProblem: Sendable, Codable, Hashable {
    /// A stable word.
    package var code: String
    /// What happened.
    package var message: String
    /// What to do about it.
    package var hint: String?

    /// Describes a problem.
    package init(code: String, message: String, hint: String? = nil) {
        self.code = code
        self.message = message
        self.hint = hint
    }
    /// An error as a problem of a turn.
    package init(_ error: AegisError) { self.init(code: error.code, message: error.message, hint: error.hint) }

    /// `{"code", "message", "hint"}`, without a hint where there is none.
    package var json: JSONValue {
        let fields = [JSONValue.Field("code", .string(code)), JSONValue.Field("message", .string(message))]
        return .object(fields + (hint.map { [JSONValue.Field("hint", .string($0))] } ?? []))
    }
}

/// One thing that happened in an agent's session. What is not in the list of steps has not happened: the list alone tells
/// what comes next, also after `kill -9` (decision D34).
package enum SessionStep: Sendable, Hashable {
    /// A turn begins: somebody has sent a message.
    case began(trace: String, text: String, from: String?)
    /// The model has answered.
    case replied([ModelMessage.Block], StopReason, TokenUsage)
    /// A tool is about to be called; its effect may have happened from here on.
    case intent(call: String)
    /// A tool has answered, or was not called.
    case outcome(ToolOutput)
    /// Somebody wants the turn to end.
    case stopped
    /// The turn has ended.
    case ended(TurnStop, TurnProblem?)
    /// The turn that ended last is begun anew where it stood, by the policy of the agent's manifest. The mark is that of what its
    /// model is told, as are those of the next two: kept, so that each question says it in the same words.
    case restarted(mark: String = Frame.newMark())
    /// So many of the oldest messages of the conversation are this text from now on; their steps are kept as the archive.
    /// The usage is that of the call which wrote it.
    case summarized(messages: Int, text: String, usage: TokenUsage = .zero, mark: String = Frame.newMark())
    /// So many of the oldest messages are left out, as there was no room and no summary.
    case dropped(messages: Int, mark: String = Frame.newMark())
    /// Texts of the conversation are cut to so many bytes each, as what was left of it did not fit.
    case shortened(bytes: Int)
    /// A call of a model has come to nothing that the conversation shows, and took this.
    case spent(TokenUsage)
    /// Why something takes its time: for people, the model is not told.
    case note(String)
}

extension SessionStep: Decodable {
    fileprivate enum Kind: String, Decodable {
        case began, replied, intent, outcome, stopped, ended, restarted, summarized, dropped, shortened, spent, note
    }
    fileprivate enum Keys: String, CodingKey {
        case kind, trace, text, from, blocks, stop, usage, call, output, error, messages, bytes, mark
    }

    package init(from decoder: any Decoder) throws {
        let c = try decoder.container(keyedBy: Keys.self)
        // Sessions of an earlier release have none: one is drawn when they are read, and their provider's cache is missed once.
        func mark() throws -> String { try c.decodeIfPresent(String.self, forKey: .mark) ?? Frame.newMark() }
        switch try c.decode(Kind.self, forKey: .kind) {
        case .began:
            self = .began(
                trace: try c.decode(String.self, forKey: .trace), text: try c.decode(String.self, forKey: .text),
                from: try c.decodeIfPresent(String.self, forKey: .from))
        case .replied:
            self = .replied(
                try c.decode([ModelMessage.Block].self, forKey: .blocks),
                try c.decode(StopReason.self, forKey: .stop), try c.decode(TokenUsage.self, forKey: .usage))
        case .intent: self = .intent(call: try c.decode(String.self, forKey: .call))
        case .outcome: self = .outcome(try c.decode(ToolOutput.self, forKey: .output))
        case .stopped: self = .stopped
        case .restarted: self = .restarted(mark: try mark())
        case .ended:
            self = .ended(
                try c.decode(TurnStop.self, forKey: .stop), try c.decodeIfPresent(TurnProblem.self, forKey: .error))
        case .summarized:
            self = .summarized(
                messages: try c.decode(Int.self, forKey: .messages), text: try c.decode(String.self, forKey: .text),
                // Earlier releases did not count it.
                usage: try c.decodeIfPresent(TokenUsage.self, forKey: .usage) ?? .zero, mark: try mark())
        case .dropped: self = .dropped(messages: try c.decode(Int.self, forKey: .messages), mark: try mark())
        case .shortened: self = .shortened(bytes: try c.decode(Int.self, forKey: .bytes))
        case .spent: self = .spent(try c.decode(TokenUsage.self, forKey: .usage))
        case .note: self = .note(try c.decode(String.self, forKey: .text))
        }
    }
}

extension SessionStep: Encodable {
    package func encode(to encoder: any Encoder) throws { try json.encode(to: encoder) }

    /// What is kept of it, and what `init(from:)` reads. By hand, as each step of each turn waits for it.
    ///
    /// An object with its `kind` first.
    package var json: JSONValue {
        func object(_ kind: Kind, _ fields: (Keys, JSONValue?)...) -> JSONValue {
            .object(
                [JSONValue.Field("kind", .string(kind.rawValue))]
                    + fields.compactMap { key, value in value.map { JSONValue.Field(key.rawValue, $0) } })
        }
        switch self {
        case .began(let trace, let text, let from):
            return object(
                .began, (.trace, .string(trace)), (.text, .string(text)), (.from, from.map { .string($0) }))
        case .replied(let blocks, let stop, let usage):
            return object(
                .replied, (.blocks, .array(blocks.map(\.json))), (.stop, .string(stop.word)), (.usage, usage.json))
        case .intent(let call): return object(.intent, (.call, .string(call)))
        case .outcome(let output):
            return object(
                .outcome,
                (.output, ["id": .string(output.id), "text": .string(output.text), "is_error": .bool(output.isError)]))
        case .stopped: return object(.stopped)
        case .restarted(let mark): return object(.restarted, (.mark, .string(mark)))
        case .ended(let stop, let problem):
            return object(
                .ended, (.stop, .string(stop.rawValue)),
                (.error, problem?.json))
        case .summarized(let messages, let text, let usage, let mark):
            return object(
                .summarized, (.messages, .number(messages)), (.text, .string(text)),
                (.usage, usage == .zero ? nil : usage.json), (.mark, .string(mark)))
        case .dropped(let messages, let mark):
            return object(.dropped, (.messages, .number(messages)), (.mark, .string(mark)))
        case .shortened(let bytes): return object(.shortened, (.bytes, .number(bytes)))
        case .spent(let usage): return object(.spent, (.usage, usage.json))
        case .note(let text): return object(.note, (.text, .string(text)))
        }
    }
}
