internal import AegisJSON

/// Reads answers of chat completions, as the many servers of this dialect give them.
struct OpenAIDecoder: ReplyDecoder {
    private struct Call {
        /// The server's number of it, where it gives one.
        var index: Int?
        /// The server's id of it; empty when it gave none.
        var givenID: String
        var id: String
        var name: String
        var arguments = ""
        var isAnnounced = false
    }

    /// What an id begins with when the server gives none.
    private let turn: Int
    private var text = ""
    private var reasoning = ""
    private var calls: [Call] = []
    private var model = ""
    private var usage: TokenUsage?
    private var reason: String?
    private var stopText: String?
    private var hasRefused = false
    private var hasStarted = false
    private(set) var isDone = false

    /// A decoder for one reply.
    ///
    /// - Parameter turn: how many turns the conversation has: ids that are made here are never used twice in it.
    init(turn: Int) { self.turn = turn }

    // MARK: Streams

    mutating func event(_ name: String, _ data: [UInt8], _ emit: (ModelDelta) -> Void) throws(ModelError) {
        if data.elementsEqual("[DONE]".utf8) {
            isDone = true
            return
        }
        let chunk = try ModelError.parse(data)
        if let error = chunk["error"], error != .null { throw Self.failure(error, status: nil, retryAfter: nil) }
        guard chunk.fields != nil else { throw .bad("a piece of the stream is no object") }
        hasStarted = true
        if let model = chunk["model"]?.text, !model.isEmpty { self.model = model }
        count(chunk["usage"])
        guard let choice = chunk["choices"]?.elements?.first else { return }
        try add(choice["delta"] ?? choice["message"] ?? .null, emit)
        end(choice)
    }

    private mutating func end(_ choice: JSONValue) {
        if let reason = choice["finish_reason"]?.text, !reason.isEmpty { self.reason = reason }
        if let text = choice["stop_reason"]?.text { stopText = text }
        // Some servers count here.
        count(choice["usage"])
    }

    /// Takes a piece of a message, or a whole one.
    private mutating func add(_ delta: JSONValue, _ emit: (ModelDelta) -> Void) throws(ModelError) {
        for name in ["reasoning_content", "reasoning"] {
            guard let more = delta[name]?.text, !more.isEmpty else { continue }
            reasoning += more
            emit(.reasoning(more))
            break
        }
        for more in Self.texts(delta["content"]) where !more.isEmpty {
            text += more
            emit(.text(more))
        }
        if let more = delta["refusal"]?.text, !more.isEmpty {
            hasRefused = true
            text += more
            emit(.text(more))
        }
        for call in delta["tool_calls"]?.elements ?? [] { try add(call: call, emit) }
    }

    /// Content is a text or a list of parts.
    private static func texts(_ content: JSONValue?) -> [String] {
        if let text = content?.text { return [text] }
        return (content?.elements ?? []).compactMap { part in
            part["type"]?.text == "text" ? part["text"]?.text : nil
        }
    }

    private mutating func add(call piece: JSONValue, _ emit: (ModelDelta) -> Void) throws(ModelError) {
        let index = piece["index"]?.count
        let id = piece["id"]?.text ?? ""
        let name = piece["function"]?["name"]?.text ?? ""
        let place = try place(index, id, name)
        if calls[place].name.isEmpty { calls[place].name = name }
        if !calls[place].isAnnounced, !calls[place].name.isEmpty {
            calls[place].isAnnounced = true
            emit(.toolUse(id: calls[place].id, name: calls[place].name))
        }
        // Arguments are a text; where they are an object, that is their text.
        let arguments = piece["function"]?["arguments"]
        let more =
            arguments?.text
            ?? (arguments?.fields == nil ? "" : arguments.map { String(decoding: $0.compact, as: UTF8.self) } ?? "")
        guard !more.isEmpty else { return }
        calls[place].arguments += more
        if calls[place].isAnnounced { emit(.toolInput(id: calls[place].id, fragment: more)) }
    }

    /// Which call a piece belongs to. Most servers number them; some give each the same number, and some none at all.
    private mutating func place(_ index: Int?, _ id: String, _ name: String) throws(ModelError) -> Int {
        let known = index.map { index in calls.lastIndex { $0.index == index } } ?? calls.indices.last
        if let known {
            let isAnother = !id.isEmpty && !name.isEmpty && !calls[known].givenID.isEmpty && id != calls[known].givenID
            let hasNoNumber = index == nil && !name.isEmpty && calls[known].isAnnounced && id.isEmpty
            if !isAnother, !hasNoNumber {
                return known
            }
        }
        guard calls.count < ReplyLimits.blocks else {
            throw .large("it asks for more than \(ReplyLimits.blocks) tools")
        }
        var own = id.isEmpty ? "call_\(turn)_\(calls.count)" : id
        if calls.contains(where: { $0.id == own }) { own += "_\(calls.count)" }
        calls.append(Call(index: index, givenID: id, id: own, name: ""))
        return calls.count - 1
    }

    mutating func finish() throws(ModelError) -> ModelReply {
        guard isDone || reason != nil else {
            throw hasStarted ? .cut : ModelError(.cutStream, "the stream ended before the answer began")
        }
        return try reply()
    }

    // MARK: Whole answers

    func whole(_ answer: JSONValue, _ emit: (ModelDelta) -> Void) throws(ModelError) -> ModelReply {
        if let error = answer["error"], error != .null { throw Self.failure(error, status: nil, retryAfter: nil) }
        guard let choice = answer["choices"]?.elements?.first, let message = choice["message"] else {
            throw .bad("it has no choice with a message")
        }
        var copy = self
        copy.model = answer["model"]?.text ?? ""
        copy.count(answer["usage"])
        try copy.add(message, emit)
        copy.end(choice)
        return try copy.reply()
    }

    // MARK: What it comes to

    private mutating func count(_ said: JSONValue?) {
        guard let said, let prompt = said["prompt_tokens"]?.count else { return }
        let details = said["prompt_tokens_details"]
        let cached = min(prompt, details?["cached_tokens"]?.count ?? said["prompt_cache_hit_tokens"]?.count ?? 0)
        let written = min(prompt - cached, details?["cache_write_tokens"]?.count ?? 0)
        // The dialect counts a part both in the whole and by itself.
        usage = TokenUsage(
            input: prompt - cached - written, output: said["completion_tokens"]?.count ?? 0, cacheRead: cached,
            cacheWrite: written)
    }

    private func reply() throws(ModelError) -> ModelReply {
        if reason == "insufficient_system_resource" || reason == "error" {
            throw ModelError(.overloaded, "the provider broke the answer off (\(reason ?? ""))")
        }
        var blocks: [ModelMessage.Block] = []
        if !reasoning.isEmpty { blocks.append(.reasoning(text: reasoning, signature: nil)) }
        if !text.isEmpty { blocks.append(.text(text)) }
        for (place, call) in calls.enumerated() {
            guard !call.name.isEmpty else { throw .bad("a tool is asked for without a name") }
            // Cut before a word of its arguments: that is not the same as none.
            let isCut = reason == "length" && place == calls.count - 1 && call.arguments.isEmpty
            blocks.append(
                .toolUse(
                    isCut
                        ? ToolUse(id: call.id, name: call.name, input: .null, malformed: "")
                        : ToolUse(id: call.id, name: call.name, arguments: call.arguments)))
        }
        return ModelReply(blocks: blocks, stop: stop, usage: usage ?? estimate, model: model)
    }

    private var stop: StopReason {
        switch reason {
        case "length": .maxTokens
        case "content_filter": .refusal
        case "tool_calls", "function_call": .toolUse
        // Not every server says so.
        case "stop" where !calls.isEmpty, "eos" where !calls.isEmpty, nil where !calls.isEmpty: .toolUse
        case "stop", "eos", nil: hasRefused ? .refusal : stopText == nil ? .endTurn : .stopSequence
        case .some(let word): .other(word)
        }
    }

    /// What the answer may have used when the server does not count: four bytes to a token. The question is counted by who sent it.
    private var estimate: TokenUsage {
        let bytes = calls.reduce(text.utf8.count + reasoning.utf8.count) { $0 + $1.arguments.utf8.count + 16 }
        return TokenUsage(output: (bytes + 3) / 4, isEstimated: true)
    }
}
