internal import AegisJSON

/// A conversation in the order that every dialect wants: turns of the same side are one, and results come before the user's words,
/// in the order in which the tools were asked for.
struct RequestTurns {
    let turns: [ModelMessage]

    init(_ messages: [ModelMessage]) {
        var turns: [ModelMessage] = []
        for message in messages where !message.blocks.isEmpty {
            if turns.last?.role == message.role {
                turns[turns.count - 1].blocks += message.blocks
            } else {
                turns.append(message)
            }
        }
        var asked: [String: Int] = [:]
        for index in turns.indices {
            if turns[index].role == .assistant {
                asked = [:]
                for (place, use) in turns[index].toolUses.enumerated() where asked[use.id] == nil {
                    asked[use.id] = place
                }
            } else {
                let results = turns[index].blocks.filter { $0.toolResult != nil }
                let others = turns[index].blocks.filter { $0.toolResult == nil }
                let ordered = results.enumerated().sorted { a, b in
                    let (first, second) = (place(a.element), place(b.element))
                    return first == second ? a.offset < b.offset : first < second
                }
                turns[index].blocks = ordered.map(\.element) + others
            }
        }
        func place(_ block: ModelMessage.Block) -> Int { block.toolResult.flatMap { asked[$0.id] } ?? .max }
        self.turns = turns
    }

    /// Whether a text says something; providers refuse empty ones.
    static func says(_ text: String) -> Bool { !text.utf8.allSatisfy { [9, 10, 13, 32].contains($0) } }
}

extension ToolUse {
    /// The input as a provider takes it back: what was no JSON goes back as what it was, in an object.
    var sentInput: JSONValue { malformed.map { .object([JSONValue.Field("INVALID_JSON", .string($0))]) } ?? input }

    /// The name as a provider takes it back: 1 to 64 letters, digits, `_` and `-`. Models make up others, and a conversation that
    /// holds one would be refused for good.
    var sentName: String {
        if (1...64).contains(name.utf8.count), name.utf8.allSatisfy(SentIDs.isPlain) { return name }
        // As tools are told to models: what they write as it is called here becomes that again.
        var cleaned: [UInt8] = []
        for byte in name.utf8.prefix(64) { cleaned += SentIDs.isPlain(byte) ? [byte] : [95, 95] }
        cleaned.removeLast(max(0, cleaned.count - 64))
        return cleaned.isEmpty ? "unnamed" : String(decoding: cleaned, as: UTF8.self)
    }
}

/// One conversation's ids of tool requests as a provider takes them: another provider's may hold what this one refuses.
struct SentIDs {
    private var known: [String: String] = [:]
    private var used: Set<String> = []
    /// Bytes of an id before a number is put behind it.
    private let room: Int

    /// None so far; ids have at most so many bytes, from 16.
    init(longest: Int = 64) { room = longest - 4 }

    /// The id to send; always the same one for the same id, and never that of another.
    mutating func sent(_ id: String) -> String {
        if let known = known[id] { return known }
        let cleaned = id.utf8.prefix(room).map { Self.isPlain($0) ? $0 : 95 }
        let base = cleaned.isEmpty ? "call" : String(decoding: cleaned, as: UTF8.self)
        var candidate = base
        var number = 2
        while !used.insert(candidate).inserted {
            candidate = "\(base)-\(number)"
            number += 1
        }
        known[id] = candidate
        return candidate
    }

    /// Letters, digits, `_` and `-`.
    static func isPlain(_ byte: UInt8) -> Bool {
        (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte) || byte == 45 || byte == 95
    }
}
