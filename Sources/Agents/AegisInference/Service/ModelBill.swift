internal import Synchronization

/// What a question has used so far, all attempts together: also of one that has failed in the end. Thread-safe.
package final class ModelBill: Sendable {
    private let sum = Mutex((tokens: 0, microUSD: 0))

    /// Nothing was used.
    package init() {}

    /// Tokens, and what they cost in micro US dollars.
    package var used: (tokens: Int, microUSD: Int) { sum.withLock { $0 } }

    /// Adds an attempt.
    package func add(tokens: Int, microUSD: Int) {
        sum.withLock { $0 = ($0.tokens.saturatingAdd(tokens), $0.microUSD.saturatingAdd(microUSD)) }
    }
}
