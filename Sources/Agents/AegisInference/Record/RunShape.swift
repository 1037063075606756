internal import AegisJSON

/// A question without what each run makes anew: ids, marks of frames and times, which no second run has again.
struct RunShape: Sendable {
    /// The name of the question with numbers in their place.
    let hash: String
    /// What they were, in the order in which they came.
    let words: [String]

    /// Takes the shape of a question.
    init(_ request: JSONValue) {
        var words: [String] = []
        var places: [String: Int] = [:]
        let shape = Self.texts(of: request) { text in
            Self.replace(text, lasted: "\u{1}") { word in
                let place = places[word] ?? words.count
                if place == words.count {
                    words.append(word)
                    places[word] = place
                }
                return "\u{1}\(place)"
            }
        }
        hash = RecordedCall.hash(of: shape)
        self.words = words
    }

    /// What was answered to this question, with the words of another one of the same shape.
    ///
    /// - Returns: nil when nothing of it is otherwise.
    func translated(_ reply: ModelReply, to other: RunShape) throws -> ModelReply? {
        let names = Dictionary(zip(words, other.words).filter { $0 != $1 }, uniquingKeysWith: { first, _ in first })
        guard !names.isEmpty else { return nil }
        let old = try JSONValue(encoding: reply)
        let new = Self.texts(of: old) { Self.replace($0) { names[$0] ?? $0 } }
        return new == old ? nil : try new.decode(ModelReply.self)
    }

    /// A text without its words, to be shown beside another one.
    static func bare(_ text: String) -> String { replace(text, lasted: "#") { _ in "#" } }

    private static func texts(of value: JSONValue, _ body: (String) -> String) -> JSONValue {
        switch value {
        case .string(let text): .string(body(text))
        case .array(let elements): .array(elements.map { texts(of: $0, body) })
        case .object(let fields): .object(fields.map { JSONValue.Field($0.name, texts(of: $0.value, body)) })
        default: value
        }
    }

    /// Replaces each word that only this run has: 12 to 16 hexadecimal digits, as ids and marks have, and times.
    ///
    /// - Parameters:
    ///   - text: what is looked through.
    ///   - lasted: what is put for how long a program ran; nil leaves that.
    ///   - name: what is put for a word.
    /// - Returns: the text with all of them replaced.
    private static func replace(_ text: String, lasted: String? = nil, _ name: (String) -> String) -> String {
        let bytes = Array(text.utf8)
        var result: [UInt8] = []
        var index = 0
        while index < bytes.count {
            guard isWord(bytes[index]) else {
                result.append(bytes[index])
                index += 1
                continue
            }
            let time = timeEnd(bytes, from: index)
            let end = time ?? bytes[index...].firstIndex { !isWord($0) } ?? bytes.count
            let word = bytes[index..<end]
            let isOwn = time != nil || ((12...16).contains(word.count) && word.allSatisfy(isHex))
            if let lasted, word.allSatisfy(isDigit), result.suffix(duration.count) == duration[...] {
                result += Array(lasted.utf8)
                index = end
                continue
            }
            result += isOwn ? Array(name(String(decoding: word, as: UTF8.self)).utf8) : Array(word)
            index = end
        }
        return String(decoding: result, as: UTF8.self)
    }

    private static let duration = Array(#""milliseconds":"#.utf8)

    private static func isDigit(_ byte: UInt8) -> Bool { (48...57).contains(byte) }
    private static func isHex(_ byte: UInt8) -> Bool { isDigit(byte) || (97...102).contains(byte) }
    private static func isWord(_ byte: UInt8) -> Bool { isDigit(byte) || (97...122).contains(byte | 32) }

    /// Where a time such as `2026-11-21T03:00:00.000Z` ends.
    private static func timeEnd(_ bytes: [UInt8], from start: Int) -> Int? {
        let form = Array("dddd-dd-ddTdd:dd:dd".utf8)
        guard start + form.count <= bytes.count,
            zip(form, bytes[start...]).allSatisfy({ $0 == 100 ? isDigit($1) : $0 == $1 })
        else { return nil }
        var end = start + form.count
        if end < bytes.count, bytes[end] == 46 {
            end = bytes[(end + 1)...].firstIndex { !isDigit($0) } ?? bytes.count
        }
        return end < bytes.count && bytes[end] == 90 ? end + 1 : end
    }
}
