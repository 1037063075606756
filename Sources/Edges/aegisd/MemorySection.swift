internal import AegisAgents
internal import AegisConfig
internal import AegisCore
internal import AegisInference
internal import AegisMemory
internal import AegisStore

/// `memory`: what makes vectors of what agents remember.
struct MemorySection: ConfigSection {
    static let key = "memory"
    /// What is built in and needs no network.
    static let builtIn = "built-in"
    /// `built-in`, or `PROVIDER/MODEL` of `llm_providers`.
    var embedder: String
    /// Of how many numbers the model's vectors are.
    var dimensions: Int?
    /// How long one request may take.
    var timeout: TimeSpan

    init(from reader: ConfigReader) {
        embedder = reader.read("embedder", default: Self.builtIn) { word in
            let parts = word.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
            guard word != Self.builtIn, parts.count != 2 || parts.contains("") else { return nil }
            return "must be \(Self.builtIn), or PROVIDER/MODEL with a provider of llm_providers"
        }
        dimensions = reader.readIfPresent("dimensions") {
            (1...4096).contains($0) ? nil : "must be 1 to 4096"
        }
        timeout = reader.read("timeout", default: .seconds(30)) {
            (100...600_000).contains($0.milliseconds) ? nil : "must be 100ms to 10m"
        }
        if embedder != Self.builtIn, dimensions == nil {
            reader.report("'\(embedder)' needs dimensions: the number of numbers in its vectors, as in dimensions: 768")
        }
        if embedder == Self.builtIn, dimensions != nil {
            reader.report("dimensions belongs to a provider's model; what is built in has its own")
        }
    }

    /// The store.
    ///
    /// - Throws: as `makeEmbedder`.
    func makeStore(
        _ database: Database, _ providers: [ProviderSection], _ service: InferenceService
    ) throws(AegisError) -> MemoryStore {
        MemoryStore(database: database, embedder: try makeEmbedder(providers, service))
    }

    /// The types of providers that give embeddings, or what one of them gave.
    private static let kinds: [ProviderSection.Kind] = [.openai, .openaiCompatible, .ollama, .replay]

    /// What makes the vectors.
    ///
    /// - Throws: `invalid-config` for a provider that is not there or gives no embeddings.
    func makeEmbedder(
        _ providers: [ProviderSection], _ service: InferenceService
    ) throws(AegisError) -> any Embedder {
        guard embedder != Self.builtIn, let dimensions, let slash = embedder.firstIndex(of: "/") else {
            return HashedEmbedder()
        }
        let name = String(embedder[..<slash])
        let known = providers.filter { $0.isEnabled && Self.kinds.contains($0.kind) }
        guard let provider = known.first(where: { $0.name == name }) else {
            let near = nearest(name, in: known.map(\.name)).map { "did you mean '\($0)'?" }
            let words = Self.kinds.map(\.rawValue).joined(separator: ", ")
            throw AegisError(
                .usage, "invalid-config",
                "memory.embedder: llm_providers has no '\(name)' that is enabled and of one of the types \(words)",
                hint: near ?? "name one of those, or \(Self.builtIn)")
        }
        let model = String(embedder[embedder.index(after: slash)...])
        return ProviderEmbedder(
            provider.name, model: model, price: provider.price(of: model), dimensions: dimensions, by: service,
            patience: timeout.duration)
    }
}

/// A switch of old: the environment says `1` and `0`.
struct Switch: ConfigScalar, Equatable {
    var isOn: Bool
    init(isOn: Bool) { self.isOn = isOn }
    init?(configText: String) {
        switch configText {
        case "true", "1": isOn = true
        case "false", "0": isOn = false
        default: return nil
        }
    }
    static var expectation: String { "true or false" }
    var configText: String { isOn ? "true" : "false" }
}
