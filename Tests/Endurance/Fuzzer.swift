import AegisTestSupport
import Foundation
import Testing

/// One parser of bytes from outside, what it takes, and what must hold whatever it is given.
struct FuzzTarget: Sendable, CustomTestStringConvertible {
    var name: String
    /// Valid inputs, which are then damaged.
    var samples: [[UInt8]]
    /// Gives what was wrong, nil when all held. A trap ends the whole run; the input is then found by its seed.
    var check: @Sendable (_ input: [UInt8], _ mutator: inout Mutator) -> String?
    /// Whether a damaged input was taken: a target that refuses everything tests only its first check.
    var accepts: @Sendable ([UInt8]) -> Bool

    var testDescription: String { name }
}

extension Endurance {
    /// Damages samples for as long as was asked for.
    static func fuzz(_ target: FuzzTarget) {
        let start = seed ?? UInt64.random(in: 0...(.max >> 1))
        // A trap leaves no time to say anything: said beforehand, and flushed.
        print("fuzzing \(target.name) from AEGIS_FUZZ_SEED=\(start)")
        fflush(nil)
        let end = ContinuousClock.now + .seconds(seconds)
        var (rounds, accepted) = (UInt64(0), UInt64(0))
        while ContinuousClock.now < end {
            for _ in 0..<64 {
                var mutator = Mutator(seed: start &+ rounds)
                let input = mutator.mutate(mutator.pick(target.samples), others: target.samples)
                if let wrong = target.check(input, &mutator) {
                    Issue.record("\(target.name), AEGIS_FUZZ_SEED=\(start &+ rounds): \(wrong)\n\(input)")
                    return
                }
                if target.accepts(input) { accepted += 1 }
                rounds += 1
            }
        }
        print("\(target.name): \(rounds) inputs, \(accepted) of them valid")
        #expect(rounds == 0 || accepted > 0, "nothing got past the first check")
        #expect(rounds == 0 || accepted < rounds, "nothing was refused")
    }
}
