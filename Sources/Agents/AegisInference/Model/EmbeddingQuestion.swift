internal import AegisJSON

/// Texts whose vectors are wanted, as one request of a provider has them.
package struct EmbeddingQuestion: Sendable, Hashable, Codable {
    /// The provider's id of the model.
    package var model: String
    /// The texts.
    package var texts: [String]

    /// Describes a request.
    package init(model: String, texts: [String]) {
        self.model = model
        self.texts = texts
    }

    /// The most texts of one request.
    static let mostTexts = 64
    /// The most bytes of the texts of one request; one text alone may have more.
    static let mostBytes = 1 << 20

    /// Texts in as many portions as it takes, in their order.
    static func portions(of texts: [String]) -> [[String]] {
        var portions: [[String]] = []
        var bytes = 0
        for text in texts {
            bytes += text.utf8.count
            if let last = portions.last, last.count < mostTexts, bytes <= mostBytes {
                portions[portions.count - 1].append(text)
            } else {
                portions.append([text])
                bytes = text.utf8.count
            }
        }
        return portions
    }

    private enum CodingKeys: String, CodingKey {
        case model
        case texts = "input"
    }
}

/// The vectors of texts, and what they took.
package struct EmbeddingReply: Sendable, Hashable {
    /// One for each text, in order, all of the same dimension.
    package var points: [[Float]]
    /// What the provider counted; nothing where it did not.
    package var usage: TokenUsage

    /// Describes an answer.
    package init(points: [[Float]], usage: TokenUsage) {
        self.points = points
        self.usage = usage
    }
}

/// In recordings a vector is the base64 of its 32-bit numbers, the lowest byte first: what a provider gave is given again to the bit.
extension EmbeddingReply: Codable {
    private enum CodingKeys: String, CodingKey { case points, usage }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(points.map(Self.text), forKey: .points)
        try container.encode(usage, forKey: .usage)
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        let points = try container.decode([String].self, forKey: .points).map { text in
            guard let point = Self.point(text) else {
                throw DecodingError.dataCorruptedError(
                    forKey: .points, in: container, debugDescription: "a vector is no base64 of numbers")
            }
            return point
        }
        self.init(points: points, usage: try container.decode(TokenUsage.self, forKey: .usage))
    }

    private static func text(_ point: [Float]) -> String {
        Base64.encode(
            point.flatMap { number in (0..<4).map { UInt8(truncatingIfNeeded: number.bitPattern >> ($0 * 8)) } })
    }

    /// The numbers of a vector; nil when the text is not of the form.
    static func point(_ text: String) -> [Float]? {
        guard let bytes = Base64.decode(text), bytes.count % 4 == 0 else { return nil }
        return stride(from: 0, to: bytes.count, by: 4).map { start in
            Float(bitPattern: (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[start + $1]) << UInt32(8 * $1) })
        }
    }
}
