/// How often and how long one model is asked again.
package struct RetryPolicy: Sendable, Hashable {
    /// How many times after the first.
    package var maxRetries: Int
    /// The pause after the first failure; each further one doubles it.
    package var firstDelay: Duration
    /// The longest pause of our own choice.
    package var longestDelay: Duration
    /// The longest pause that a provider may ask for; one that asks for more is given up.
    package var longestRetryAfter: Duration
    /// From the first attempt to the last answer, fallbacks included.
    package var total: Duration

    /// Makes a policy.
    package init(
        maxRetries: Int = 3, firstDelay: Duration = .milliseconds(500), longestDelay: Duration = .seconds(30),
        longestRetryAfter: Duration = .seconds(60), total: Duration = .seconds(1800)
    ) {
        self.maxRetries = maxRetries
        self.firstDelay = firstDelay
        self.longestDelay = longestDelay
        self.longestRetryAfter = longestRetryAfter
        self.total = total
    }
}

/// What follows a failed attempt.
package enum RetryVerdict: Sendable, Hashable {
    /// The same model, after a pause.
    case retry(after: Duration)
    /// The next model of the chain, at once; `largerWindow` when only one with a larger window can help.
    case fallBack(largerWindow: Bool)
    /// The failure is the answer.
    case end
}

/// Decides after each failed attempt at one model. Pure: time and chance are given to it.
///
/// | failure | same model | next model |
/// | --- | --- | --- |
/// | `rate_limited`, `overloaded`, `network`, `timeout`, `cut_stream`, `bad_answer` | after a pause, as often as the policy says | then |
/// | `auth`, `not_found`, `too_large` | never | at once |
/// | `context_too_long` | never | at once, to a larger window only |
/// | `invalid_request`, `cancelled` | never | never |
///
/// What was already shown of an answer cannot be taken back: then neither is asked, unless whoever is shown it can start anew.
package struct RetryMachine: Sendable {
    private let policy: RetryPolicy
    /// When everything must be over, in the time of `InferenceTime`.
    private let limit: Duration
    private var retries = 0

    /// Begins with one model; `limit` is the end of all models' time.
    package init(_ policy: RetryPolicy, limit: Duration) {
        self.policy = policy
        self.limit = limit
    }

    /// How many attempts have failed.
    package private(set) var failures = 0

    /// Says what follows a failure.
    ///
    /// - Parameters:
    ///   - error: the failure.
    ///   - isFinal: whether a part of the answer was shown that cannot be taken back.
    ///   - now: the time.
    ///   - random: where the pause lies between half of its length and the whole.
    /// - Returns: what to do.
    package mutating func failed(
        _ error: ModelError, isFinal: Bool, at now: Duration, using random: inout some RandomNumberGenerator
    ) -> RetryVerdict {
        failures += 1
        switch error.kind {
        case .invalidRequest, .cancelled: return .end
        case _ where isFinal || now >= limit: return .end
        // What had no end would have none again, and be taken in for as long.
        case .auth, .notFound, .tooLarge: return .fallBack(largerWindow: false)
        case .contextTooLong: return .fallBack(largerWindow: true)
        case .rateLimited, .overloaded, .network, .timeout, .cutStream, .badAnswer: break
        }
        guard retries < policy.maxRetries else { return .fallBack(largerWindow: false) }
        let pause = delay(using: &random)
        var wait = pause
        if let asked = error.retryAfter {
            guard asked <= policy.longestRetryAfter else { return .fallBack(largerWindow: false) }
            // All who were refused together must not come back together: our own pause, at most a tenth of theirs, on top.
            if asked > .zero { wait = max(wait, asked + min(pause, asked / 10)) }
        }
        guard now + wait < limit else { return .fallBack(largerWindow: false) }
        retries += 1
        return .retry(after: wait)
    }

    private func delay(using random: inout some RandomNumberGenerator) -> Duration {
        var delay = min(policy.firstDelay, policy.longestDelay)
        for _ in 0..<min(retries, 40) where delay < policy.longestDelay { delay = min(delay * 2, policy.longestDelay) }
        let half = max(0, delay.nanoseconds / 2)
        return .nanoseconds(half) + .nanoseconds(Int64.random(in: 0...half, using: &random))
    }
}
