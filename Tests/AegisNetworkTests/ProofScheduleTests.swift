import AegisTestSupport
import Synchronization
import Testing

@testable import AegisNetwork

@Suite struct ProofScheduleTests {
    /// A clock that goes as fast as it is asked to, and ends its sleeper when its time is over.
    private final class HurriedClock: Sendable {
        private let passed = Mutex(Duration.zero)
        private let end: Duration
        init(until end: Duration) { self.end = end }
        var now: Duration { passed.withLock { $0 } }

        func sleep(_ span: Duration) throws {
            let now = passed.withLock { passed in
                passed += span
                return passed
            }
            if now > end { throw CancellationError() }
        }
    }

    /// Who was proved when, in so many seconds.
    private func proofs(_ seed: UInt64, _ ids: [String], seconds: Int) async -> [(at: Duration, id: String)] {
        let clock = HurriedClock(until: .seconds(seconds))
        let made = Mutex<[(at: Duration, id: String)]>([])
        var schedule = ProofSchedule(random: Mutator(seed: seed)) { try clock.sleep($0) }
        await schedule.run {
            ids
        } prove: { id in
            let now = clock.now
            made.withLock { $0.append((now, id)) }
        }
        return made.withLock { $0 }
    }

    @Test func everyInstanceIsProvedSomeFiveMinutesApart() async {
        let ids = (0..<20).map { "i-\($0)" }
        let hours = 100
        let made = await proofs(1, ids, seconds: hours * 3600)
        // Twelve an hour for each, on average.
        for id in ids {
            let count = made.count { $0.id == id }
            #expect((hours * 10...hours * 14).contains(count), "\(id): \(count)")
        }
        let gaps = zip(made.dropFirst(), made).map { $0.at - $1.at }
        #expect(gaps.allSatisfy { $0 >= .seconds(7.5) && $0 <= .seconds(22.5) })
        #expect(Set(gaps).count > gaps.count / 2)
    }

    @Test func theIntervalIsWhatItIsSetTo() async {
        let clock = HurriedClock(until: .seconds(36_000))
        let made = Mutex(0)
        var schedule = ProofSchedule(interval: .seconds(60), random: Mutator(seed: 6)) { try clock.sleep($0) }
        await schedule.run {
            ["a"]
        } prove: { _ in
            made.withLock { $0 += 1 }
        }
        #expect((550...650).contains(made.withLock { $0 }))
    }

    @Test func nobodyCanForeseeWhenAndWho() async {
        let one = await proofs(2, ["a", "b"], seconds: 36_000)
        let again = await proofs(2, ["a", "b"], seconds: 36_000)
        let other = await proofs(3, ["a", "b"], seconds: 36_000)
        #expect(one.map(\.at) == again.map(\.at) && one.map(\.id) == again.map(\.id))
        #expect(one.map(\.at) != other.map(\.at) && one.map(\.id) != other.map(\.id))
    }

    @Test func aCrowdedNodeIsNotProvedWithoutPause() async {
        let made = await proofs(4, (0..<2000).map { "\($0)" }, seconds: 600)
        #expect(made.count == 600)
    }

    @Test func whoeverComesLaterIsProvedToo() async {
        let clock = HurriedClock(until: .seconds(3600))
        let seen = Mutex<Set<String>>([])
        var schedule = ProofSchedule(random: Mutator(seed: 5)) { try clock.sleep($0) }
        await schedule.run {
            clock.now < .seconds(1800) ? [] : ["late"]
        } prove: { id in
            seen.withLock { _ = $0.insert(id) }
        }
        #expect(seen.withLock { $0 } == ["late"])
    }
}
