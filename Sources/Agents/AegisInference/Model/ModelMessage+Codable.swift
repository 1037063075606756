internal import AegisJSON

/// How a block is stored: an object whose `type` is `text`, `reasoning`, `tool_use` or `tool_result`.
extension ModelMessage.Block: Codable {
    private enum Keys: String, CodingKey { case type, text, signature, provider }
    private enum Kind: String, Decodable {
        case text, reasoning
        case toolUse = "tool_use"
        case toolResult = "tool_result"
    }

    package func encode(to encoder: any Encoder) throws {
        try json.encode(to: encoder)
    }

    package init(from decoder: any Decoder) throws {
        let object = try decoder.container(keyedBy: Keys.self)
        switch try object.decode(Kind.self, forKey: .type) {
        case .text: self = .text(try object.decode(String.self, forKey: .text))
        case .reasoning:
            self = .reasoning(
                text: try object.decode(String.self, forKey: .text),
                signature: try object.decodeIfPresent(String.self, forKey: .signature),
                provider: try object.decodeIfPresent(String.self, forKey: .provider))
        case .toolUse: self = .toolUse(try ToolUse(from: decoder))
        case .toolResult: self = .toolResult(try ToolOutput(from: decoder))
        }
    }
}

extension ToolUse: Codable {
    private enum Keys: String, CodingKey { case id, name, input, malformed }

    package func encode(to encoder: any Encoder) throws {
        var object = encoder.container(keyedBy: Keys.self)
        try object.encode(id, forKey: .id)
        try object.encode(name, forKey: .name)
        if malformed == nil { try object.encode(input, forKey: .input) }
        try object.encodeIfPresent(malformed, forKey: .malformed)
    }

    package init(from decoder: any Decoder) throws {
        let object = try decoder.container(keyedBy: Keys.self)
        let malformed = try object.decodeIfPresent(String.self, forKey: .malformed)
        self.init(
            id: try object.decode(String.self, forKey: .id), name: try object.decode(String.self, forKey: .name),
            input: malformed == nil ? try object.decode(JSONValue.self, forKey: .input) : .null, malformed: malformed)
    }
}
