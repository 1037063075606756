package import AegisCore

/// What a question may take at the models that may be asked: what grants are asked for before it is.
package struct ModelQuote: Sendable, Hashable {
    /// Tokens of the question, rather too many than too few.
    package var inputTokens: Int
    /// What each of the models costs; nil when one of them has no price.
    package var prices: [ModelPrice]?

    /// Makes a quote.
    package init(inputTokens: Int, prices: [ModelPrice]?) {
        self.inputTokens = inputTokens
        self.prices = prices
    }

    /// The most that it costs with an answer of so many tokens, in micro US dollars; nil when that is not known.
    package func most(output: Int) -> Int? {
        prices?.reduce(0) { most, price in
            max(most, price.mostForInput(inputTokens).saturatingAdd(price.cost(of: TokenUsage(output: output))))
        }
    }

    /// The longest answer, in tokens, that so many micro US dollars pay for at any of the models.
    package func output(for microUSD: Int) -> Int {
        (prices ?? []).reduce(.max) { least, price in
            min(least, price.outputTokens(for: microUSD - price.mostForInput(inputTokens)) ?? .max)
        }
    }
}

extension InferenceService {
    /// What a question may take at any model of its alias.
    ///
    /// - Throws: `model-unknown`.
    package func quote(_ request: InferenceRequest) throws(AegisError) -> ModelQuote {
        let chain = try catalog.resolve(request.alias)
        let raw = TokenEstimator.raw(request.forModel("", maxOutputTokens: 1))
        let prices = chain.compactMap(\.section.price)
        return ModelQuote(
            inputTokens: chain.reduce(0) { max($0, estimator.corrected(raw, for: $1.id)) },
            prices: prices.count == chain.count ? prices : nil)
    }
}
