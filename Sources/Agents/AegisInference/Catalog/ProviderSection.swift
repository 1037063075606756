package import AegisConfig
package import AegisCore

/// One entry of `llm_providers` in the daemon's configuration.
package struct ProviderSection: ConfigSection, Sendable {
    package static let key = "llm_providers"

    /// What dialect a provider speaks, or what stands in for one.
    package enum Kind: String, ConfigWord, Sendable {
        case anthropic, openai, ollama, scripted, replay
        case openaiCompatible = "openai-compatible"

        /// Whether it is asked over the network.
        package var isRemote: Bool { self != .scripted && self != .replay }
        /// The address that is asked when the entry names none.
        package var standardEndpoint: String? {
            switch self {
            case .anthropic: "https://api.anthropic.com/v1"
            case .openai: "https://api.openai.com/v1"
            case .ollama: "http://127.0.0.1:11434/v1"
            case .openaiCompatible, .scripted, .replay: nil
            }
        }
        /// Whether its models cost nothing unless the entry says so.
        var isFree: Bool { self == .ollama || !isRemote }
    }

    /// Its name, which stands before the `/` of `provider/model`.
    package let name: String
    /// Its dialect.
    package let kind: Kind
    /// Whether it is used at all.
    package let isEnabled: Bool
    /// The base address; empty when it is not asked over the network.
    package let endpoint: String
    /// The key, when it wants one.
    package let apiKey: Secret<String>?
    /// What may be asked at once, per minute, and how many calls may wait.
    package let schedule: SchedulePolicy
    /// How long one attempt may take.
    package let timeout: TimeSpan
    /// Its models, in the order of the file.
    package let models: [ModelSection]
    /// The scenario of a `scripted` provider, or the recording of a `replay`.
    package let file: String?
    /// Where everything that it is asked and answers is recorded; nil is nowhere.
    package let record: String?

    package init(from reader: ConfigReader) {
        name = reader.require("name", placeholder: "", check: Self.checkName)
        kind = reader.require("type", placeholder: .scripted)
        isEnabled = reader.read("enabled", default: true)
        let endpoint: String? = reader.readIfPresent("endpoint", check: Self.checkAddress)
        apiKey = reader.readSecret("api_key")
        schedule = SchedulePolicy(from: reader)
        timeout = reader.read("timeout", default: .seconds(600)) {
            (1000...86_400_000).contains($0.milliseconds) ? nil : "must be from 1s to 1d"
        }
        let isFree = kind.isFree
        models = reader.sections("models") { ModelSection(from: $0, isFree: isFree) }
        let scenario: String? = reader.readIfPresent("scenario")
        let recording: String? = reader.readIfPresent("recording")
        record = reader.readIfPresent("record")
        file = kind == .scripted ? scenario : recording
        self.endpoint = endpoint ?? kind.standardEndpoint ?? ""
        if kind == .openaiCompatible, endpoint == nil {
            reader.report("the provider '\(name)' needs an endpoint, as in http://127.0.0.1:8000/v1")
        }
        if !kind.isRemote, endpoint != nil || apiKey != nil {
            reader.report("the provider '\(name)' of type \(kind.rawValue) has neither endpoint nor api_key")
        }
        for (wanted, key, value) in [(Kind.scripted, "scenario", scenario), (.replay, "recording", recording)] {
            if kind == wanted, value == nil { reader.report("the provider '\(name)' needs \(key): FILE") }
            if kind != wanted, value != nil {
                reader.report("'\(key)' belongs to providers of type \(wanted.rawValue), '\(name)' is \(kind.rawValue)")
            }
        }
        if models.isEmpty { reader.report("the provider '\(name)' has no models") }
    }

    /// What a model costs that may not stand in the list, as one for embeddings; nil when that is not known.
    package func price(of model: String) -> ModelPrice? {
        if let known = models.first(where: { $0.model == model }) { return known.price }
        return kind.isFree ? .free : nil
    }

    static func checkName(_ name: String) -> String? {
        let inner: (UInt8) -> Bool = {
            (97...122).contains($0) || (48...57).contains($0) || [0x2d, 0x5f, 0x2e].contains($0)
        }
        return (1...64).contains(name.utf8.count) && name.utf8.allSatisfy(inner)
            ? nil : "must be 1 to 64 of a-z, 0-9, '-', '_' and '.'"
    }

    private static func checkAddress(_ text: String) -> String? {
        let host = text.hasPrefix("https://") ? text.dropFirst(8) : text.hasPrefix("http://") ? text.dropFirst(7) : ""
        let visible = text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f }
        guard visible, let first = host.first, first != "/", !host.contains("@"), !host.contains("?") else {
            return "must be an address such as https://host/v1"
        }
        return nil
    }
}

/// One entry of a provider's `models`.
package struct ModelSection: Sendable, Hashable {
    /// The name that manifests use; nil when only `provider/model` names it.
    package let alias: String?
    /// The provider's id.
    package let model: String
    /// How many tokens question and answer may have together.
    package let contextWindow: Int
    /// How many tokens an answer may have.
    package let maxOutputTokens: Int
    /// What it costs; nil when the configuration does not say and it is not known to be free.
    package let price: ModelPrice?

    init(from reader: ConfigReader, isFree: Bool) {
        alias = reader.readIfPresent("alias", check: ProviderSection.checkName)
        model = reader.require("model", placeholder: "") { id in
            (1...200).contains(id.utf8.count) && id.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f })
                ? nil : "must be 1 to 200 visible characters without space"
        }
        contextWindow = reader.read("context_window", default: 128_000) {
            (1024...100_000_000).contains($0) ? nil : "must be from 1024 to 100000000"
        }
        let window = contextWindow
        maxOutputTokens = reader.read("max_output_tokens", default: min(16_384, window / 2)) {
            (1...window).contains($0) ? nil : "must be from 1 to context_window (\(window))"
        }
        func price(_ key: String) -> Int? {
            let usd: Double? = reader.readIfPresent(key) {
                (0...100_000).contains($0) ? nil : "must be from 0 to 100000"
            }
            return usd.map { Int(($0 * 1_000_000).rounded(.up)) }
        }
        let (input, output) = (price("input_per_mtok"), price("output_per_mtok"))
        let (cacheRead, cacheWrite) = (price("cache_read_per_mtok"), price("cache_write_per_mtok"))
        if let input, let output {
            self.price = ModelPrice(input: input, output: output, cacheRead: cacheRead, cacheWrite: cacheWrite)
        } else {
            self.price = isFree ? .free : nil
            if [input, output, cacheRead, cacheWrite].contains(where: { $0 != nil }) {
                reader.report("the model '\(model)' needs both prices, input_per_mtok and output_per_mtok")
            }
        }
    }
}

extension SchedulePolicy {
    /// Reads the keys of a provider's entry that say how much it is asked.
    fileprivate init(from reader: ConfigReader) {
        self.init(
            concurrent: reader.read("max_concurrent", default: 3) {
                (1...1000).contains($0) ? nil : "must be from 1 to 1000"
            },
            requestsPerMinute: reader.readIfPresent("requests_per_minute") {
                (1...1_000_000).contains($0) ? nil : "must be from 1 to 1000000"
            },
            tokensPerMinute: reader.readIfPresent("tokens_per_minute") {
                (1...100_000_000).contains($0) ? nil : "must be from 1 to 100000000"
            },
            maxWaiting: reader.read("max_waiting", default: 1000) {
                (1...100_000).contains($0) ? nil : "must be from 1 to 100000"
            })
    }
}

/// The section `llm_selection`: what is asked when a model fails.
package struct SelectionSection: ConfigSection, Sendable {
    package static let key = "llm_selection"

    /// An alias or `provider/model`, and what is asked after it, in order.
    package let fallback: [(key: String, value: [String])]
    /// How often one model is asked again.
    package let retry: RetryPolicy

    package init(from reader: ConfigReader) {
        fallback = reader.readMapOfLists("fallback")
        var retry = RetryPolicy()
        retry.maxRetries = reader.read("max_retries", default: retry.maxRetries) {
            (0...20).contains($0) ? nil : "must be from 0 to 20"
        }
        func span(_ key: String, _ standard: Duration) -> Duration {
            reader.read(key, default: TimeSpan(milliseconds: standard.milliseconds)) {
                (1...86_400_000).contains($0.milliseconds) ? nil : "must be from 1ms to 1d"
            }.duration
        }
        retry.firstDelay = span("retry_delay", retry.firstDelay)
        retry.longestDelay = span("max_retry_delay", retry.longestDelay)
        retry.longestRetryAfter = span("max_retry_after", retry.longestRetryAfter)
        retry.total = span("overall_timeout", retry.total)
        self.retry = retry
    }
}
