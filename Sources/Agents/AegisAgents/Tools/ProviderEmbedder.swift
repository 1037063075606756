internal import AegisCore
package import AegisInference
package import AegisMemory

/// Embeddings by a model of a configured provider (`/v1/embeddings`).
package struct ProviderEmbedder: Embedder {
    package let model: String
    package let dimensions: Int
    private let service: InferenceService
    private let provider: String
    private let name: String
    private let price: ModelPrice?
    private let patience: Duration

    /// Describes a model; nothing is asked yet.
    ///
    /// - Parameters:
    ///   - provider: the provider's name; it is part of what is recorded, since two providers' models of one name may differ.
    ///   - name: the model's name there.
    ///   - price: what it costs; nil when that is not known.
    ///   - dimensions: of how many numbers its vectors are; others are refused.
    ///   - service: gives turns, keeps budgets and asks.
    ///   - patience: how long one call may take, and how long after the first one the provider is asked again.
    package init(
        _ provider: String, model name: String, price: ModelPrice?, dimensions: Int, by service: InferenceService,
        patience: Duration
    ) {
        model = "\(provider)/\(name)"
        self.provider = provider
        self.name = name
        self.price = price
        self.dimensions = dimensions
        self.service = service
        self.patience = patience
    }

    package func embed(_ texts: [String], for payer: EmbeddingPayer?) async throws -> [[Float]] {
        var points: [[Float]] = []
        try await embed(texts, for: payer) { points += $0 }
        return points
    }

    package func embed(
        _ texts: [String], for payer: EmbeddingPayer?, take: ([[Float]]) async throws -> Void
    ) async throws {
        // The grant would count nothing, however much it takes.
        guard price != nil || payer?.limitsMoney != true else {
            throw AegisError(
                .denied, "grant-needs-price",
                "the grant of the tool limits money, and the embedding model '\(model)' has no price",
                hint: "set input_per_mtok and output_per_mtok of the model in the configuration")
        }
        let bill = ModelBill()
        let request = EmbeddingRequest(
            texts, provider: provider, model: name, price: price,
            caller: payer.map { CallerID(agent: $0.agent, tree: $0.tree) }, agentName: payer?.name ?? "",
            priority: Self.priority(payer?.urgency ?? 0), patience: patience,
            timeLimit: payer?.deadline?.since(.now()), bill: bill)
        defer { payer?.used(bill.used.tokens, bill.used.microUSD) }
        do { try await service.embed(request, take: take) } catch {
            if Task.isCancelled { throw CancellationError() }
            throw error
        }
    }

    private static func priority(_ urgency: Int) -> InferencePriority {
        urgency > 0 ? .high : urgency < 0 ? .low : .normal
    }
}
