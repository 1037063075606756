internal import AegisCore
internal import AegisJSON

/// Embeddings by a provider's `POST /v1/embeddings`, as OpenAI, Ollama and vLLM speak it.
///
/// How a request goes out, with which key and which time limit, is decided by who makes it.
package struct RemoteEmbedder: Embedder {
    /// Sends a JSON body and gives the answer's status and body.
    package typealias Send = @Sendable (_ body: [UInt8]) async throws -> (status: Int, body: [UInt8])

    package let model: String
    package let dimensions: Int
    private let name: String
    private let batch: Int
    private let send: Send

    /// Describes a model.
    ///
    /// - Parameters:
    ///   - provider: the provider's name; part of what is recorded, since two providers' models of one name may differ.
    ///   - name: the model's name there.
    ///   - dimensions: of how many numbers its vectors are.
    ///   - batch: how many texts go into one request.
    ///   - send: sends a request.
    package init(provider: String, name: String, dimensions: Int, batch: Int = 64, send: @escaping Send) {
        model = "\(provider)/\(name)"
        self.name = name
        self.dimensions = dimensions
        self.batch = max(1, batch)
        self.send = send
    }

    package func embed(_ texts: [String]) async throws -> [[Float]] {
        var vectors: [[Float]] = []
        for start in stride(from: 0, to: texts.count, by: batch) {
            vectors += try await request(Array(texts[start..<min(start + batch, texts.count)]))
        }
        return vectors
    }

    private func request(_ texts: [String]) async throws -> [[Float]] {
        let body: JSONValue = [
            "model": .string(name), "input": .array(texts.map { .string($0) }), "encoding_format": "float",
        ]
        let answer = try await send(body.compact)
        let value = try? JSONValue(parsing: answer.body)
        guard (200..<300).contains(answer.status) else {
            let told = value?["error"]?["message"]?.text ?? value?["error"]?.text
            throw failure("it answered \(answer.status)\(told.map { ": \($0.prefix(300))" } ?? "")")
        }
        guard let data = value?["data"]?.elements else { throw failure("its answer has no 'data'") }
        guard data.count == texts.count else { throw failure("\(data.count) vectors came for \(texts.count) texts") }
        var vectors = [[Float]?](repeating: nil, count: texts.count)
        for (place, entry) in data.enumerated() {
            // By 'index', not by order: the order is not promised.
            let index = entry["index"]?.integer.map { Int(clamping: $0) } ?? place
            guard vectors.indices.contains(index), vectors[index] == nil else {
                throw failure("two vectors have the index \(index), or it is out of range")
            }
            guard let numbers = entry["embedding"]?.elements?.map(\.double), !numbers.contains(nil) else {
                throw failure("a vector is not a list of numbers")
            }
            vectors[index] = numbers.map { Float($0 ?? 0) }
        }
        return vectors.compactMap(\.self)
    }

    private func failure(_ why: String) -> AegisError {
        AegisError(
            .failed, "embedding-failed", "the embedding model '\(model)' failed: \(why)",
            hint: "check the provider's address, key and model name")
    }
}
