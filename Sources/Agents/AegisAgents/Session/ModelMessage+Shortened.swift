package import AegisInference
internal import AegisJSON

extension ModelMessage {
    /// How long single texts of a conversation may be left when nothing else makes room, in bytes, from the longest on.
    static let lengths = (6...16).reversed().map { 1 << $0 }

    /// The message with long texts cut in the middle: the last thing that is done to make a conversation fit.
    ///
    /// Calls and results keep their ids, so that none of them is parted from the other.
    ///
    /// - Parameters:
    ///   - bytes: how long a text may be, beside the note that says how much is left out.
    ///   - text: what is left as it is: the task that the model works on.
    /// - Returns: a message that is never empty where this one is not.
    package func shortened(to bytes: Int, sparing text: String?) -> ModelMessage {
        var message = self
        message.blocks = blocks.compactMap { Self.shortened($0, bytes, text) }
        if message.blocks.isEmpty, !blocks.isEmpty { message.blocks = [.text("[left out for want of room]")] }
        return message
    }

    private static func shortened(_ block: Block, _ bytes: Int, _ spared: String?) -> Block? {
        switch block {
        case .text(let text): return .text(text == spared ? text : Frame.shortened(text, bytes))
        case .reasoning(let text, let signature, let provider):
            // A signature is of the whole: thoughts that are cut are none.
            let length = text.utf8.count + (signature?.utf8.count ?? 0)
            return length <= bytes
                ? block
                : signature == nil
                    ? .reasoning(text: shortened(text, bytes), signature: nil, provider: provider) : nil
        case .toolUse(var use):
            use.malformed = use.malformed.map { shortened($0, bytes) }
            use.input = shortened(arguments: use.input, bytes)
            return .toolUse(use)
        case .toolResult(var output):
            output.text = shortened(output.text, bytes)
            return .toolResult(output)
        }
    }

    /// What was cut once is not cut again to the same length.
    static func shortened(_ text: String, _ bytes: Int) -> String {
        text.utf8.count > bytes + 64 ? Shown.middleCut(text, bytes: bytes) : text
    }

    /// Arguments stay an object, as every provider wants them.
    private static func shortened(arguments: JSONValue, _ bytes: Int) -> JSONValue {
        let text = arguments.compact
        guard text.count > bytes + 96 else { return arguments }
        return ["LEFT_OUT": .string(shortened(String(decoding: text, as: UTF8.self), bytes))]
    }
}
