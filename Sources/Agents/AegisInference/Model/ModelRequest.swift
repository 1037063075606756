package import AegisJSON

/// One question to one model of one provider, free of any dialect.
package struct ModelRequest: Sendable, Hashable, Codable {
    /// The provider's id of the model, not an alias.
    package var model: String
    /// The name of the agent that asks, for scenarios and recordings; it is never sent to a provider on the network.
    package var agent: String
    /// Standing instructions; empty is none.
    package var system: String
    /// The conversation, oldest first. A turn with tool requests is followed by one user's turn with all their results.
    package var messages: [ModelMessage]
    /// The tools that the model may ask for.
    package var tools: [ModelTool]
    /// How many tokens the answer may have at most, reasoning included; at least 1.
    package var maxOutputTokens: Int
    /// How freely the model chooses; nil is the provider's default.
    package var temperature: Double?
    /// Texts at which the model stops.
    package var stopSequences: [String]

    /// Makes a request.
    package init(
        model: String, system: String = "", messages: [ModelMessage], tools: [ModelTool] = [], maxOutputTokens: Int,
        temperature: Double? = nil, stopSequences: [String] = [], agent: String = ""
    ) {
        self.model = model
        self.agent = agent
        self.system = system
        self.messages = messages
        self.tools = tools
        self.maxOutputTokens = maxOutputTokens
        self.temperature = temperature
        self.stopSequences = stopSequences
    }

    /// Leaves out what models of other providers thought; a turn that was nothing else goes with it.
    ///
    /// - Parameters:
    ///   - provider: the one that is asked. Whose the rest is need not be said any more.
    ///   - home: whose it is where nothing is said.
    package mutating func keepReasoning(of provider: String, home: String) {
        messages = messages.compactMap { message in
            let blocks = message.blocks.compactMap { block -> ModelMessage.Block? in
                guard case .reasoning(let text, let signature, let owner) = block else { return block }
                return (owner ?? home) == provider ? .reasoning(text: text, signature: signature) : nil
            }
            return blocks.isEmpty && !message.blocks.isEmpty ? nil : ModelMessage(message.role, blocks)
        }
    }

    private enum CodingKeys: String, CodingKey {
        case model, agent, system, messages, tools, temperature
        case maxOutputTokens = "max_output_tokens"
        case stopSequences = "stop_sequences"
    }
}

/// A tool as it is shown to a model.
package struct ModelTool: Sendable, Hashable, Codable {
    /// Its name: `[A-Za-z0-9_-]{1,64}` is what every provider takes.
    package var name: String
    /// What it does and when to use it.
    package var description: String
    /// JSON Schema of its input, an object.
    package var schema: JSONValue

    /// Makes a tool's description.
    package init(name: String, description: String, schema: JSONValue) {
        self.name = name
        self.description = description
        self.schema = schema
    }
}
