import AegisAuditTestSupport
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

@Suite struct RestartTests {
    private typealias Policy = AgentManifest.Restart.Policy

    @Test func whichEndsAreStartedAnew() {
        var restart = AgentManifest.Restart()
        restart.attempts = 1
        func after(_ policy: Policy) -> [TurnStop] {
            restart.policy = policy
            return TurnStop.allCases.filter { restart.pause(after: $0, restarts: 0) != nil }
        }
        #expect(after(.never) == [])
        #expect(after(.onFailure) == [.error])
        #expect(Set(after(.always)) == [.error, .truncated, .maxIterations, .maxTokens])
    }

    @Test func thePauseDoublesUpToThirtyTwoTimes() {
        var restart = AgentManifest.Restart()
        restart.policy = .onFailure
        restart.attempts = 8
        let pauses = (0...8).map { restart.pause(after: .error, restarts: $0)?.components.seconds }
        #expect(pauses == [1, 2, 4, 8, 16, 32, 32, 32, nil])
        restart.attempts = 0
        #expect(restart.pause(after: .error, restarts: 0) == nil)
    }

    private static func with(
        _ desk: any ModelDesk, _ restart: String, _ body: (World, AgentProcess, TestClock) async throws -> Void
    ) async throws {
        let clock = TestClock()
        let world = try World(desk, clock: clock)
        do {
            let agent = try await world.directory.spawn(
                World.file("worker", "lifecycle: persistent\nrestart: \(restart)"), by: .person(uid: 0))
            try await body(world, agent, clock)
        } catch {
            await world.end()
            throw error
        }
        await world.end()
    }

    /// Fails so often, then answers.
    private static func desk(failures: Int) -> ClosureDesk {
        ClosureDesk { question, number throws(AegisError) in
            guard number > failures else { throw .failed("model-unreachable", "no") }
            return ClosureDesk.text("at last: \(question.messages.count) message")
        }
    }

    @Test func aTurnThatFailsIsBegunAnewUntilItSucceeds() async throws {
        try await Self.with(Self.desk(failures: 2), "on-failure") { world, agent, clock in
            async let running = world.directory.run("go", on: agent)
            for pause in [1, 2] {
                await clock.sleepers(1)
                #expect(agent.standing.state == .restarting)
                #expect(clock.deadlines.last == clock.now.offset + .seconds(pause))
                clock.advance(by: .seconds(pause))
            }
            let result = try await running
            // The message was said once, however often it was begun.
            #expect(result.response == "at last: 1 message" && result.stop == .complete && result.iterations == 1)
            #expect(try await world.directory.reply(result.trace, of: agent.id, wait: false) == result)
            #expect(world.trail.kinds.count { $0 == "agent_restarting" } == 2)
            #expect(!world.trail.kinds.contains("agent_gave_up"))
        }
    }

    @Test func soOftenAndNotMore() async throws {
        let desk = Self.desk(failures: 100)
        try await Self.with(desk, "{policy: always, attempts: 2, pause: 5s}") { world, agent, clock in
            async let running = world.directory.run("go", on: agent)
            for _ in 0..<2 {
                await clock.sleepers(1)
                clock.advance(by: .seconds(10))
            }
            let result = try await running
            #expect(result.problem?.code == "model-unreachable")
            #expect(desk.questions == 3)
            #expect(world.trail.kinds.last == "agent_gave_up")
            // The next message begins from nought.
            async let again = world.directory.run("again", on: agent)
            await clock.sleepers(1)
            clock.advance(by: .seconds(10))
            await clock.sleepers(1)
            clock.advance(by: .seconds(10))
            #expect(try await again.stop == .error)
            #expect(desk.questions == 6)
        }
    }

    @Test func nothingIsStartedAnewUnlessTheManifestSaysSo() async throws {
        let desk = Self.desk(failures: 1)
        try await Self.with(desk, "never") { world, agent, _ in
            let result = try await world.directory.run("go", on: agent)
            #expect(result.stop == .error)
            #expect(desk.questions == 1)
        }
    }

    @Test func anAnswerThatWasCutIsGoneOnWith() async throws {
        let desk = ClosureDesk { question, number in
            number == 1
                ? ClosureDesk.text("half", stop: .maxTokens) : ClosureDesk.text(question.messages.last?.text ?? "")
        }
        try await Self.with(desk, "always") { world, agent, clock in
            async let running = world.directory.run("go", on: agent)
            await clock.sleepers(1)
            clock.advance(by: .seconds(1))
            let result = try await running
            #expect(result.response.contains("Go on where it ended"))
            #expect(result.usage.total == 220 && result.iterations == 2)
        }
    }

    /// In the pause: a person cancels, or stops the agent, and messages wait.
    @Test(arguments: [false, true]) func aPauseCanBeCut(_ stops: Bool) async throws {
        let desk = ClosureDesk { question, _ throws(AegisError) in
            guard question.messages.last?.text.hasSuffix("fail") == false else {
                throw .failed("model-unreachable", "no")
            }
            return ClosureDesk.text("fine")
        }
        try await Self.with(desk, "on-failure") { world, agent, clock in
            async let running = world.directory.run("fail", on: agent)
            await clock.sleepers(1)
            let next = try await world.directory.send("next", to: agent.id)
            if stops {
                try await world.directory.stop(agent.id)
            } else {
                await agent.cancel(trace: try #require(agent.trace))
                #expect(try await world.directory.reply(next, of: agent.id, wait: true)?.response == "fine")
            }
            #expect(try await running.stop == .cancelled)
        }
    }

    /// A daemon that is killed in a pause: the next one waits again and goes on.
    @Test func aPauseOutlivesTheDaemon() async throws {
        let clock = TestClock()
        let one = try World(Self.desk(failures: 100), clock: clock)
        let agent = try await one.directory.spawn(
            World.file("worker", "lifecycle: persistent\nrestart: {attempts: 2}"), by: .person(uid: 0))
        let trace = try await one.directory.send("go", to: agent.id)
        await clock.sleepers(1)
        clock.advance(by: .seconds(1))
        await clock.sleepers(1)
        await one.directory.end()
        await one.end()
        let desk = Self.desk(failures: 100)
        let two = try World(desk, database: one.database, clock: clock)
        try await two.directory.recover()
        await clock.sleepers(1)
        // The second time: the steps have kept count.
        #expect(clock.deadlines.last == clock.now.offset + .seconds(2))
        clock.advance(by: .seconds(2))
        let result = try #require(try await two.directory.reply(trace, of: agent.id, wait: true))
        #expect(result.problem?.code == "model-unreachable")
        #expect(desk.questions == 1)
        await two.end()
    }

    /// A step that cannot be saved: nothing happens after it, until it can be.
    @Test func whatCouldNotBeSavedIsTriedAgain() async throws {
        let broken = Mutex(0)
        let probe = CountingTool("probe") { _ in
            let isFirst = broken.withLock { count in
                count += 1
                return count == 1
            }
            return isFirst ? ToolReply("lost", halt: "the disk is full") : ToolReply("done")
        }
        let desk = ClosureDesk { question, _ in
            guard let result = question.messages.last?.toolResults.first else {
                return ClosureDesk.calls(ToolUse(id: "c", name: "probe", input: [:]))
            }
            return ClosureDesk.text(result.text)
        }
        let clock = TestClock()
        let world = try World(desk, tools: [probe], clock: clock)
        let agent = try await world.directory.spawn(
            World.file("worker", "lifecycle: persistent\nrestart: on-failure\ncapabilities: ['tool: probe']"),
            by: .person(uid: 0))
        async let running = world.directory.run("go", on: agent)
        await clock.sleepers(1)
        #expect(agent.standing.state == .restarting)
        clock.advance(by: .seconds(1))
        #expect(try await running.stop == .complete)
        // It was called once: its outcome had been saved before all stood still.
        #expect(probe.calls == 1)
        await world.end()
    }

    /// A turn that was told as failed, for what it did next could not be recorded, does not go on when there is room again: neither with
    /// the next message nor by itself.
    @Test(arguments: [false, true], ["never", "{policy: on-failure, attempts: 1}"])
    func aTurnThatHasFailedForItsClientStaysSo(_ isAsked: Bool, _ restart: String) async throws {
        let probe = CountingTool("probe") { ToolReply($0) }
        let clock = TestClock()
        let desk = ClosureDesk { question, _ in
            guard question.messages.last?.text == "go" else { return ClosureDesk.text("done") }
            return ClosureDesk.calls(ToolUse(id: "c", name: "probe", input: [:]))
        }
        let world = try World(desk, tools: [probe], clock: clock)
        let process = try await world.directory.spawn(
            World.file("worker", "lifecycle: persistent\nrestart: \(restart)\ncapabilities: ['tool: probe']"),
            by: .person(uid: 0))
        world.trail.fill(after: 0)
        async let running = world.directory.run("go", on: process)
        if restart != "never" {
            await clock.sleepers(1)
            clock.advance(by: .seconds(1))
        }
        let first = try await running
        #expect(first.stop == .error && first.problem?.code == "not-recorded")
        #expect(process.standing.state == .idle)
        world.trail.fill(after: 1000)
        if isAsked {
            let second = try await world.directory.run("again", on: process)
            #expect(second.stop == .complete && second.response == "done" && second.iterations == 1)
        } else {
            async let late = world.directory.reply(first.trace, of: process.id, wait: true)
            await clock.sleepers(1)
            clock.advance(by: .seconds(5))
            #expect(try await late?.stop == .error)
        }
        #expect(probe.calls == 0)
        let told = try await world.directory.reply(first.trace, of: process.id, wait: false)
        #expect(told?.stop == .error && told?.problem?.code == "not-recorded")
        #expect(process.restartPause(process.session) == nil)
        await world.end()
    }

    /// Nothing more can be saved while a turn waits to be begun anew: it is told as failed then, and stays so.
    @Test(arguments: ["waited for", "asked again", "daemon ends"])
    func aPauseThatCannotBeEndedIsAFailure(_ how: String) async throws {
        let desk = Self.desk(failures: 1)
        try await Self.with(desk, "{policy: on-failure, attempts: 2}") { world, agent, clock in
            async let running = world.directory.run("go", on: agent)
            await clock.sleepers(1)
            _ = try world.database.transaction(.saved) { tx in
                try tx.run("CREATE TRIGGER full BEFORE INSERT ON agent_steps BEGIN SELECT RAISE(ABORT, 'no room'); END")
            }
            // Its own pause, then one after each step that is not saved, and the pause again before it is tried again.
            while agent.standing.state == .restarting {
                if clock.sleeperCount > 0, agent.standing.state == .restarting { clock.advance(by: .seconds(4)) }
                await Task.yield()
            }
            let first = try await running
            #expect(first.stop == .error && first.problem?.message.contains("no room") == true, "\(first)")
            #expect(agent.standing.state == .idle)
            let trace = first.trace
            _ = try world.database.transaction(.saved) { tx in try tx.run("DROP TRIGGER full") }
            switch how {
            case "waited for":
                async let late = world.directory.reply(trace, of: agent.id, wait: true)
                await clock.sleepers(1)
                clock.advance(by: .seconds(5))
                #expect(try await late?.stop == .error)
            case "asked again":
                let second = try await world.directory.run("again", on: agent)
                #expect(second.stop == .complete && second.trace != trace)
            default: await world.directory.end()
            }
            // It is not begun anew: neither here nor by the next daemon.
            #expect(desk.questions == (how == "asked again" ? 2 : 1))
            let kept = Session(try world.store.steps(of: agent.id).map(\.step))
            #expect(kept.turn == nil && agent.restartPause(kept) == nil)
            #expect(try await world.directory.reply(trace, of: agent.id, wait: false)?.stop == .error)
        }
    }

    private static func database(_ world: World, _ statement: String) throws {
        _ = try world.database.transaction(.saved) { t in try t.run(statement) }
    }
    private static let noSteps =
        "CREATE TRIGGER full BEFORE INSERT ON agent_steps BEGIN SELECT RAISE(ABORT, 'no room'); END"
    private static let noDeletion =
        "CREATE TRIGGER full BEFORE DELETE ON agent_mail BEGIN SELECT RAISE(ABORT, 'no room'); END"

    /// The ledger is full: the turn that needs it fails, and what waits behind it is worked on when there is room again.
    @Test func whatWaitsOutlivesATurnThatCannotBeRecorded() async throws {
        let (isAsked, goesOn) = (Waiter<Bool>(), Waiter<Bool>())
        let probe = CountingTool("probe") { ToolReply($0) }
        let clock = TestClock()
        let desk = ClosureDesk { question, _ in
            guard question.messages.last?.text == "go" else { return ClosureDesk.text("done") }
            isAsked.resolve(true)
            _ = await goesOn.value()
            return ClosureDesk.calls(ToolUse(id: "c", name: "probe", input: [:]))
        }
        let world = try World(desk, tools: [probe], clock: clock)
        let process = try await world.directory.spawn(
            World.file("worker", "lifecycle: persistent\ncapabilities: ['tool: probe']"), by: .person(uid: 0))
        async let running = world.directory.run("go", on: process)
        _ = await isAsked.value()
        var waiting: [String] = []
        for text in ["one", "two"] { waiting.append(try await world.directory.send(text, to: process.id)) }
        world.trail.fill(after: 0)
        goesOn.resolve(true)
        let first = try await running
        #expect(first.stop == .error && first.problem?.code == "not-recorded")
        #expect(process.standing.mail == 2)
        #expect(try world.store.mail(of: process.id).map(\.trace) == waiting)
        world.trail.fill(after: 1000)
        await clock.sleepers(1)
        clock.advance(by: .seconds(5))
        for trace in waiting {
            let reply = try await world.directory.reply(trace, of: process.id, wait: true)
            #expect(reply?.stop == .complete && reply?.response == "done", "\(String(describing: reply))")
        }
        #expect(probe.calls == 0)
        await world.end()
    }

    /// The database is full: a message that was taken and cannot be begun is begun when there is room again.
    @Test func whatCannotBeBegunIsBegunLater() async throws {
        let desk = Self.desk(failures: 0)
        try await Self.with(desk, "never") { world, agent, clock in
            try Self.database(world, Self.noSteps)
            var traces: [String] = []
            for text in ["one", "two"] { traces.append(try await world.directory.send(text, to: agent.id)) }
            await clock.sleepers(1)
            #expect(desk.questions == 0 && agent.standing.mail == 2)
            // Who waits is told, and his message is not begun any more.
            let result = try await world.directory.run("three", on: agent)
            #expect(result.stop == .error && result.problem?.message.contains("no room") == true, "\(result)")
            #expect(desk.questions == 0 && agent.standing.mail == 2)
            // Once more in vain.
            clock.advance(by: .seconds(5))
            await clock.sleepers(1)
            #expect(desk.questions == 0 && agent.standing.mail == 2)
            try Self.database(world, "DROP TRIGGER full")
            clock.advance(by: .seconds(5))
            for trace in traces {
                #expect(try await world.directory.reply(trace, of: agent.id, wait: true)?.stop == .complete)
            }
            #expect(desk.questions == 2)
        }
    }

    /// What was taken back stays so, also where its deletion could not be saved at first.
    @Test(arguments: ["later", "at the end"]) func whatWasTakenBackDoesNotReturn(_ when: String) async throws {
        let isAsked = Waiter<Bool>()
        let clock = TestClock()
        let one = try World(ClosureDesk.silent(isAsked), clock: clock)
        let agent = try await one.directory.spawn(World.file("worker", "lifecycle: persistent"), by: .person(uid: 0))
        let first = try await one.directory.send("go", to: agent.id)
        _ = await isAsked.value()
        let second = try await one.directory.send("second", to: agent.id)
        try Self.database(one, Self.noDeletion)
        #expect(await agent.withdraw(trace: second))
        await clock.sleepers(1)
        if when == "later" {
            // Once more in vain.
            clock.advance(by: .seconds(5))
            await clock.sleepers(1)
        }
        #expect(try one.store.mail(of: agent.id).count == 1)
        try Self.database(one, "DROP TRIGGER full")
        if when == "later" {
            clock.advance(by: .seconds(5))
            while await !agent.leftovers.isEmpty { await Task.yield() }
            #expect(try one.store.mail(of: agent.id).isEmpty)
        }
        await one.directory.end()
        await one.end()
        let said = Mutex<[String]>([])
        let desk = ClosureDesk { question, _ in
            said.withLock { $0 += question.messages.map(\.text) }
            return ClosureDesk.text("done")
        }
        let two = try World(desk, database: one.database, clock: clock)
        try await two.directory.recover()
        #expect(try await two.directory.reply(first, of: agent.id, wait: true)?.stop == .complete)
        #expect(try two.store.mail(of: agent.id).isEmpty && two.directory.find(agent.id).standing.mail == 0)
        #expect(said.withLock { $0 } == ["go"])
        await two.end()
    }
}
