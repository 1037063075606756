import AegisTestSupport
import Testing

@testable import AegisInference

/// Chance that tests choose: the same number for ever. Not 0, which Swift draws again and again.
struct Fixed: RandomNumberGenerator {
    var value: UInt64
    mutating func next() -> UInt64 { value }
}

@Suite struct RetryMachineTests {
    private static let policy = RetryPolicy(
        maxRetries: 3, firstDelay: .seconds(1), longestDelay: .seconds(3), longestRetryAfter: .seconds(60),
        total: .seconds(600))

    private func verdict(
        _ kind: ModelError.Kind, isFinal: Bool = false, asked: Duration? = nil, now: Duration = .zero,
        limit: Duration = .seconds(600)
    ) -> RetryVerdict {
        var machine = RetryMachine(Self.policy, limit: limit)
        var chance = Fixed(value: 1)
        return machine.failed(ModelError(kind, retryAfter: asked, ""), isFinal: isFinal, at: now, using: &chance)
    }

    @Test(arguments: [
        (ModelError.Kind.auth, RetryVerdict.fallBack(largerWindow: false)), (.notFound, .fallBack(largerWindow: false)),
        (.tooLarge, .fallBack(largerWindow: false)), (.contextTooLong, .fallBack(largerWindow: true)),
        (.invalidRequest, .end), (.cancelled, .end),
        (.overloaded, .retry(after: .milliseconds(500))), (.network, .retry(after: .milliseconds(500))),
        (.timeout, .retry(after: .milliseconds(500))), (.cutStream, .retry(after: .milliseconds(500))),
        (.badAnswer, .retry(after: .milliseconds(500))),
        (.rateLimited, .retry(after: .milliseconds(500))),
    ])
    func eachFailureHasItsCourse(_ kind: ModelError.Kind, _ expected: RetryVerdict) {
        #expect(verdict(kind) == expected)
    }

    @Test(arguments: [
        (Duration.zero, RetryVerdict.retry(after: .milliseconds(500))),
        (.seconds(10), .retry(after: .milliseconds(10_500))), (.milliseconds(100), .retry(after: .milliseconds(500))),
        (.seconds(60), .retry(after: .milliseconds(60_500))), (.seconds(61), .fallBack(largerWindow: false)),
    ])
    func aPauseThatIsAskedForIsKept(_ asked: Duration, _ expected: RetryVerdict) {
        for kind in [ModelError.Kind.rateLimited, .overloaded, .timeout] {
            #expect(verdict(kind, asked: asked) == expected)
        }
        // What is no word of the provider's is not for long.
        #expect(verdict(.network, asked: asked) == .retry(after: .milliseconds(500)))
    }

    /// An answer that ends with a failure of whatever kind has cost what had come of it; one that never began has not.
    @Test(arguments: [ModelError.Kind.overloaded, .rateLimited, .contextTooLong, .auth])
    func whatBrokeOffIsPaidFor(_ kind: ModelError.Kind) throws {
        let error = ModelError(kind, "no")
        #expect(error.mayHaveCost(begun: true) && !error.mayHaveCost(begun: false))
    }

    @Test func nothingIsAskedAgainOnceAPartWasShown() {
        for kind in [ModelError.Kind.cutStream, .timeout, .network, .overloaded, .auth] {
            #expect(verdict(kind, isFinal: true) == .end)
        }
    }

    @Test func pausesDoubleUpToTheLongestAndThenTheNextModelIsAsked() {
        for (chance, expected) in [(UInt64(1), [500, 1000, 1500]), (.max, [1000, 2000, 3000])] {
            var machine = RetryMachine(Self.policy, limit: .seconds(600))
            var random = Fixed(value: chance)
            let verdicts = (0..<4).map { _ in
                machine.failed(ModelError(.overloaded, ""), isFinal: false, at: .zero, using: &random)
            }
            #expect(
                verdicts == expected.map { .retry(after: .milliseconds($0)) } + [.fallBack(largerWindow: false)])
            #expect(machine.failures == 4)
        }
    }

    @Test func aPauseBeyondTheLimitIsNotBegun() {
        #expect(verdict(.overloaded, limit: .milliseconds(500)) == .fallBack(largerWindow: false))
        #expect(verdict(.overloaded, now: .seconds(600)) == .end)
    }

    @Test func pausesOfAnyPolicyStayBetweenHalfAndWhole() {
        var random = Mutator(seed: 1)
        for _ in 0..<2000 {
            let first = Int.random(in: 0...5000, using: &random), longest = Int.random(in: 0...100_000, using: &random)
            var machine = RetryMachine(
                RetryPolicy(
                    maxRetries: 60, firstDelay: .milliseconds(first), longestDelay: .milliseconds(longest)),
                limit: .seconds(1_000_000))
            var whole = min(first, longest)
            for _ in 0..<60 {
                let verdict = machine.failed(ModelError(.network, ""), isFinal: false, at: .zero, using: &random)
                guard case .retry(let pause) = verdict else {
                    Issue.record("\(verdict)")
                    return
                }
                #expect(pause >= .milliseconds(whole) / 2 - .milliseconds(1) && pause <= .milliseconds(whole))
                whole = min(whole * 2, longest)
            }
        }
    }
}
