import AegisTestSupport
import Testing

@testable import AegisIO

@Suite struct QuietWatchTests {
    @Test func aLittleWorkWantsNoTimer() {
        var watch = QuietWatch()
        let wanted = (0..<10).map { _ in watch.ran(100) }
        #expect(!wanted.contains(true))
    }

    @Test func aBurstEndsWithTheFirstQuietLook() {
        var watch = QuietWatch()
        let burst = Int(QuietWatch.burst)
        // One timer is enough for a burst that goes on.
        let wanted = [watch.ran(burst), watch.ran(burst)]
        let first = watch.due()
        _ = watch.ran(Int(QuietWatch.calm))
        let second = watch.due()
        let next = [watch.ran(burst - 1), watch.ran(1)]
        #expect(wanted == [true, false] && first == .lookAgain && second == .quiet && next == [false, true])
    }

    @Test func aLoopSaysThatABurstIsOver() async throws {
        let loop = try EventLoop.startThread(name: "burst")
        defer { loop.stop() }
        let (said, continuation) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(10))
        await loop.run {
            loop.afterBursts { continuation.yield() }
            for _ in 0..<2 * QuietWatch.burst { await Task.yield() }
        }
        var events = said.makeAsyncIterator()
        #expect(await events.next() != nil)
    }
}
