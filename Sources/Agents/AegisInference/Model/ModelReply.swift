internal import AegisJSON

/// A model's whole answer.
package struct ModelReply: Sendable, Hashable, Codable {
    /// What it said, in order. Empty when the model ended its turn without a word.
    package var blocks: [ModelMessage.Block]
    /// Why it ended.
    package var stop: StopReason
    /// What it used, as the provider counted it; `isEstimated` when it did not.
    package var usage: TokenUsage
    /// The model that the provider says has answered.
    package var model: String

    /// Makes an answer.
    package init(blocks: [ModelMessage.Block], stop: StopReason, usage: TokenUsage, model: String) {
        self.blocks = blocks
        self.stop = stop
        self.usage = usage
        self.model = model
    }

    /// The answer as a turn of the conversation.
    package var message: ModelMessage { ModelMessage(.assistant, blocks) }
    /// All text of the answer.
    package var text: String { message.text }
    /// The tools that it asks for.
    package var toolUses: [ToolUse] { message.toolUses }

    /// Says of what was thought whose it is.
    mutating func nameReasoning(after provider: String) {
        for (index, block) in blocks.enumerated() {
            guard case .reasoning(let text, let signature, _) = block else { continue }
            blocks[index] = .reasoning(text: text, signature: signature, provider: provider)
        }
    }
}

/// Why a model ended its answer.
package enum StopReason: Sendable, Hashable {
    /// It had no more to say.
    case endTurn
    /// It asks for tools.
    case toolUse
    /// The limit of output tokens was reached; the answer is cut.
    case maxTokens
    /// One of the request's stop sequences came.
    case stopSequence
    /// It, or the provider's filter, declined.
    case refusal
    /// The provider's own word for another reason.
    case other(String)

    /// The word that is stored and shown.
    package var word: String {
        switch self {
        case .endTurn: "end_turn"
        case .toolUse: "tool_use"
        case .maxTokens: "max_tokens"
        case .stopSequence: "stop_sequence"
        case .refusal: "refusal"
        case .other(let word): word
        }
    }

    /// Reads a word that `word` wrote; any unknown one is `.other`.
    package init(word: String) {
        let known: [StopReason] = [.endTurn, .toolUse, .maxTokens, .stopSequence, .refusal]
        self = known.first { $0.word == word } ?? .other(word)
    }
}

extension StopReason: Codable {
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(word)
    }
    package init(from decoder: any Decoder) throws {
        self.init(word: try decoder.singleValueContainer().decode(String.self))
    }
}

/// Tokens of one or more calls. The four parts do not overlap: their sum is everything.
package struct TokenUsage: Sendable, Hashable {
    /// Input that was neither read from nor written to the provider's cache.
    package var input: Int
    /// Output, reasoning included.
    package var output: Int
    /// Input read from the cache.
    package var cacheRead: Int
    /// Input written to the cache.
    package var cacheWrite: Int
    /// Whether any of it was counted by us because the provider did not say.
    package var isEstimated: Bool

    /// Makes a usage; numbers below 0 count as 0.
    package init(input: Int = 0, output: Int = 0, cacheRead: Int = 0, cacheWrite: Int = 0, isEstimated: Bool = false) {
        self.input = max(0, input)
        self.output = max(0, output)
        self.cacheRead = max(0, cacheRead)
        self.cacheWrite = max(0, cacheWrite)
        self.isEstimated = isEstimated
    }

    /// Nothing.
    package static let zero = TokenUsage()
    /// Everything that was sent.
    package var totalInput: Int { input.saturatingAdd(cacheRead).saturatingAdd(cacheWrite) }
    /// Everything.
    package var total: Int { totalInput.saturatingAdd(output) }

    /// The sum of two, held at the largest number rather than wrapped around.
    package static func + (a: TokenUsage, b: TokenUsage) -> TokenUsage {
        TokenUsage(
            input: a.input.saturatingAdd(b.input), output: a.output.saturatingAdd(b.output),
            cacheRead: a.cacheRead.saturatingAdd(b.cacheRead), cacheWrite: a.cacheWrite.saturatingAdd(b.cacheWrite),
            isEstimated: a.isEstimated || b.isEstimated)
    }
    /// Adds another.
    package static func += (a: inout TokenUsage, b: TokenUsage) { a = a + b }
}

extension TokenUsage: Codable {
    private enum Keys: String, CodingKey {
        case input, output, estimated
        case cacheRead = "cache_read"
        case cacheWrite = "cache_write"
    }

    package func encode(to encoder: any Encoder) throws {
        try json.encode(to: encoder)
    }

    package init(from decoder: any Decoder) throws {
        let object = try decoder.container(keyedBy: Keys.self)
        func count(_ key: Keys) throws -> Int { try object.decodeIfPresent(Int.self, forKey: key) ?? 0 }
        self.init(
            input: try count(.input), output: try count(.output), cacheRead: try count(.cacheRead),
            cacheWrite: try count(.cacheWrite),
            isEstimated: try object.decodeIfPresent(Bool.self, forKey: .estimated) ?? false)
    }
}

extension FixedWidthInteger {
    /// The sum, or the nearest number that there is.
    package func saturatingAdd(_ other: Self) -> Self {
        let (sum, overflow) = addingReportingOverflow(other)
        guard overflow else { return sum }
        return other < 0 ? .min : .max
    }
    /// The product, or the nearest number that there is.
    func saturatingMultiply(_ other: Self) -> Self {
        let (product, overflow) = multipliedReportingOverflow(by: other)
        guard overflow else { return product }
        return (self < 0) == (other < 0) ? .max : .min
    }
}
