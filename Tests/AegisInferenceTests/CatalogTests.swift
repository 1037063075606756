import AegisConfig
import AegisCore
import Testing

@testable import AegisInference

/// Reads the two sections of a configuration's `spec`.
func modelConfig(_ spec: String) throws -> (providers: [ProviderSection], selection: SelectionSection) {
    let text = "spec:\n" + spec.split(separator: "\n").map { "  \($0)" }.joined(separator: "\n") + "\n"
    let config = try Configuration(
        file: ConfigFile(name: "c.yaml", bytes: Array(text.utf8)), environment: ["KEY": "k-1"])
    let providers = config.list(ProviderSection.self)
    let selection = config.section(SelectionSection.self)
    try config.finish()
    return (providers, selection)
}

@Suite struct CatalogTests {
    private static let two = """
        llm_providers:
          - name: main
            type: anthropic
            api_key: env:KEY
            models:
              - { alias: default, model: big, context_window: 200000, input_per_mtok: 3, output_per_mtok: 15, cache_read_per_mtok: 0.3 }
              - { alias: fast, model: small }
          - name: local
            type: openai-compatible
            endpoint: http://127.0.0.1:8000/v1
            max_concurrent: 1
            requests_per_minute: 60
            models: [ { model: meta/small }, { model: small, max_output_tokens: 100 } ]

        """

    private func catalog(_ more: String = "") throws -> ModelCatalog {
        let config = try modelConfig(Self.two + more)
        return try ModelCatalog(providers: config.providers, selection: config.selection)
    }
    private func failure(_ body: () throws -> Any) -> AegisError {
        do {
            _ = try body()
            return .usage("nothing was thrown")
        } catch { return error as? AegisError ?? .usage("\(error)") }
    }

    @Test(arguments: [
        ("default", ["main/big"]), ("fast", ["main/small"]), ("main/big", ["main/big"]), ("big", ["main/big"]),
        ("local/meta/small", ["local/meta/small"]), ("meta/small", ["local/meta/small"]),
    ])
    func aModelIsFoundByAliasIDAndProvider(_ name: String, _ found: [String]) throws {
        #expect(try catalog().resolve(name).map(\.id) == found)
    }

    @Test func aNameThatNoModelHasIsAnErrorWithTheNearest() throws {
        #expect(failure { try catalog().resolve("defualt") }.hint == "did you mean 'default'?")
        #expect(failure { try catalog().resolve("xx") }.hint == "known: default, fast")
        let several = failure { try catalog().resolve("small") }
        #expect(several.hint == "name one: main/small, local/small")
    }

    @Test func whatTheFileSaysOfAProviderIsKept() throws {
        let config = try modelConfig(Self.two)
        #expect(config.providers[0].apiKey?.reveal() == "k-1")
        #expect(config.providers[0].endpoint == "https://api.anthropic.com/v1")
        #expect(config.providers[1].schedule == SchedulePolicy(concurrent: 1, requestsPerMinute: 60))
        let price = config.providers[0].models[0].price
        #expect(price == ModelPrice(input: 3_000_000, output: 15_000_000, cacheRead: 300_000))
        #expect(config.providers[0].models[1].price == nil)
    }

    @Test func fallbacksOfFallbacksFollowEachOnce() throws {
        let catalog = try catalog(
            "llm_selection:\n  fallback: { default: [fast, local/small], fast: [meta/small, local/small] }")
        #expect(
            try catalog.resolve("default").map(\.id) == ["main/big", "main/small", "local/meta/small", "local/small"])
        #expect(try catalog.resolve("fast").map(\.id) == ["main/small", "local/meta/small", "local/small"])
        #expect(try catalog.resolve("local/small").map(\.id) == ["local/small"])
    }

    @Test(arguments: [
        ("{ default: [fast], fast: [main/big] }", "leads in a circle: default -> fast -> default"),
        ("{ default: [default] }", "leads in a circle: default -> default"),
        ("{ default: [fats] }", "no model is called 'fats'; did you mean 'fast'?"),
        ("{ other: [fast] }", "fallback.other: no model is called 'other'"),
        ("{ default: [fast], big: [fast] }", "main/big has fallbacks already"),
    ])
    func fallbacksThatCannotBeFollowedAreRefused(_ fallback: String, _ message: String) throws {
        #expect(failure { try catalog("llm_selection: { fallback: \(fallback) }") }.message.contains(message))
    }

    @Test(arguments: [
        ("{ name: a, type: antropic, models: [{model: m}] }", "did you mean 'anthropic'?"),
        ("{ name: A, type: ollama, models: [{model: m}] }", "spec.llm_providers[0].name must be 1 to 64 of a-z"),
        ("{ name: a, type: openai-compatible, models: [{model: m}] }", "needs an endpoint"),
        ("{ name: a, type: openai, endpoint: 'ftp://x', models: [{model: m}] }", "must be an address such as"),
        ("{ name: a, type: openai, endpoint: 'http://u:p@x', models: [{model: m}] }", "must be an address such as"),
        ("{ name: a, type: scripted, models: [{model: m}] }", "needs scenario: FILE"),
        (
            "{ name: a, type: openai, scenario: x, models: [{model: m}] }",
            "'scenario' belongs to providers of type scripted"
        ),
        ("{ name: a, type: ollama }", "has no models"),
        ("{ name: a, type: ollama, models: [{model: m, input_per_mtok: 1}] }", "needs both prices"),
        ("{ name: a, type: ollama, models: [{model: m, context_windw: 1}] }", "did you mean 'context_window'?"),
        ("{ name: a, type: ollama, models: [{model: m, context_window: 10}] }", "must be from 1024 to"),
        ("{ name: a, type: ollama, max_concurrent: 0, models: [{model: m}] }", "must be from 1 to 1000"),
    ])
    func anEntryThatCannotBeUsedIsRefusedWithItsPlace(_ entry: String, _ message: String) {
        let error = failure { try modelConfig("llm_providers:\n  - \(entry)") }
        #expect(error.message.contains(message))
        #expect(error.message.hasPrefix("c.yaml:3:"))
    }

    @Test func twoOfOneNameAreRefused() {
        let twice =
            "llm_providers:\n  - { name: a, type: ollama, models: [{alias: x, model: m}, {alias: x, model: m}] }\n"
            + "  - { name: a, type: ollama, models: [{model: n}] }"
        let error = failure {
            let config = try modelConfig(twice)
            return try ModelCatalog(providers: config.providers, selection: config.selection)
        }
        #expect(error.message.contains("the model 'a/m' stands at a/m already"))
        #expect(error.message.contains("the alias 'x' stands at a/m already"))
        #expect(error.message.contains("two providers are called 'a'"))
    }

    @Test(arguments: [
        (TokenUsage(input: 1_000_000, output: 1_000_000), 18_000_000), (TokenUsage(input: 1), 3),
        (TokenUsage(output: 1), 15), (TokenUsage(cacheRead: 1), 1), (TokenUsage(cacheRead: 10, cacheWrite: 1), 6),
        (.zero, 0), (TokenUsage(input: .max), .max / 1_000_000 + 1),
    ])
    func aPriceIsRoundedUp(_ usage: TokenUsage, _ cost: Int) {
        #expect(ModelPrice(input: 3_000_000, output: 15_000_000, cacheRead: 300_000).cost(of: usage) == cost)
    }

    @Test(arguments: [(0, "0.00"), (1, "0.000001"), (270_000, "0.27"), (1_500_000, "1.50"), (-2_000_010, "-2.00001")])
    func moneyIsWrittenInDollars(_ amount: Int, _ text: String) { #expect(dollars(amount) == text) }
}
