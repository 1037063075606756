package import AegisJSON

/// A piece of an answer while a model writes it, or what has become of that answer. It is told to whoever listens and kept nowhere:
/// what counts is the step of the session that comes after it.
package struct LiveEvent: Sendable, Hashable {
    /// What there is to tell.
    package enum Kind: Sendable, Hashable {
        /// More text, after so many bytes of the answer's text.
        case text(String, at: Int)
        /// More of what the model thinks, after so many bytes of that.
        case reasoning(String, at: Int)
        /// The model begins to ask for a tool.
        case tool(name: String, call: String)
        /// All that has come of the answer is void: it begins anew, or the turn fails.
        case restart
        /// The answer has ended; one that is not whole is void.
        case end(isWhole: Bool)
        /// So many bytes of text were left out, for the listener was slow.
        case gap(bytes: Int)
    }

    /// Whose answer it is.
    package var agent: String
    /// The message that it answers.
    package var trace: String
    /// Model calls of the turn before this one.
    package var step: Int
    /// How many steps the session had when the model was asked: what tells of the answer comes before any later one.
    package var position: Int
    package var kind: Kind

    /// What readers get: `kind` is the same for all of them, `type` says which it is.
    package var json: JSONValue {
        var fields: [JSONValue.Field] = [
            .init("kind", .string(Self.name)), .init("agent_id", .string(agent)), .init("trace_id", .string(trace)),
            .init("step", .number(step)),
        ]
        switch kind {
        case .text(let text, let at):
            fields += [.init("type", "text"), .init("at", .number(at)), .init("text", .string(text))]
        case .reasoning(let text, let at):
            fields += [.init("type", "reasoning"), .init("at", .number(at)), .init("text", .string(text))]
        case .tool(let name, let call):
            fields += [.init("type", "tool"), .init("tool", .string(name)), .init("call_id", .string(call))]
        case .restart: fields.append(.init("type", "restart"))
        case .end(let isWhole): fields += [.init("type", "end"), .init("complete", .bool(isWhole))]
        case .gap(let bytes): fields += [.init("type", "gap"), .init("lost_bytes", .number(bytes))]
        }
        return .object(fields)
    }

    /// What the events are called on every door.
    package static let name = "agent.delta"

    /// What it takes of a listener's memory.
    var weight: Int { 128 + textBytes }

    /// Bytes of text in it.
    var textBytes: Int {
        switch kind {
        case .text(let text, _), .reasoning(let text, _): text.utf8.count
        case .tool, .restart, .end, .gap: 0
        }
    }

    private func isOfSameAnswer(as other: LiveEvent) -> Bool {
        step == other.step && position == other.position && trace == other.trace && agent == other.agent
    }

    /// Takes in what follows directly.
    ///
    /// - Returns: false when it is something else.
    mutating func absorb(_ next: LiveEvent) -> Bool {
        guard isOfSameAnswer(as: next) else { return false }
        switch (kind, next.kind) {
        case (.text(let text, let at), .text(let more, let place)) where at + text.utf8.count == place:
            kind = .text(text + more, at: at)
        case (.reasoning(let text, let at), .reasoning(let more, let place)) where at + text.utf8.count == place:
            kind = .reasoning(text + more, at: at)
        default: return false
        }
        return true
    }
}
