package import AegisCore

/// For whom texts are turned into vectors: who pays where a model is asked for them.
package struct EmbeddingPayer: Sendable {
    /// The agent's id.
    package var agent: String
    /// Its name.
    package var name: String
    /// The id of the agent at the top of its tree.
    package var tree: String
    /// How urgent it is beside what others want: more than 0 for what somebody waits for, less for what nobody does.
    package var urgency: Int
    /// Whether the money that this may take is limited beside the agent's budgets: then nothing may be asked whose price is not known.
    package var limitsMoney: Bool
    /// When vectors are of no use any more; nil for whenever.
    package var deadline: Timestamp?
    /// Is told what was used, also of what has failed.
    package var used: @Sendable (_ tokens: Int, _ microUSD: Int) -> Void

    /// Describes who pays.
    package init(
        agent: String, name: String, tree: String, urgency: Int = 0, limitsMoney: Bool = false,
        deadline: Timestamp? = nil,
        used: @escaping @Sendable (_ tokens: Int, _ microUSD: Int) -> Void = { _, _ in }
    ) {
        self.agent = agent
        self.name = name
        self.tree = tree
        self.urgency = urgency
        self.limitsMoney = limitsMoney
        self.deadline = deadline
        self.used = used
    }
}

/// Turns texts into vectors, so that texts that mean alike lie in a similar direction.
package protocol Embedder: Sendable {
    /// Recorded with every vector; vectors of different models are never compared.
    var model: String { get }
    /// How many numbers a vector has, 1 to 4096.
    var dimensions: Int { get }
    /// One vector for each text, in their order; `payer` is nil for what a person asks for.
    func embed(_ texts: [String], for payer: EmbeddingPayer?) async throws -> [[Float]]
    /// The same in as many portions as it takes, each of which is handed over once it is there: what was made, and paid for, is not
    /// lost with a portion that comes later. `take` gets vectors of the texts in their order; where it throws, no more are made.
    func embed(
        _ texts: [String], for payer: EmbeddingPayer?, take: ([[Float]]) async throws -> Void
    ) async throws
}

extension Embedder {
    package func embed(
        _ texts: [String], for payer: EmbeddingPayer?, take: ([[Float]]) async throws -> Void
    ) async throws {
        let vectors = try await embed(texts, for: payer)
        guard vectors.count == texts.count else {
            throw invalid("\(vectors.count) vectors came for \(texts.count) texts")
        }
        try await take(vectors)
    }

    /// The vectors with length 1, after a check that they are what was promised: a provider is not believed.
    ///
    /// - Throws: what the embedder throws; `embedding-invalid`.
    func unitVectors(_ texts: [String], for payer: EmbeddingPayer?) async throws -> [[Float]] {
        try unit(try await embed(texts, for: payer), count: texts.count)
    }

    /// The same, handed over in portions.
    ///
    /// - Parameters:
    ///   - texts: what is embedded.
    ///   - payer: who pays.
    ///   - take: gets vectors of the texts in their order, as often as there are some.
    /// - Throws: what the embedder or `take` throws; `embedding-invalid`.
    func unitVectors(
        _ texts: [String], for payer: EmbeddingPayer?, take: ([[Float]]) async throws -> Void
    ) async throws {
        var count = 0
        try await embed(texts, for: payer) { vectors in
            count += vectors.count
            guard count <= texts.count else { throw invalid("\(count) vectors came for \(texts.count) texts") }
            try await take(try unit(vectors, count: vectors.count))
        }
        guard count == texts.count else { throw invalid("\(count) vectors came for \(texts.count) texts") }
    }

    private func unit(_ vectors: [[Float]], count: Int) throws -> [[Float]] {
        guard vectors.count == count else { throw invalid("\(vectors.count) vectors came for \(count) texts") }
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
