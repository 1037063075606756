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
    @Test func slowCrashesAreFine() {
        var loop = CrashLoop()
        for i in 0..<9 { loop.ended(code: 1, started: .seconds(i * 40), now: .seconds(i * 40)) }
        #expect(loop.refusal(now: .seconds(330)) == nil)
    }
}
