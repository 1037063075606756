package import AegisJSON

/// One turn of a conversation, in the form that every provider's dialect is made from and sessions store.
package struct ModelMessage: Sendable, Hashable, Codable {
    /// Who speaks. Results of tools are the user's.
    package enum Role: String, Sendable, Hashable, Codable { case user, assistant }

    /// Whose turn it is.
    package var role: Role
    /// What was said, in order.
    package var blocks: [Block]

    /// Makes a turn.
    package init(_ role: Role, _ blocks: [Block]) {
        self.role = role
        self.blocks = blocks
    }
    /// A user's turn of one text.
    package static func user(_ text: String) -> ModelMessage { ModelMessage(.user, [.text(text)]) }
    /// A model's turn of one text.
    package static func assistant(_ text: String) -> ModelMessage { ModelMessage(.assistant, [.text(text)]) }

    /// All text of the turn, one after the other; reasoning and tools left out.
    package var text: String { blocks.compactMap(\.text).joined() }
    /// The tools that the turn asks for, in order.
    package var toolUses: [ToolUse] { blocks.compactMap(\.toolUse) }
    /// The results that the turn carries, in order.
    package var toolResults: [ToolOutput] { blocks.compactMap(\.toolResult) }
}

extension ModelMessage {
    /// A piece of a turn.
    package enum Block: Sendable, Hashable {
        /// Text for whoever reads the conversation.
        case text(String)
        /// What a model thought before it answered. Its signature goes back unchanged to the provider that made it, and to no other
        /// one; nil is the one that the conversation is meant for.
        case reasoning(text: String, signature: String?, provider: String? = nil)
        /// The model asks for a tool.
        case toolUse(ToolUse)
        /// What a tool answered.
        case toolResult(ToolOutput)

        /// The text of a text block.
        package var text: String? { if case .text(let text) = self { text } else { nil } }
        /// The request of a tool block.
        package var toolUse: ToolUse? { if case .toolUse(let use) = self { use } else { nil } }
        /// The answer of a result block.
        package var toolResult: ToolOutput? { if case .toolResult(let output) = self { output } else { nil } }
    }
}

/// A model's request to run a tool.
package struct ToolUse: Sendable, Hashable {
    /// The provider's name of this request; the result carries it back.
    package var id: String
    /// The tool.
    package var name: String
    /// Its arguments; `.null` when `malformed` is set.
    package var input: JSONValue
    /// What the model wrote when that was no valid JSON: the tool must not run, and the model is told (never silently `{}`).
    package var malformed: String?

    /// Makes a request.
    package init(id: String, name: String, input: JSONValue, malformed: String? = nil) {
        self.id = id
        self.name = name
        self.input = input
        self.malformed = malformed
    }

    /// Makes a request from the text that a model wrote as its arguments; an empty one means none, `{}`.
    package init(id: String, name: String, arguments: String) {
        if arguments.utf8.allSatisfy({ [9, 10, 13, 32].contains($0) }) {
            self.init(id: id, name: name, input: .object([]))
        } else if let input = try? JSONValue(parsing: arguments.utf8, duplicates: .refuse), input.fields != nil {
            self.init(id: id, name: name, input: input)
        } else {
            self.init(id: id, name: name, input: .null, malformed: arguments)
        }
    }
}

/// What a tool answered to a request.
package struct ToolOutput: Sendable, Hashable, Codable {
    /// The request's id.
    package var id: String
    /// What the model reads.
    package var text: String
    /// Whether the tool failed or was denied.
    package var isError: Bool

    /// Makes an answer.
    package init(id: String, text: String, isError: Bool = false) {
        self.id = id
        self.text = text
        self.isError = isError
    }

    private enum CodingKeys: String, CodingKey {
        case id, text
        case isError = "is_error"
    }
}
