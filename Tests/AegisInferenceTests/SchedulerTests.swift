import AegisTestSupport
import Testing

@testable import AegisInference

@Suite struct SchedulerTests {
    private let clock = TestClock()

    private func scheduler(_ policy: SchedulePolicy) -> Scheduler {
        Scheduler(policy, time: InferenceTime(clock: clock))
    }
    /// Waits until so many wait in the queue.
    private func waiting(_ count: Int, in scheduler: Scheduler) async {
        while scheduler.counts.waiting != count { await Task.yield() }
    }

    @Test func aPlaceIsFreeAgainHoweverTheTurnEnds() async throws {
        let scheduler = scheduler(SchedulePolicy(concurrent: 1))
        for _ in 0..<3 {
            let permit = try await scheduler.acquire(ScheduleTicket(agent: "a"))
            #expect(scheduler.counts == (1, 0))
            permit.release(used: 10)
            _ = try await scheduler.acquire(ScheduleTicket(agent: "a"))  // dropped at once
            #expect(scheduler.counts == (0, 0))
        }
    }

    @Test func whoWaitsIsWokenByWhoEnds() async throws {
        let scheduler = scheduler(SchedulePolicy(concurrent: 1))
        let first = try await scheduler.acquire(ScheduleTicket(agent: "a"))
        async let second: Void = {
            let permit = try await scheduler.acquire(ScheduleTicket(agent: "b"))
            permit.release(used: nil)
        }()
        await waiting(1, in: scheduler)
        first.release(used: nil)
        try await second
        #expect(scheduler.counts == (0, 0))
        #expect(clock.sleeperCount == 0)
    }

    @Test func oneThatWaitsKeepsTheTimeForAll() async throws {
        let scheduler = scheduler(SchedulePolicy(concurrent: 10, requestsPerMinute: 1))
        let begun = Kept<[Int]>([])
        try await scheduler.acquire(ScheduleTicket(agent: "a")).release(used: nil)
        await withThrowingTaskGroup(of: Void.self) { group in
            for number in 1...3 {
                group.addTask {
                    let permit = try await scheduler.acquire(ScheduleTicket(agent: "a"))
                    begun.change { $0.append(number) }
                    permit.release(used: nil)
                }
                await waiting(number, in: scheduler)
            }
            for turn in 1...3 {
                await clock.sleepers(1)
                #expect(clock.sleeperCount == 1 && begun.value.count == turn - 1)
                clock.advance(by: .seconds(60))
                await waiting(3 - turn, in: scheduler)
                while begun.value.count != turn { await Task.yield() }
            }
        }
        #expect(begun.value == [1, 2, 3])
        #expect(scheduler.counts == (0, 0))
    }

    @Test func whoIsCancelledLeavesTheQueueAndAnotherKeepsTheTime() async throws {
        let scheduler = scheduler(SchedulePolicy(concurrent: 10, requestsPerMinute: 1))
        try await scheduler.acquire(ScheduleTicket(agent: "a")).release(used: nil)
        let keeper = Task { try await scheduler.acquire(ScheduleTicket(agent: "a")).release(used: nil) }
        await clock.sleepers(1)
        let other = Task { try await scheduler.acquire(ScheduleTicket(agent: "b")).release(used: nil) }
        await waiting(2, in: scheduler)
        keeper.cancel()
        await #expect(throws: ScheduleRefusal.cancelled) { try await keeper.value }
        await clock.sleepers(1)
        clock.advance(by: .seconds(60))
        try await other.value
        #expect(scheduler.counts == (0, 0))
    }

    @Test func aDeadlineIsKept() async throws {
        let scheduler = scheduler(SchedulePolicy(concurrent: 1))
        let permit = try await scheduler.acquire(ScheduleTicket(agent: "a"))
        let late = Task {
            try await scheduler.acquire(ScheduleTicket(agent: "b", deadline: .seconds(5))).release(used: nil)
        }
        await clock.sleepers(1)
        clock.advance(by: .seconds(5))
        await #expect(throws: ScheduleRefusal.expired) { try await late.value }
        permit.release(used: nil)
        #expect(scheduler.counts == (0, 0))
    }

    @Test func aPauseThatTheProviderAskedForIsKept() async throws {
        let scheduler = scheduler(SchedulePolicy())
        scheduler.hold(for: .seconds(7))
        let held = Task { try await scheduler.acquire(ScheduleTicket(agent: "a")).release(used: nil) }
        await clock.sleepers(1)
        #expect(clock.deadlines == [.seconds(7)])
        clock.advance(by: .seconds(7))
        try await held.value
    }

    /// Many tasks that take turns, some cancelled at any moment: in the end every place is free and every task has ended.
    @Test(arguments: 1...8)
    func noTurnIsLostWhenManyComeAndGo(_ seed: Int) async {
        let scheduler = Scheduler(
            SchedulePolicy(concurrent: 3, requestsPerMinute: 1_000_000), time: InferenceTime())
        let most = Kept([0, 0])
        await withTaskGroup(of: Void.self) { group in
            var random = Seeded(UInt64(seed))
            for number in 0..<200 {
                let (cancels, yields) = (
                    Int.random(in: 0..<3, using: &random) == 0, Int.random(in: 0..<5, using: &random)
                )
                group.addTask {
                    await withTaskGroup(of: Void.self) { inner in
                        inner.addTask {
                            guard let permit = try? await scheduler.acquire(ScheduleTicket(agent: "a\(number % 7)"))
                            else { return }
                            most.change { $0 = [$0[0] + 1, max($0[1], $0[0] + 1)] }
                            await Task.yield()
                            most.change { $0[0] -= 1 }
                            permit.release(used: nil)
                        }
                        for _ in 0..<yields { await Task.yield() }
                        if cancels { inner.cancelAll() }
                    }
                }
            }
        }
        #expect(scheduler.counts == (0, 0))
        #expect(most.value[1] <= 3)
    }
}
