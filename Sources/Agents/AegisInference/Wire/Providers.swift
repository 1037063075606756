package import AegisCore
internal import AegisJSON

/// Where a provider is and how it is spoken to.
package struct ProviderEndpoint: Sendable {
    /// The name that the configuration gives it.
    package var name: String
    /// Without a slash at the end.
    package var baseURL: String
    /// Nil where the server wants none (a model on this machine).
    package var key: Secret<String>?
    /// Further headers of every request, such as a gateway's.
    package var headers: [(String, String)]
    /// How long a question may take.
    package var timeouts: TransportTimeouts

    /// Makes an endpoint.
    package init(
        name: String, baseURL: String, key: Secret<String>? = nil, headers: [(String, String)] = [],
        timeouts: TransportTimeouts = TransportTimeouts()
    ) {
        self.name = name
        self.baseURL = String(baseURL.reversed().drop { $0 == "/" }.reversed())
        self.key = key
        self.headers = headers
        self.timeouts = timeouts
    }

    /// Name, key, and what else goes with every request.
    func allHeaders(_ own: [(String, String)]) -> [(String, String)] {
        let names = Set(headers.map { $0.0.lowercased() })
        // What the configuration says counts, and goes once.
        return own.filter { !names.contains($0.0) } + headers
    }
}

/// Models of Anthropic's Messages API, or of a server that speaks it.
package struct AnthropicProvider: ModelProvider {
    private let endpoint: ProviderEndpoint
    private let transport: any ModelTransport
    /// The version of the API that is spoken.
    static let version = "2023-06-01"
    /// Where the models are unless told.
    package static let usualURL = "https://api.anthropic.com"

    package var name: String { endpoint.name }

    /// Makes a provider; nothing is asked yet.
    package init(_ endpoint: ProviderEndpoint, over transport: any ModelTransport) {
        self.endpoint = endpoint
        self.transport = transport
    }

    package func complete(
        _ request: ModelRequest, onDelta: @Sendable (ModelDelta) -> Void
    ) async throws(ModelError) -> ModelReply {
        var headers = [
            ("content-type", "application/json"), ("accept", "text/event-stream, application/json"),
            ("anthropic-version", Self.version),
        ]
        if let key = endpoint.key { headers.append(("x-api-key", key.reveal())) }
        // Both forms of the base are usual.
        let base = endpoint.baseURL.hasSuffix("/v1") ? endpoint.baseURL : endpoint.baseURL + "/v1"
        var reply = try await Exchange.run(
            base + "/messages", headers: endpoint.allHeaders(headers), body: AnthropicRequest.body(request).compact,
            timeouts: endpoint.timeouts, over: transport, decoder: AnthropicDecoder(), onDelta: onDelta)
        if reply.model.isEmpty { reply.model = request.model }
        return reply
    }
}

/// Models behind chat completions: OpenAI, DeepSeek, Ollama, vLLM and whoever else speaks that dialect.
package struct OpenAICompatibleProvider: ModelProvider {
    private let endpoint: ProviderEndpoint
    private let options: OpenAIOptions
    private let transport: any ModelTransport

    package var name: String { endpoint.name }

    /// Makes a provider; nothing is asked yet.
    ///
    /// - Parameters:
    ///   - endpoint: its base URL is what stands before `/chat/completions`.
    ///   - options: what the server differs in.
    ///   - transport: how it is reached.
    package init(_ endpoint: ProviderEndpoint, options: OpenAIOptions, over transport: any ModelTransport) {
        self.endpoint = endpoint
        self.options = options
        self.transport = transport
    }

    package func complete(
        _ request: ModelRequest, onDelta: @Sendable (ModelDelta) -> Void
    ) async throws(ModelError) -> ModelReply {
        var headers = [("content-type", "application/json"), ("accept", "text/event-stream, application/json")]
        if let key = endpoint.key { headers.append(("authorization", "Bearer \(key.reveal())")) }
        let body = OpenAIRequest.body(request, options).compact
        var reply = try await Exchange.run(
            endpoint.baseURL + "/chat/completions", headers: endpoint.allHeaders(headers), body: body,
            timeouts: endpoint.timeouts, over: transport, decoder: OpenAIDecoder(turn: request.messages.count),
            onDelta: onDelta)
        if reply.model.isEmpty { reply.model = request.model }
        // Nobody has counted: the question is as long as it is.
        if reply.usage.isEstimated, reply.usage.input == 0 { reply.usage.input = (body.count + 3) / 4 }
        return reply
    }

    package func embed(_ question: EmbeddingQuestion) async throws(ModelError) -> EmbeddingReply {
        try await EmbeddingClient(endpoint, model: question.model, over: transport).embed(question.texts)
    }
}
