internal import AegisJSON

/// What servers of the OpenAI dialect differ in.
package struct OpenAIOptions: Sendable, Hashable {
    /// What limits the answer's length is called: newer models of OpenAI refuse the older name, other servers know only that.
    package enum LimitField: String, Sendable, Hashable {
        case maxTokens = "max_tokens"
        case maxCompletionTokens = "max_completion_tokens"
    }
    /// What limits the answer's length is called.
    package var limitField: LimitField
    /// Whether the server is asked to count tokens at the end of a stream; a few old ones refuse the question.
    package var asksForUsage: Bool
    /// Whether the model gets back what it thought in the turn that is under way, as DeepSeek's wants it.
    package var returnsReasoning: Bool
    /// The most bytes of a call's id that the server takes: other servers' are longer. Nil where that is not known.
    package var longestID: Int?

    /// Options by hand.
    package init(
        limitField: LimitField = .maxTokens, asksForUsage: Bool = true, returnsReasoning: Bool = false,
        longestID: Int? = nil
    ) {
        self.longestID = longestID
        self.limitField = limitField
        self.asksForUsage = asksForUsage
        self.returnsReasoning = returnsReasoning
    }

    /// What is known of the server at a host.
    package init(host: String) {
        func isAt(_ domain: String) -> Bool { host == domain || host.hasSuffix(".\(domain)") }
        let isOpenAI = isAt("openai.com") || isAt("openai.azure.com")
        self.init(
            limitField: isOpenAI ? .maxCompletionTokens : .maxTokens, returnsReasoning: isAt("deepseek.com"),
            longestID: isOpenAI ? 40 : nil)
    }
}

/// How a question is written for chat completions.
enum OpenAIRequest {
    /// The body.
    static func body(_ request: ModelRequest, _ options: OpenAIOptions) -> JSONValue {
        var fields: [(String, JSONValue)] = [
            ("model", .string(request.model)), ("messages", messages(request, options)), ("stream", true),
        ]
        if options.asksForUsage { fields.append(("stream_options", ["include_usage": true])) }
        fields.append((options.limitField.rawValue, .number(max(1, request.maxOutputTokens))))
        if !request.tools.isEmpty {
            let tools = request.tools.map { tool -> JSONValue in
                var function: [(String, JSONValue)] = [("name", .string(tool.name))]
                if !tool.description.isEmpty { function.append(("description", .string(tool.description))) }
                function.append(("parameters", tool.schema))
                return ["type": "function", "function": object(function)]
            }
            fields.append(("tools", .array(tools)))
        }
        if let temperature = request.temperature { fields.append(("temperature", .number("\(temperature)"))) }
        let stops = request.stopSequences.filter { !$0.isEmpty }
        if !stops.isEmpty { fields.append(("stop", .array(stops.map { .string($0) }))) }
        return object(fields)
    }

    private static func messages(_ request: ModelRequest, _ options: OpenAIOptions) -> JSONValue {
        var messages: [JSONValue] = []
        if RequestTurns.says(request.system) {
            messages.append(["role": "system", "content": .string(request.system)])
        }
        let turns = RequestTurns(request.messages).turns
        // The turn under way begins after the last words of the user's own.
        let begin = turns.lastIndex { $0.role == .user && !$0.text.isEmpty } ?? 0
        var ids = options.longestID.map { SentIDs(longest: $0) }
        func sent(_ id: String) -> String { ids?.sent(id) ?? id }
        for (index, turn) in turns.enumerated() {
            switch turn.role {
            case .user: messages += results(turn, sent) + words(turn)
            case .assistant:
                if let message = answer(turn, options.returnsReasoning && index >= begin, sent) {
                    messages.append(message)
                }
            }
        }
        return .array(messages)
    }

    private static func results(_ turn: ModelMessage, _ sent: (String) -> String) -> [JSONValue] {
        turn.toolResults.map { output in
            // The dialect has no mark for a failure: the words have to say it.
            let says = output.isError && !output.text.lowercased().hasPrefix("error")
            return [
                "role": "tool", "tool_call_id": .string(sent(output.id)),
                "content": .string(says ? "Error: \(output.text)" : output.text),
            ]
        }
    }

    private static func words(_ turn: ModelMessage) -> [JSONValue] {
        let texts = turn.blocks.compactMap(\.text).filter(RequestTurns.says)
        return texts.isEmpty ? [] : [["role": "user", "content": .string(texts.joined(separator: "\n\n"))]]
    }

    private static func answer(
        _ turn: ModelMessage, _ withReasoning: Bool, _ sent: (String) -> String
    ) -> JSONValue? {
        let calls = turn.toolUses.map { use -> JSONValue in
            let arguments = String(decoding: use.sentInput.compact, as: UTF8.self)
            return [
                "id": .string(sent(use.id)), "type": "function",
                "function": ["name": .string(use.sentName), "arguments": .string(arguments)],
            ]
        }
        let text = turn.text
        guard !calls.isEmpty || RequestTurns.says(text) else { return nil }
        var fields: [(String, JSONValue)] = [("role", "assistant"), ("content", .string(text))]
        if withReasoning {
            let thoughts = turn.blocks.compactMap { block -> String? in
                // With a signature it is another provider's.
                if case .reasoning(let text, nil, _) = block { text } else { nil }
            }.joined()
            if !thoughts.isEmpty { fields.append(("reasoning_content", .string(thoughts))) }
        }
        if !calls.isEmpty { fields.append(("tool_calls", .array(calls))) }
        return object(fields)
    }

    private static func object(_ fields: [(String, JSONValue)]) -> JSONValue {
        .object(fields.map { JSONValue.Field($0.0, $0.1) })
    }
}
