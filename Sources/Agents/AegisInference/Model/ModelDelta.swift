/// A piece of an answer while it arrives.
package enum ModelDelta: Sendable, Hashable {
    /// More text.
    case text(String)
    /// More of what the model thinks.
    case reasoning(String)
    /// The model begins to ask for a tool.
    case toolUse(id: String, name: String)
    /// More of the JSON text of that tool's arguments.
    case toolInput(id: String, fragment: String)
}

/// How a delta is recorded: `{"text": "..."}`, `{"reasoning": "..."}`, `{"tool_use": NAME, "id": ID}`, `{"tool_input": "...", "id": ID}`.
extension ModelDelta: Codable {
    private enum Keys: String, CodingKey {
        case text, reasoning, id
        case toolUse = "tool_use"
        case toolInput = "tool_input"
    }

    package func encode(to encoder: any Encoder) throws {
        var object = encoder.container(keyedBy: Keys.self)
        switch self {
        case .text(let text): try object.encode(text, forKey: .text)
        case .reasoning(let text): try object.encode(text, forKey: .reasoning)
        case .toolUse(let id, let name):
            try object.encode(name, forKey: .toolUse)
            try object.encode(id, forKey: .id)
        case .toolInput(let id, let fragment):
            try object.encode(fragment, forKey: .toolInput)
            try object.encode(id, forKey: .id)
        }
    }

    package init(from decoder: any Decoder) throws {
        let object = try decoder.container(keyedBy: Keys.self)
        if let text = try object.decodeIfPresent(String.self, forKey: .text) {
            self = .text(text)
        } else if let text = try object.decodeIfPresent(String.self, forKey: .reasoning) {
            self = .reasoning(text)
        } else if let name = try object.decodeIfPresent(String.self, forKey: .toolUse) {
            self = .toolUse(id: try object.decode(String.self, forKey: .id), name: name)
        } else {
            self = .toolInput(
                id: try object.decode(String.self, forKey: .id),
                fragment: try object.decode(String.self, forKey: .toolInput))
        }
    }
}
