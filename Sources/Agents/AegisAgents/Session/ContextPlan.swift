package import AegisInference
internal import AegisJSON

/// How much a conversation takes of a model's window. An estimate: providers count by tokenizers of their own.
package enum ContextSize {
    /// Tokens of a text: four bytes each, as English and code have it; other scripts have fewer bytes a token at least.
    package static func tokens(_ text: String) -> Int { tokens(bytes: text.utf8.count) }

    /// Tokens of a text of so many bytes.
    static func tokens(bytes: Int) -> Int { (bytes + 3) / 4 }

    /// Tokens that a message takes beside its blocks.
    static let frame = 4

    /// Tokens of a message, with what its frame takes.
    package static func tokens(_ message: ModelMessage) -> Int { frame + tokens(message.blocks) }

    /// Tokens of blocks.
    static func tokens(_ blocks: [ModelMessage.Block]) -> Int {
        blocks.reduce(0) { sum, block in
            switch block {
            case .text(let text): sum + tokens(text)
            case .reasoning(let text, let signature, _): sum + tokens(text) + (signature.map(tokens) ?? 0)
            case .toolUse(let use):
                sum + 8 + tokens(use.name) + tokens(use.malformed ?? "") + use.input.compact.count / 4
            case .toolResult(let output): sum + 8 + tokens(output.text)
            }
        }
    }

    /// Tokens of messages.
    package static func tokens(_ messages: some Sequence<ModelMessage>) -> Int {
        messages.reduce(0) { $0 + tokens($1) }
    }
}

/// What is to be done with a conversation before its model is asked.
package enum ContextPlan: Sendable, Hashable {
    /// It fits.
    case ready
    /// So many of the oldest messages are to be summarised first.
    case summarize(messages: Int)
    /// So many of the oldest messages have to go: there is no room, and no summary to be had.
    case drop(messages: Int)
    /// Nothing more can go, and what is left does not fit: its long texts are to be cut to so many bytes each.
    case shorten(bytes: Int)
    /// Even the message of this turn alone does not fit.
    case tooLong(tokens: Int, room: Int)

    /// The room of a conversation.
    package struct Window: Sendable, Hashable {
        /// Tokens that may be sent: the window less the answer, the prompt and the tools.
        package var room: Int
        /// The part of it from which on is summarised.
        package var threshold: Double
        /// Messages that may be kept.
        package var messages: Int

        /// Makes a window.
        package init(room: Int, threshold: Double = 0.7, messages: Int = 1000) {
            self.room = room
            self.threshold = threshold
            self.messages = messages
        }
    }

    /// Plans for a conversation.
    ///
    /// - Parameters:
    ///   - session: the conversation.
    ///   - window: its room.
    ///   - canSummarize: false after a summary could not be made: what does not fit is dropped then, and nothing else.
    /// - Returns: what is to be done before the model is asked.
    package static func make(_ session: Session, _ window: Window, canSummarize: Bool) -> ContextPlan {
        var window = window
        let sizes = session.sizes
        let used = sizes.reduce(0, +) + session.notesSize
        // A task that is not among the messages any more is shown all the same, and never gets smaller: the others have the rest.
        if let turn = session.turn, turn.start < 0 {
            let task = session.taskSize
            guard task < window.room else { return .tooLong(tokens: used + task, room: window.room) }
            window.room -= task
        }
        let isTooMany = session.messages.count > window.messages
        if canSummarize, isTooMany || Double(used) > Double(window.room) * window.threshold {
            // As much as is needed to be at half of the threshold, so that it does not come to this at every call.
            let target = Int(Double(window.room) * window.threshold / 2)
            let boundary = cut(session, sizes, used - target, atLeast: session.messages.count - window.messages / 2)
            if boundary > 0 { return .summarize(messages: boundary) }
        }
        guard used > window.room || isTooMany else { return .ready }
        let boundary = cut(
            session, sizes, used - window.room, atLeast: isTooMany ? session.messages.count - window.messages : 0)
        if boundary > 0 { return .drop(messages: boundary) }
        guard used > window.room else { return .ready }
        return shortening(session, window).map { .shorten(bytes: $0) } ?? .tooLong(tokens: used, room: window.room)
    }

    /// The greatest length of texts that leaves some room; where there is none, the greatest that fits.
    private static func shortening(_ session: Session, _ window: Window) -> Int? {
        var fits: Int?
        for bytes in ModelMessage.lengths {
            let size = session.size(shortenedTo: bytes)
            if Double(size) <= Double(window.room) * window.threshold { return bytes }
            if fits == nil, size <= window.room { fits = bytes }
        }
        return fits
    }

    /// How many messages give back so many tokens, never parting calls from their results, and never the last two messages: what
    /// the model works on.
    private static func cut(_ session: Session, _ sizes: [Int], _ tokens: Int, atLeast least: Int) -> Int {
        let messages = session.messages
        var freed = 0
        var boundary = 0
        for index in 0..<max(0, messages.count - 2) {
            // The task is shown before the others once its message is gone.
            freed += sizes[index] - (index == session.turn?.start ? session.taskSize : 0)
            // A result must not lose its call.
            guard !hasResults(messages[index + 1]) else { continue }
            guard freed > 0 || index < least else { continue }
            boundary = index + 1
            if freed >= tokens, boundary >= least { break }
        }
        return boundary
    }

    private static func hasResults(_ message: ModelMessage) -> Bool {
        message.blocks.contains { if case .toolResult = $0 { true } else { false } }
    }
}
