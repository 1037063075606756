import AegisCore
import AegisStore
import AegisTestSupport
import Testing

@testable import AegisAgents

/// Somebody ends a turn while nothing can be saved.
@Suite struct UnsavedCancelTests {
    /// What was meant for that turn does not end the one after it: the daemon's end leaves that to the next daemon.
    @Test func theNextTurnIsNotEndedForIt() async throws {
        let (isFirst, isSecond, clock) = (Waiter<Bool>(), Waiter<Bool>(), TestClock())
        let desk = ClosureDesk { question, number throws(AegisError) in
            (number == 1 ? isFirst : isSecond).resolve(true)
            await untilCancelled()
            throw .failed("cancelled", "given up")
        }
        let one = try World(desk, clock: clock)
        let agent = try await one.directory.spawn(World.file("worker", "lifecycle: persistent"), by: .person(uid: 0))
        async let running = one.directory.run("go", on: agent)
        _ = await isFirst.value()
        _ = try one.database.transaction(.saved) { t in
            try t.run("CREATE TRIGGER full BEFORE INSERT ON agent_steps BEGIN SELECT RAISE(ABORT, 'no room'); END")
        }
        await agent.cancel(trace: try #require(agent.trace))
        #expect(try await running.stop == .error)
        let next = try await one.directory.send("next", to: agent.id)
        await clock.sleepers(1)
        _ = try one.database.transaction(.saved) { t in try t.run("DROP TRIGGER full") }
        clock.advance(by: .seconds(5))
        _ = await isSecond.value()
        await one.directory.end()
        await one.end()
        let two = try World(ClosureDesk { _, _ in ClosureDesk.text("done") }, database: one.database, clock: clock)
        try await two.directory.recover()
        let reply = try await two.directory.reply(next, of: agent.id, wait: true)
        #expect(reply?.stop == .complete && reply?.response == "done", "\(String(describing: reply))")
        await two.end()
    }
}
