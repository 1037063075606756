internal import AegisCore
internal import AegisHTTPClient

extension ProviderSection {
    /// The provider of this entry, when it is one on the network.
    ///
    /// - Parameter transport: how it is reached.
    /// - Returns: nil for a provider that is not asked over the network.
    package func remoteProvider(over transport: any ModelTransport) -> (any ModelProvider)? {
        let endpoint = ProviderEndpoint(
            name: name, baseURL: endpoint, key: apiKey, timeouts: Self.timeouts(timeout.duration))
        switch kind {
        case .anthropic: return AnthropicProvider(endpoint, over: transport)
        case .openai, .ollama, .openaiCompatible:
            let host = (try? WebURL(self.endpoint))?.host ?? ""
            return OpenAICompatibleProvider(endpoint, options: OpenAIOptions(host: host), over: transport)
        case .scripted, .replay: return nil
        }
    }

    /// A server may load its model, or think, before the first word and between words: only the whole limit is short.
    static func timeouts(_ total: Duration) -> TransportTimeouts {
        TransportTimeouts(
            connect: min(.seconds(10), total), firstByte: total, idle: min(.seconds(300), total), total: total)
    }
}
