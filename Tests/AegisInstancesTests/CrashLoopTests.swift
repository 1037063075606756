import AegisInstances
import Testing

@Suite struct CrashLoopTests {
    @Test func fiveQuickCrashesInTwoMinutesAreRefused() {
        var loop = CrashLoop()
        for i in 0..<5 {
            #expect(loop.refusal(now: .seconds(i * 20)) == nil)
            loop.ended(code: 1, started: .seconds(i * 20), now: .seconds(i * 20 + 1))
        }
        #expect(loop.refusal(now: .seconds(82)) == .seconds(119))
        #expect(loop.refusal(now: .seconds(201)) == nil)
    }
    @Test func aCleanOrLongLifeForgets() {
        var loop = CrashLoop()
        for i in 0..<4 { loop.ended(code: 1, started: .seconds(i), now: .seconds(i)) }
        loop.ended(code: 0, started: .seconds(5), now: .seconds(5))
        loop.ended(code: 1, started: .seconds(6), now: .seconds(6))
        #expect(loop.refusal(now: .seconds(7)) == nil)
        for i in 0..<4 { loop.ended(code: 1, started: .seconds(10 + i), now: .seconds(10 + i)) }
        loop.ended(code: 1, started: .seconds(20), now: .seconds(31))
        #expect(loop.refusal(now: .seconds(32)) == nil)
    }
    @Test func crashesCountOverARestartOfTheDaemon() {
        var loop = CrashLoop()
        for i in 0..<4 { loop.ended(code: 1, started: .seconds(100 + i), now: .seconds(100 + i)) }
        let ages = loop.ages(now: .seconds(110))
        #expect(ages == [.seconds(10), .seconds(9), .seconds(8), .seconds(7)])
        // 5 s later by the wall; the monotonic clock of the host began anew.
        var next = CrashLoop(ages: ages.map { $0 + .seconds(5) }, now: .seconds(3))
        #expect(next.refusal(now: .seconds(3)) == nil)
        next.ended(code: 1, started: .seconds(4), now: .seconds(5))
        #expect(next.refusal(now: .seconds(5)) == .seconds(120))
        #expect(CrashLoop(ages: next.ages(now: .seconds(65)), now: .zero).refusal(now: .zero) == .seconds(60))
        // A clock that was set back: the crash counts as one of now, for no longer than any other.
        let odd = CrashLoop(ages: Array(repeating: .seconds(-1000), count: 5), now: .seconds(9))
        #expect(odd.refusal(now: .seconds(9)) == .seconds(120))
        #expect(
            CrashLoop(ages: (0..<9).map { .seconds($0) }).ages(now: .zero) == (0..<5).reversed().map { .seconds($0) })
    }
    @Test func slowCrashesAreFine() {
        var loop = CrashLoop()
        for i in 0..<9 { loop.ended(code: 1, started: .seconds(i * 40), now: .seconds(i * 40)) }
        #expect(loop.refusal(now: .seconds(330)) == nil)
    }
}
