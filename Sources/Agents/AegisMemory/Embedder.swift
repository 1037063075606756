internal import AegisCore

/// Turns texts into vectors, so that texts that mean alike lie in a similar direction.
package protocol Embedder: Sendable {
    /// Recorded with every vector; vectors of different models are never compared.
    var model: String { get }
    /// How many numbers a vector has, 1 to 4096.
    var dimensions: Int { get }
    /// One vector for each text, in their order.
    func embed(_ texts: [String]) async throws -> [[Float]]
}

extension Embedder {
    /// The vectors with length 1, after a check that they are what was promised: a provider is not believed.
    ///
    /// - Throws: what the embedder throws; `embedding-invalid`.
    func unitVectors(_ texts: [String]) async throws -> [[Float]] {
        let vectors = try await embed(texts)
        guard vectors.count == texts.count else {
            throw invalid("\(vectors.count) vectors came for \(texts.count) texts")
        }
        return try vectors.map { vector in
            guard vector.count == dimensions else {
                throw invalid("a vector has \(vector.count) numbers instead of \(dimensions)")
            }
            var square = 0.0
            for number in vector { square += Double(number) * Double(number) }
            guard square.isFinite else { throw invalid("a vector holds what is no number") }
            // A text without any feature: it is like nothing, not like everything.
            guard square > 0 else { return vector }
            let scale = 1 / square.squareRoot()
            return vector.map { Float(Double($0) * scale) }
        }
    }

    private func invalid(_ why: String) -> AegisError {
        AegisError(
            .failed, "embedding-invalid", "the embedder '\(model)' gave no usable vectors: \(why)",
            hint: "check that the configured model is one for embeddings, and its dimension")
    }
}
