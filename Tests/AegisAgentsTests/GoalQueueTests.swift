import AegisConfig
import AegisCore
import AegisInference
import AegisJSON
import AegisStore
import AegisTestSupport
import AegisTools
import Synchronization
import Testing

@testable import AegisAgents

@Suite struct GoalQueueTests {
    private static func queue(_ world: World, limit: Int = 4) -> GoalQueue {
        GoalQueue(
            world.directory, store: GoalStore(world.database), services: world.directory.services, limit: limit
        ) { name, _ throws(AegisError) in
            let prompt = name == nil ? "" : "system_prompt: {file: prompt.md}\n"
            return (World.file("bootstrap", prompt + "capabilities: ['spawn: *']"), { "the text of \($0)" })
        }
    }

    @Test func aGoalIsReachedAndItsAgentIsGone() async throws {
        let world = try World(ClosureDesk { question, _ in ClosureDesk.text("did " + question.messages[0].text) })
        let queue = Self.queue(world)
        let goal = try await queue.submit("this", owner: 3)
        let over = try #require(try await queue.result(of: goal.id))
        #expect(over.state == .ended)
        #expect(over.response == "did this")
        #expect(over.stop == .complete)
        #expect(world.directory.all.isEmpty)
        #expect(try GoalStore(world.database).all() == [over])
        await world.end()
    }

    /// What children use counts, while they are at it and once the goal is over.
    @Test func aGoalCountsWhatItsChildrenUse() async throws {
        let (isAsked, goesOn) = (Waiter<Bool>(), Waiter<Bool>())
        let desk = ClosureDesk(prices: [ModelPrice(input: 1_000_000, output: 10_000_000)]) { question, _ in
            if question.name == "child" { return ClosureDesk.text("counted") }
            guard question.messages.last?.toolResults.isEmpty == false else {
                let child: JSONValue = ["manifest": "name: child\nmodel: m", "message": "count"]
                return ClosureDesk.calls(
                    ToolUse(id: "a", name: "spawn_agents", input: ["children": [child, child]]))
            }
            isAsked.resolve(true)
            _ = await goesOn.value()
            return ClosureDesk.text("done")
        }
        let world = try World(desk)
        let queue = GoalQueue(
            world.directory, store: GoalStore(world.database), services: world.directory.services
        ) { _, _ throws(AegisError) in
            let grants = "capabilities: ['tool: spawn_agents', 'spawn: *']"
            return (World.file("bootstrap", grants), AgentDirectory.noPromptFile)
        }
        let goal = try await queue.submit("this", owner: 3)
        _ = await isAsked.value()
        // One answer of its own, and one of each child; 100 tokens in and 10 out for each.
        let working = try await queue.find(goal.id)
        #expect(working.state == .running)
        #expect([working.inputTokens, working.outputTokens] == [300, 30])
        #expect(await queue.all.map(\.inputTokens) == [300])
        goesOn.resolve(true)
        let over = try #require(try await queue.result(of: goal.id))
        #expect([over.inputTokens, over.outputTokens] == [400, 40])
        #expect(over.cost == "0.0008")
        #expect(try GoalStore(world.database).all() == [over])
        await world.end()
    }

    /// The models of a goal are told when its time is over. Who notices that first does not matter: here a model that is asked no longer.
    @Test func whatFailsWithTheEndOfTheTimeIsATimeout() async throws {
        let time = Mutex<Int64>(1_000_000)
        let deadlines = Mutex<[Timestamp?]>([])
        let desk = ClosureDesk { question, number throws(AegisError) in
            deadlines.withLock { $0.append(question.deadline) }
            if question.name == "child" { return ClosureDesk.text("counted") }
            guard number > 1 else {
                return ClosureDesk.calls(
                    ToolUse(
                        id: "a", name: "spawn_agent",
                        input: ["manifest": "name: child\nmodel: m", "message": "count"]))
            }
            time.withLock { $0 = 1_060_000 }
            throw .init(.timeout, "model-timeout", "no answer in time")
        }
        let world = try World(desk, clock: TestClock()) { Timestamp(milliseconds: time.withLock { $0 }) }
        let queue = GoalQueue(
            world.directory, store: GoalStore(world.database), services: world.directory.services
        ) { _, _ throws(AegisError) in
            let grants = "capabilities: ['tool: spawn_agent', 'spawn: *']"
            return (World.file("bootstrap", grants), AgentDirectory.noPromptFile)
        }
        let goal = try await queue.submit("this", owner: 3, maxTime: .seconds(60))
        let over = try #require(try await queue.result(of: goal.id))
        #expect(over.stop == .error && over.problem?.code == "goal-timeout", "\(over)")
        // Its agent's, the child's, and its agent's again.
        #expect(deadlines.withLock { $0 } == Array(repeating: Timestamp(milliseconds: 1_060_000), count: 3))
        await world.end()
    }

    @Test func aDeployedManifestTakesAGoalWithThePromptThatItsFileHad() async throws {
        let world = try World(ClosureDesk { question, _ in ClosureDesk.text(question.system) })
        let queue = Self.queue(world)
        let goal = try await queue.submit("this", owner: 3, manifest: "mine")
        let response = try #require(try await queue.result(of: goal.id)?.response)
        #expect(response.contains("the text of prompt.md"), "\(response)")
        await world.end()
    }

    @Test func whoNoLongerWaitsIsForgotten() async throws {
        let isAsked = Waiter<Bool>()
        let world = try World(ClosureDesk.silent(isAsked))
        let queue = Self.queue(world)
        let goal = try await queue.submit("this", owner: 3)
        _ = await isAsked.value()
        let working = try await queue.find(goal.id)
        let process = try world.directory.find(try #require(working.agent))
        let trace = try #require(working.trace)
        let count = await process.waiting
        let waits = (0..<8).map { (number: Int) -> Task<Bool, any Error> in
            Task {
                if number % 2 == 0 { return try await queue.result(of: goal.id) == nil }
                return (try? await world.directory.reply(trace, of: process.id, wait: true)) == nil
            }
        }
        for wait in waits { wait.cancel() }
        for wait in waits { #expect(try await wait.value) }
        #expect(await queue.waiting == 0)
        #expect(await process.waiting == count)
        let reader = Task { await process.log.wait(after: 1_000_000) }
        reader.cancel()
        #expect(await reader.value == false)
        #expect(process.log.waiting == 0)
        _ = try await queue.cancel(goal.id)
        await world.end()
    }

    /// One owner's goals neither keep others' from their turn nor push out what is known of them.
    @Test func ownersDoNotStandInEachOthersWay() async throws {
        let gates = ["first": Waiter<Bool>(), "second": Waiter<Bool>()]
        let asked = Mutex<[String]>([])
        let areTwo = Waiter<Bool>()
        let world = try World(
            ClosureDesk { question, number in
                let text = question.messages[0].text
                asked.withLock { $0.append(text) }
                if number == 2 { areTwo.resolve(true) }
                _ = await gates[text]?.value()
                return ClosureDesk.text("done")
            })
        let queue = Self.queue(world, limit: 2)
        let first = try await queue.submit("first", owner: 1)
        let second = try await queue.submit("second", owner: 1)
        _ = await areTwo.value()
        let third = try await queue.submit("third", owner: 1)
        let theirs = try await queue.submit("theirs", owner: 2)
        gates["second"]?.resolve(true)
        for id in [second.id, third.id, theirs.id] { #expect(try await queue.result(of: id)?.response == "done") }
        #expect(asked.withLock { Array($0.suffix(2)) } == ["theirs", "third"])
        gates["first"]?.resolve(true)
        #expect(try await queue.result(of: first.id)?.response == "done")
        for _ in 0..<GoalQueue.remembered + 5 {
            _ = try await queue.cancel(try await queue.submit("again", owner: 1).id)
        }
        #expect(try await queue.find(theirs.id).response == "done")
        await #expect(throws: AegisError.self) { try await queue.find(first.id) }
        #expect(try GoalStore(world.database).all().count { $0.owner == 1 } == GoalQueue.remembered)
        await world.end()
    }

    /// A goal whose end cannot be saved is over all the same: nothing works on for it.
    @Test func anEndThatCannotBeKeptIsAnEnd() async throws {
        let isAsked = Waiter<Bool>()
        let world = try World(ClosureDesk.silent(isAsked))
        let queue = Self.queue(world)
        let goal = try await queue.submit("go", owner: 0)
        _ = await isAsked.value()
        _ = try world.database.transaction(.saved) { t in
            try t.run(
                "CREATE TRIGGER full BEFORE INSERT ON goals BEGIN SELECT RAISE(ABORT, 'no room'); END")
        }
        await #expect(throws: AegisError.self) { try await queue.cancel(goal.id) }
        #expect(world.directory.all.isEmpty)
        #expect(try await queue.result(of: goal.id)?.state == .cancelled)
        await world.end()
    }

    @Test func aGoalThatIsWrongIsRefusedAtOnce() async throws {
        let world = try World(ClosureDesk { _, _ in ClosureDesk.text("x") })
        let queue = Self.queue(world)
        await #expect(throws: AegisError.self) { try await queue.submit("  ", owner: 0) }
        var options = SpawnOptions()
        options.grants = ["netwrk: example.com"]
        let error = await #expect(throws: AegisError.self) { try await queue.submit("go", owner: 0, options: options) }
        #expect(error?.code == "invalid-capability")
        #expect(await queue.all.isEmpty)
        await world.end()
    }

    /// Whatever was going on when the daemon ended: every goal that was taken comes to its end with the next one.
    @Test func goalsSurviveTheDaemon() async throws {
        let isFirst = Waiter<Bool>()
        let hanging = ClosureDesk.silent(isFirst)
        let one = try World(hanging)
        let before = Self.queue(one, limit: 1)
        let running = try await before.submit("one", owner: 0)
        let waiting = try await before.submit("two", owner: 0)
        _ = await isFirst.value()
        await one.end()
        let two = try World(ClosureDesk { _, _ in ClosureDesk.text("done") }, database: one.database)
        try await two.directory.recover()
        let after = Self.queue(two, limit: 1)
        try await after.recover()
        #expect(try await after.result(of: running.id)?.response == "done")
        #expect(try await after.result(of: waiting.id)?.response == "done")
        #expect(two.directory.all.isEmpty)
        await two.end()
    }

    @Test func aCancelledGoalStopsItsTree() async throws {
        let isAsked = Waiter<Bool>()
        let world = try World(
            ClosureDesk.silent(isAsked))
        let queue = Self.queue(world)
        let goal = try await queue.submit("go", owner: 0)
        _ = await isAsked.value()
        let over = try await queue.cancel(goal.id)
        #expect(over.state == .cancelled)
        #expect(try await queue.result(of: goal.id)?.stop == .cancelled)
        #expect(world.directory.all.isEmpty)
        await world.end()
    }
}
