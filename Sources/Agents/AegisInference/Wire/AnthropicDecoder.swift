internal import AegisJSON

/// Reads answers of the Anthropic Messages API.
struct AnthropicDecoder: ReplyDecoder {
    private enum Kind {
        case text, reasoning, redacted, tool
        /// Not ours to send back.
        case unknown
    }

    /// A block as far as it has come. Its texts grow in place: an answer comes in thousands of pieces.
    private struct Part {
        var kind: Kind
        var index: Int
        var isWhole = false
        /// Text, reasoning, the data of a redacted block, or a tool's arguments.
        var text = ""
        var signature = ""
        var id = ""
        var name = ""
        /// A tool's arguments when they come with its beginning.
        var input = JSONValue.null
    }

    private var parts: [Part] = []
    private var model = ""
    private var usage = TokenUsage.zero
    private var hasUsage = false
    private var stop: String?
    private var hasStarted = false
    private(set) var isDone = false

    // MARK: Streams

    mutating func event(_ name: String, _ data: [UInt8], _ emit: (ModelDelta) -> Void) throws(ModelError) {
        let event = try ModelError.parse(data)
        // The name stands in the data as well; some gateways leave it out of the event.
        switch event["type"]?.text ?? name {
        case "message_start":
            hasStarted = true
            let message = event["message"] ?? .null
            model = message["model"]?.text ?? ""
            count(message["usage"])
        case "content_block_start": try begin(event, emit)
        case "content_block_delta": try add(event, emit)
        case "content_block_stop":
            let index = event["index"]?.count ?? -1
            for place in parts.indices where parts[place].index == index { parts[place].isWhole = true }
        case "message_delta":
            if let reason = event["delta"]?["stop_reason"]?.text { stop = reason }
            count(event["usage"])
        case "message_stop": isDone = true
        case "error": throw Self.failure(event["error"] ?? .null, status: nil, retryAfter: nil)
        // Pings, and whatever comes to be: the provider says that unknown events are to be passed over.
        default: break
        }
    }

    private mutating func begin(_ event: JSONValue, _ emit: (ModelDelta) -> Void) throws(ModelError) {
        guard let index = event["index"]?.count, let block = event["content_block"] else {
            throw .bad("a block begins without index or content")
        }
        guard !parts.contains(where: { $0.index == index }) else { throw .bad("a block begins twice") }
        guard parts.count < ReplyLimits.blocks else { throw .large("it has more than \(ReplyLimits.blocks) blocks") }
        let part = try Self.part(block, index)
        parts.append(part)
        switch part.kind {
        case .text where !part.text.isEmpty: emit(.text(part.text))
        case .reasoning where !part.text.isEmpty: emit(.reasoning(part.text))
        case .tool: emit(.toolUse(id: part.id, name: part.name))
        default: break
        }
    }

    private static func part(_ block: JSONValue, _ index: Int) throws(ModelError) -> Part {
        var part = Part(kind: .unknown, index: index)
        switch block["type"]?.text {
        case "text":
            part.kind = .text
            part.text = block["text"]?.text ?? ""
        case "thinking":
            part.kind = .reasoning
            part.text = block["thinking"]?.text ?? ""
            part.signature = block["signature"]?.text ?? ""
        case "redacted_thinking":
            part.kind = .redacted
            part.text = block["data"]?.text ?? ""
        case "tool_use":
            guard let id = block["id"]?.text, !id.isEmpty, let name = block["name"]?.text, !name.isEmpty else {
                throw .bad("a tool is asked for without id or name")
            }
            part.kind = .tool
            part.id = id
            part.name = name
            part.input = block["input"] ?? .object([])
        default: break
        }
        return part
    }

    private mutating func add(_ event: JSONValue, _ emit: (ModelDelta) -> Void) throws(ModelError) {
        let delta = event["delta"] ?? .null
        guard let index = event["index"]?.count, let place = parts.firstIndex(where: { $0.index == index }) else {
            throw .bad("a piece belongs to no block")
        }
        func piece(_ name: String) -> String? { delta[name]?.text.flatMap { $0.isEmpty ? nil : $0 } }
        switch (delta["type"]?.text, parts[place].kind) {
        case ("text_delta", .text):
            guard let more = piece("text") else { return }
            parts[place].text += more
            emit(.text(more))
        case ("thinking_delta", .reasoning):
            guard let more = piece("thinking") else { return }
            parts[place].text += more
            emit(.reasoning(more))
        case ("signature_delta", .reasoning): parts[place].signature += piece("signature") ?? ""
        case ("input_json_delta", .tool):
            guard let more = piece("partial_json") else { return }
            parts[place].text += more
            emit(.toolInput(id: parts[place].id, fragment: more))
        // Citations, and pieces of kinds that nobody knows.
        default: break
        }
    }

    mutating func finish() throws(ModelError) -> ModelReply {
        guard isDone || stop != nil else {
            throw hasStarted ? .cut : ModelError(.cutStream, "the stream ended before the answer began")
        }
        return reply()
    }

    // MARK: Whole answers

    func whole(_ answer: JSONValue, _ emit: (ModelDelta) -> Void) throws(ModelError) -> ModelReply {
        if answer["type"]?.text == "error" {
            throw Self.failure(answer["error"] ?? .null, status: nil, retryAfter: nil)
        }
        guard let content = answer["content"]?.elements else { throw .bad("it has no content") }
        guard content.count <= ReplyLimits.blocks else { throw .large("it has more than \(ReplyLimits.blocks) blocks") }
        var copy = self
        copy.model = answer["model"]?.text ?? ""
        copy.stop = answer["stop_reason"]?.text
        copy.count(answer["usage"])
        for (index, block) in content.enumerated() {
            var part = try Self.part(block, index)
            part.isWhole = true
            copy.parts.append(part)
            switch part.kind {
            case .text: emit(.text(part.text))
            case .reasoning: emit(.reasoning(part.text))
            case .tool:
                emit(.toolUse(id: part.id, name: part.name))
                emit(.toolInput(id: part.id, fragment: String(decoding: part.input.compact, as: UTF8.self)))
            default: break
            }
        }
        return copy.reply()
    }

    // MARK: What it comes to

    private mutating func count(_ said: JSONValue?) {
        guard let said, said.fields != nil else { return }
        hasUsage = true
        // Later numbers count for the whole answer, not for a part of it.
        usage.input = said["input_tokens"]?.count ?? usage.input
        usage.output = said["output_tokens"]?.count ?? usage.output
        usage.cacheRead = said["cache_read_input_tokens"]?.count ?? usage.cacheRead
        usage.cacheWrite = said["cache_creation_input_tokens"]?.count ?? usage.cacheWrite
    }

    private func reply() -> ModelReply {
        let blocks = parts.sorted { $0.index < $1.index }.compactMap(Self.block)
        var usage = usage
        usage.isEstimated = !hasUsage
        return ModelReply(blocks: blocks, stop: Self.reason(stop ?? "end_turn"), usage: usage, model: model)
    }

    private static func block(_ part: Part) -> ModelMessage.Block? {
        switch part.kind {
        case .text: return part.text.isEmpty ? nil : .text(part.text)
        case .reasoning: return .reasoning(text: part.text, signature: part.signature.isEmpty ? nil : part.signature)
        case .redacted: return .reasoning(text: "", signature: AnthropicRequest.redacted + part.text)
        case .tool:
            if !part.text.isEmpty { return .toolUse(ToolUse(id: part.id, name: part.name, arguments: part.text)) }
            guard part.isWhole, part.input.fields != nil else {
                // Cut before a word of its arguments: that is not the same as none.
                let said = part.isWhole ? String(decoding: part.input.compact, as: UTF8.self) : ""
                return .toolUse(ToolUse(id: part.id, name: part.name, input: .null, malformed: said))
            }
            return .toolUse(ToolUse(id: part.id, name: part.name, input: part.input))
        case .unknown: return nil
        }
    }

    private static func reason(_ word: String) -> StopReason {
        // The window is full: what is there is as cut as at the limit that was asked for.
        word == "model_context_window_exceeded" ? .maxTokens : StopReason(word: word)
    }
}
