internal import AegisCore
package import AegisInference
internal import AegisMemory

/// Embeddings by a model of a configured provider (`/v1/embeddings`).
package struct ProviderEmbedder: Embedder {
    package let model: String
    package let dimensions: Int
    private let client: EmbeddingClient

    /// Describes a model; nothing is asked yet.
    ///
    /// - Parameters:
    ///   - endpoint: the provider; its name is part of what is recorded, since two providers' models of one name may differ.
    ///   - name: the model's name there.
    ///   - dimensions: of how many numbers its vectors are; others are refused.
    ///   - transport: how the provider is reached.
    package init(_ endpoint: ProviderEndpoint, model name: String, dimensions: Int, over transport: any ModelTransport)
    {
        model = "\(endpoint.name)/\(name)"
        self.dimensions = dimensions
        client = EmbeddingClient(endpoint, model: name, over: transport)
    }

    package func embed(_ texts: [String]) async throws -> [[Float]] {
        do throws(ModelError) { return try await client.embed(texts) } catch {
            if error.kind == .cancelled { throw CancellationError() }
            throw AegisError(
                error.isRetryable ? .unavailable : .failed, "embedding-failed",
                "the embedding model '\(model)' failed: \(error.message)",
                hint: "check the provider's address, key and model name, and memory.embedder")
        }
    }
}
