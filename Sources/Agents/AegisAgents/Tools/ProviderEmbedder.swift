internal import AegisCore
package import AegisInference
internal import AegisMemory

/// Embeddings by a model of a configured provider (`/v1/embeddings`).
package struct ProviderEmbedder: Embedder {
    package let model: String
    package let dimensions: Int
    private let client: EmbeddingClient
    private let patience: Duration
    private let clock: any Clock<Duration>

    /// Describes a model; nothing is asked yet.
    ///
    /// - Parameters:
    ///   - endpoint: the provider; its name is part of what is recorded, since two providers' models of one name may differ.
    ///   - name: the model's name there.
    ///   - dimensions: of how many numbers its vectors are; others are refused.
    ///   - transport: how the provider is reached.
    ///   - patience: how long after the first request a provider that is overloaded is asked again.
    ///   - clock: says when that is over, and for the pauses in between.
    package init(
        _ endpoint: ProviderEndpoint, model name: String, dimensions: Int, over transport: any ModelTransport,
        patience: Duration, clock: any Clock<Duration>
    ) {
        model = "\(endpoint.name)/\(name)"
        self.dimensions = dimensions
        client = EmbeddingClient(endpoint, model: name, over: transport)
        self.patience = patience
        self.clock = clock
    }

    package func embed(_ texts: [String]) async throws -> [[Float]] { try await embed(texts, by: clock) }

    private func embed<C: Clock>(_ texts: [String], by clock: C) async throws -> [[Float]]
    where C.Duration == Duration {
        var machine = RetryMachine(RetryPolicy(), limit: patience)
        var random = SystemRandomNumberGenerator()
        let start = clock.now
        while true {
            do throws(ModelError) { return try await client.embed(texts) } catch {
                if error.kind == .cancelled { throw CancellationError() }
                let elapsed = start.duration(to: clock.now)
                guard case .retry(let pause) = machine.failed(error, isFinal: false, at: elapsed, using: &random) else {
                    throw failure(error)
                }
                try await clock.sleep(for: pause)
            }
        }
    }

    private func failure(_ error: ModelError) -> AegisError {
        AegisError(
            error.isRetryable ? .unavailable : .failed, "embedding-failed",
            "the embedding model '\(model)' failed: \(error.message)",
            hint: "check the provider's address, key and model name, and memory.embedder")
    }
}
