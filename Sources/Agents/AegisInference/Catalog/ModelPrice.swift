/// What a model costs, in micro US dollars (millionths) per million tokens.
package struct ModelPrice: Sendable, Hashable {
    /// Input that the cache has nothing to do with.
    package var input: Int
    /// Output, reasoning included.
    package var output: Int
    /// Input read from the provider's cache.
    package var cacheRead: Int
    /// Input written to it.
    package var cacheWrite: Int

    /// Makes a price; what is said of no cache costs as other input.
    package init(input: Int, output: Int, cacheRead: Int? = nil, cacheWrite: Int? = nil) {
        self.input = input
        self.output = output
        self.cacheRead = cacheRead ?? input
        self.cacheWrite = cacheWrite ?? input
    }

    /// A model that costs nothing.
    package static let free = ModelPrice(input: 0, output: 0)

    /// What a usage costs in micro US dollars, rounded up: a budget never counts too little.
    package func cost(of usage: TokenUsage) -> Int {
        let parts = [
            (usage.input, input), (usage.output, output), (usage.cacheRead, cacheRead),
            (usage.cacheWrite, cacheWrite),
        ]
        let sum = parts.reduce(0) { $0.saturatingAdd($1.0.saturatingMultiply($1.1)) }
        return sum / 1_000_000 + (sum % 1_000_000 == 0 ? 0 : 1)
    }

    /// The most that so many tokens of input may cost, whatever the provider's cache does.
    func mostForInput(_ tokens: Int) -> Int {
        ModelPrice(input: max(input, cacheRead, cacheWrite), output: 0).cost(of: TokenUsage(input: tokens))
    }

    /// How many tokens of output so many micro US dollars pay for; nil is any number.
    func outputTokens(for microUSD: Int) -> Int? {
        guard output > 0 else { return nil }
        guard microUSD > 0 else { return 0 }
        return microUSD.saturatingMultiply(1_000_000) / output
    }
}

/// Micro US dollars as people read them: `0.27`, `0.000012`, `1.50`.
package func dollars(_ microUSD: Int) -> String {
    let digits = String(microUSD.magnitude % 1_000_000)
    var cents = String(repeating: "0", count: 6 - digits.count) + digits
    while cents.count > 2, cents.hasSuffix("0") { cents.removeLast() }
    return "\(microUSD < 0 ? "-" : "")\(microUSD.magnitude / 1_000_000).\(cents)"
}
