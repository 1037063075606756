import AegisCore
import AegisInference
import AegisTestSupport
import Synchronization
import Testing

@testable import AegisAgents

/// Schedules go by the wall's time, and the clock that waits for it goes another way now and then.
@Suite struct ScheduledMomentsTests {
    /// A wall that a test sets.
    private final class Wall: Sendable {
        private let time: Mutex<Int64>
        init(_ hour: Int64, _ minute: Int64, _ second: Int64 = 0) { time = Mutex(Self.of(hour, minute, second)) }
        private static func of(_ hour: Int64, _ minute: Int64, _ second: Int64) -> Int64 {
            20_000 * 86_400_000 + ((hour * 60 + minute) * 60 + second) * 1000
        }
        func set(_ hour: Int64, _ minute: Int64, _ second: Int64 = 0) {
            time.withLock { $0 = Self.of(hour, minute, second) }
        }
        var now: Timestamp { Timestamp(milliseconds: time.withLock { $0 }) }
    }

    /// Runs a test with an agent of a schedule; `calls` has what it was called with.
    private static func with(
        _ schedule: String, _ wall: Wall,
        _ body: (AgentProcess, TestClock, _ calls: () -> [String]) async throws -> Void
    ) async throws {
        let clock = TestClock()
        let heard = Mutex<[String]>([])
        let desk = ClosureDesk { question, _ in
            heard.withLock { $0.append(question.messages.last?.text ?? "") }
            return ClosureDesk.text("done")
        }
        let world = try World(desk, clock: clock) { wall.now }
        do {
            let process = try await world.directory.spawn(
                World.file("timer", "lifecycle: scheduled\nschedule: '\(schedule)'"), by: .person(uid: 0))
            await clock.sleepers(1)
            try await body(process, clock) { heard.withLock { $0 } }
        } catch {
            await world.end()
            throw error
        }
        await world.end()
    }

    /// Lets a minute pass at the clock that waits, until the schedule waits again.
    private static func pass(_ clock: TestClock) async {
        clock.advance(by: .seconds(60))
        await clock.sleepers(1)
    }

    private static func until(_ condition: () -> Bool) async { while !condition() { await Task.yield() } }

    @Test func whatCameWhileTheMachineSleptIsCalledWithinAMinute() async throws {
        let wall = Wall(2, 59, 30)
        try await Self.with("30 3 * * *", wall) { _, clock, calls in
            // The machine is suspended: the wall alone goes on.
            wall.set(9, 10)
            await Self.pass(clock)
            await Self.until { !calls().isEmpty }
            #expect(calls() == ["It is 2024-10-04T09:10:00.000Z: do your scheduled work."])
            // Once, however much has passed.
            wall.set(9, 11)
            await Self.pass(clock)
            #expect(calls().count == 1)
        }
    }

    @Test func aWallThatIsSetBackCallsNobodyTooEarly() async throws {
        let wall = Wall(11, 59, 30)
        try await Self.with("0 12 * * *", wall) { process, clock, calls in
            wall.set(10, 59, 30)
            for minute in [0, 1] as [Int64] {
                await Self.pass(clock)
                #expect(calls().isEmpty && process.standing.mail == 0)
                wall.set(11, minute)
            }
            wall.set(12, 0)
            await Self.pass(clock)
            await Self.until { !calls().isEmpty }
            #expect(calls() == ["It is 2024-10-04T12:00:00.000Z: do your scheduled work."])
        }
    }

    /// Set back by an hour, it goes on at once by the new time; by a moment, nothing comes twice.
    @Test(arguments: ["* * * * *", "@every 1m"]) func aWallThatIsSetBackSilencesNobody(_ schedule: String) async throws
    {
        let wall = Wall(12, 0)
        try await Self.with(schedule, wall) { _, clock, calls in
            wall.set(12, 1)
            await Self.pass(clock)
            await Self.until { calls().count == 1 }
            wall.set(12, 0, 59)
            await Self.pass(clock)
            #expect(calls().count == 1)
            wall.set(11, 0, 59)
            await Self.pass(clock)
            #expect(calls().count == 1)
            wall.set(11, 1, 59)
            await Self.pass(clock)
            await Self.until { calls().count == 2 }
        }
    }

    /// However many schedules there are, they look at the wall at the same moments.
    @Test func allWaitForTheSameMinute() async throws {
        let wall = Wall(12, 0, 15)
        try await Self.with("0 0 1 1 *", wall) { _, clock, _ in
            #expect(clock.deadlines == [.seconds(45)])
        }
    }
}
