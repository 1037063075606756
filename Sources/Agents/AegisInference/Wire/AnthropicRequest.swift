internal import AegisJSON

/// How a question is written for the Anthropic Messages API.
enum AnthropicRequest {
    /// What marks the text of a block whose reasoning the provider keeps to itself; its signature is that block's data.
    static let redacted = "redacted_thinking:"

    /// The body.
    static func body(_ request: ModelRequest) -> JSONValue {
        let cached: JSONValue = ["type": "ephemeral"]
        var fields: [(String, JSONValue)] = [
            ("model", .string(request.model)), ("max_tokens", .number(max(1, request.maxOutputTokens))),
            ("stream", true),
        ]
        // The provider's order is tools, system, messages: a mark at the end of one keeps all before it.
        let hasSystem = RequestTurns.says(request.system)
        if hasSystem {
            fields.append(
                ("system", [object([("type", "text"), ("text", .string(request.system)), ("cache_control", cached)])]))
        }
        if !request.tools.isEmpty {
            let tools = request.tools.enumerated().map { index, tool -> JSONValue in
                var fields: [(String, JSONValue)] = [("name", .string(tool.name))]
                if !tool.description.isEmpty { fields.append(("description", .string(tool.description))) }
                fields.append(("input_schema", tool.schema))
                if !hasSystem, index == request.tools.count - 1 { fields.append(("cache_control", cached)) }
                return object(fields)
            }
            fields.append(("tools", .array(tools)))
        }
        // A conversation with tools goes on: its next question begins with this one.
        fields.append(("messages", messages(request.messages, mark: request.tools.isEmpty ? nil : cached)))
        if let temperature = request.temperature { fields.append(("temperature", .number("\(temperature)"))) }
        let stops = request.stopSequences.filter(RequestTurns.says)
        if !stops.isEmpty { fields.append(("stop_sequences", .array(stops.map { .string($0) }))) }
        return object(fields)
    }

    private static func messages(_ messages: [ModelMessage], mark: JSONValue?) -> JSONValue {
        var ids = SentIDs()
        var sent: [JSONValue] = []
        var previous: ModelMessage.Role?
        for turn in RequestTurns(messages).turns {
            let blocks = turn.blocks.compactMap { block($0, of: turn.role, &ids) }
            // A turn of nothing that can be sent; what stands on its two sides is one turn to the provider.
            if blocks.isEmpty { continue }
            if previous == turn.role, case .object(var fields)? = sent.last, let before = fields[1].value.elements {
                fields[1].value = .array(before + blocks)
                sent[sent.count - 1] = .object(fields)
            } else {
                sent.append(object([("role", .string(turn.role.rawValue)), ("content", .array(blocks))]))
            }
            previous = turn.role
        }
        if let mark, previous == .user, case .object(var fields)? = sent.last, var blocks = fields[1].value.elements,
            case .object(var last)? = blocks.last
        {
            last.append(JSONValue.Field("cache_control", mark))
            blocks[blocks.count - 1] = .object(last)
            fields[1].value = .array(blocks)
            sent[sent.count - 1] = .object(fields)
        }
        return .array(sent)
    }

    private static func block(
        _ block: ModelMessage.Block, of role: ModelMessage.Role, _ ids: inout SentIDs
    ) -> JSONValue? {
        switch block {
        case .text(let text):
            return RequestTurns.says(text) ? object([("type", "text"), ("text", .string(text))]) : nil
        case .reasoning(let text, let signature, _):
            // Without its signature reasoning is another provider's, and refused.
            guard role == .assistant, let signature else { return nil }
            if text.isEmpty, signature.hasPrefix(redacted) {
                return object([
                    ("type", "redacted_thinking"), ("data", .string(String(signature.dropFirst(redacted.count)))),
                ])
            }
            return object([("type", "thinking"), ("thinking", .string(text)), ("signature", .string(signature))])
        case .toolUse(let use):
            return object([
                ("type", "tool_use"), ("id", .string(ids.sent(use.id))), ("name", .string(use.sentName)),
                ("input", use.sentInput),
            ])
        case .toolResult(let output):
            var fields: [(String, JSONValue)] = [
                ("type", "tool_result"), ("tool_use_id", .string(ids.sent(output.id))),
                ("content", .string(output.text)),
            ]
            if output.isError { fields.append(("is_error", true)) }
            return object(fields)
        }
    }

    private static func object(_ fields: [(String, JSONValue)]) -> JSONValue {
        .object(fields.map { JSONValue.Field($0.0, $0.1) })
    }
}
