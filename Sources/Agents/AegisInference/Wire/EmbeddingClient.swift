internal import AegisCore
internal import AegisJSON

/// Asks a server for embeddings (`/v1/embeddings`): texts as points that lie near each other when they mean alike.
package struct EmbeddingClient: Sendable {
    /// What the points belong to; points of two models are not to be compared.
    package let model: String
    /// How many numbers a point has; nil takes what the model gives.
    package let dimension: Int?
    private let endpoint: ProviderEndpoint
    private let transport: any ModelTransport

    /// The most numbers of a point that are believed.
    static let maximumDimension = 16_384

    /// Makes a client; nothing is asked yet.
    ///
    /// - Parameters:
    ///   - endpoint: its base URL is what stands before `/embeddings`.
    ///   - model: the server's id of the model.
    ///   - dimension: how many numbers a point must have; a model that can give several is asked for that.
    ///   - transport: how the server is reached.
    package init(
        _ endpoint: ProviderEndpoint, model: String, dimension: Int? = nil, over transport: any ModelTransport
    ) {
        self.endpoint = endpoint
        self.model = model
        self.dimension = dimension
        self.transport = transport
    }

    /// Asks for the points of texts, in one request.
    ///
    /// - Returns: one point for each text, in order, all of the same dimension; and what the server says that it took.
    /// - Throws: why there are none; `.badAnswer` for points that are missing, of another dimension, or no numbers.
    package func embed(_ texts: [String]) async throws(ModelError) -> EmbeddingReply {
        guard !texts.isEmpty else { return EmbeddingReply(points: [], usage: .zero) }
        var fields: [JSONValue.Field] = [
            JSONValue.Field("model", .string(model)), JSONValue.Field("input", .array(texts.map { .string($0) })),
            // A quarter of the bytes, and no numbers to be read one by one; servers that do not know it send numbers.
            JSONValue.Field("encoding_format", "base64"),
        ]
        if let dimension { fields.append(JSONValue.Field("dimensions", .number(dimension))) }
        var headers = [("content-type", "application/json"), ("accept", "application/json")]
        if let key = endpoint.key { headers.append(("authorization", "Bearer \(key.reveal())")) }
        let answer = try await Exchange.value(
            endpoint.baseURL + "/embeddings", headers: endpoint.allHeaders(headers),
            body: JSONValue.object(fields).compact,
            timeouts: endpoint.timeouts, over: transport, decoder: OpenAIDecoder(turn: 0))
        return EmbeddingReply(
            points: try points(of: answer, count: texts.count, dimension: dimension), usage: Self.usage(of: answer))
    }

    /// What the server has counted; nothing when it has not.
    private static func usage(of answer: JSONValue) -> TokenUsage {
        let said = answer["usage"]
        // There is no output: a server that knows only the sum means the same.
        return TokenUsage(input: said?["prompt_tokens"]?.count ?? said?["total_tokens"]?.count ?? 0)
    }

    /// Reads an answer; points come in any order, each with its number.
    func points(of answer: JSONValue, count: Int, dimension: Int?) throws(ModelError) -> [[Float]] {
        if let error = answer["error"], error != .null {
            throw OpenAIDecoder.failure(error, status: nil, retryAfter: nil)
        }
        guard let items = answer["data"]?.elements, items.count == count else {
            throw .bad("\(count) embeddings were asked for, \(answer["data"]?.elements?.count ?? 0) came")
        }
        var points = [[Float]?](repeating: nil, count: count)
        var dimension = dimension
        for (place, item) in items.enumerated() {
            let index = item["index"]?.integer.map { Int(clamping: $0) } ?? place
            guard points.indices.contains(index), points[index] == nil else {
                throw .bad("an embedding has the number \(index), which is none or comes twice")
            }
            let point = try Self.point(item["embedding"] ?? .null)
            guard point.count == dimension ?? point.count else {
                throw .bad("an embedding has \(point.count) numbers, not \(dimension ?? 0)")
            }
            dimension = point.count
            points[index] = point
        }
        return points.compactMap(\.self)
    }

    private static func point(_ value: JSONValue) throws(ModelError) -> [Float] {
        var point: [Float] = []
        if let text = value.text {
            guard let numbers = EmbeddingReply.point(text) else { throw .bad("an embedding is no base64") }
            point = numbers
        } else {
            for number in value.elements ?? [] {
                guard let number = number.double else { throw .bad("an embedding holds something that is no number") }
                point.append(Float(number))
            }
        }
        guard (1...maximumDimension).contains(point.count), point.allSatisfy(\.isFinite) else {
            throw .bad("an embedding has no numbers, more than \(maximumDimension), or one that is not finite")
        }
        return point
    }
}

/// Base64 with padding (RFC 4648, section 4), read strictly.
enum Base64 {
    private static let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    /// The text of some bytes.
    static func encode(_ bytes: [UInt8]) -> String {
        var out: [UInt8] = []
        out.reserveCapacity((bytes.count + 2) / 3 * 4)
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let group = bytes[start..<min(start + 3, bytes.count)]
            let value = group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << UInt32(8 * (3 - group.count))
            for place in 0...3 {
                out.append(place > group.count ? UInt8(ascii: "=") : digits[Int(value >> UInt32(18 - 6 * place) & 63)])
            }
        }
        return String(decoding: out, as: UTF8.self)
    }

    /// The bytes; nil when the text is not of the form.
    static func decode(_ text: String) -> [UInt8]? {
        let digits = Array(text.utf8)
        guard digits.count % 4 == 0 else { return nil }
        let padding = digits.suffix(2).count { $0 == UInt8(ascii: "=") }
        var out: [UInt8] = []
        out.reserveCapacity(digits.count / 4 * 3)
        var value: UInt32 = 0
        for (place, digit) in digits.dropLast(padding).enumerated() {
            guard let bits = bits(digit) else { return nil }
            value = value << 6 | bits
            if place % 4 == 3 {
                out += [
                    UInt8(truncatingIfNeeded: value >> 16), UInt8(truncatingIfNeeded: value >> 8),
                    UInt8(truncatingIfNeeded: value),
                ]
            }
        }
        if padding == 1 { out += [UInt8(truncatingIfNeeded: value >> 10), UInt8(truncatingIfNeeded: value >> 2)] }
        if padding == 2 { out.append(UInt8(truncatingIfNeeded: value >> 4)) }
        return out
    }

    private static func bits(_ digit: UInt8) -> UInt32? {
        switch digit {
        case 65...90: UInt32(digit) - 65
        case 97...122: UInt32(digit) - 71
        case 48...57: UInt32(digit) + 4
        case 43: 62
        case 47: 63
        default: nil
        }
    }
}
