package import AegisJSON

// What `encode(to:)` writes, without an encoder: each step of each turn waits for it.

extension ModelMessage.Block {
    /// The tree of the block.
    package var json: JSONValue {
        switch self {
        case .text(let text): ["type": "text", "text": .string(text)]
        case .reasoning(let text, let signature, let provider): Self.reasoning(text, signature, provider)
        case .toolUse(let use):
            [
                "type": "tool_use", "id": .string(use.id), "name": .string(use.name),
                use.malformed == nil ? "input" : "malformed": use.malformed.map { .string($0) } ?? use.input,
            ]
        case .toolResult(let output):
            [
                "type": "tool_result", "id": .string(output.id), "text": .string(output.text),
                "is_error": .bool(output.isError),
            ]
        }
    }
}

extension ModelMessage.Block {
    private static func reasoning(_ text: String, _ signature: String?, _ provider: String?) -> JSONValue {
        var fields: [JSONValue.Field] = [.init("type", "reasoning"), .init("text", .string(text))]
        if let signature { fields.append(.init("signature", .string(signature))) }
        if let provider { fields.append(.init("provider", .string(provider))) }
        return .object(fields)
    }
}

extension TokenUsage {
    /// The tree of the usage.
    package var json: JSONValue {
        var fields: [JSONValue.Field] = [
            .init("input", .number(input)), .init("output", .number(output)), .init("cache_read", .number(cacheRead)),
            .init("cache_write", .number(cacheWrite)),
        ]
        if isEstimated { fields.append(.init("estimated", .bool(true))) }
        return .object(fields)
    }
}
