import AegisCapabilities
import AegisCore
import AegisInference
import AegisJSON
import AegisTestSupport
import AegisTools
import Synchronization
import Testing

@testable import AegisAgents

/// Models are asked as far as a grant allows it.
@Suite struct ModelGateTests {
    private static func with(
        _ desk: ClosureDesk, _ manifest: String, _ body: (World, AgentProcess) async throws -> Void
    ) async throws {
        let world = try World(desk)
        do {
            let process = try await world.directory.spawn(World.file("worker", manifest), by: .person(uid: 0))
            try await body(world, process)
        } catch {
            await world.end()
            throw error
        }
        await world.end()
    }

    /// Each question takes 100 tokens, each answer 10.
    @Test func aGrantOfTokensCutsTheAnswerAndThenEndsTheTurn() async throws {
        let lengths = Mutex<[Int]>([])
        let desk = ClosureDesk { question, _ in
            lengths.withLock { $0.append(question.maxOutputTokens) }
            return ClosureDesk.text("yes")
        }
        let manifest = "max_output_tokens: 1000\ncapabilities: [{grant: 'model: m', max_tokens: 250}]"
        try await Self.with(desk, manifest) { (world: World, process: AgentProcess) async throws in
            for _ in 0..<2 { #expect(try await world.directory.run("go", on: process).stop == .complete) }
            let third = try await world.directory.run("go", on: process)
            #expect(third.stop == .budgetExceeded)
            #expect(third.problem?.code == "limit-tokens-used-up")
            #expect(lengths.withLock { $0 } == [150, 40])
        }
    }

    @Test func aGrantOfMoneyCountsWhatAnswersCost() async throws {
        let lengths = Mutex<[Int]>([])
        // A dollar for a million tokens either way: 100 for the question, 10 for the answer.
        let desk = ClosureDesk(prices: [ModelPrice(input: 1_000_000, output: 1_000_000)]) { question, _ in
            lengths.withLock { $0.append(question.maxOutputTokens) }
            return ClosureDesk.text("yes")
        }
        let manifest = "max_output_tokens: 1000\ncapabilities: [{grant: 'model: m', max_usd: 0.000220}]"
        try await Self.with(desk, manifest) { (world: World, process: AgentProcess) async throws in
            for _ in 0..<2 { #expect(try await world.directory.run("go", on: process).stop == .complete) }
            #expect(try await world.directory.run("go", on: process).problem?.code == "limit-money-used-up")
            #expect(lengths.withLock { $0 } == [120, 10])
        }
    }

    @Test func whatHasNoPriceIsNotAskedWhereMoneyIsLimited() async throws {
        let desk = ClosureDesk { _, _ in ClosureDesk.text("yes") }
        try await Self.with(desk, "capabilities: [{grant: 'model: m', max_usd: 1}]") {
            (world: World, process: AgentProcess) async throws in
            let result = try await world.directory.run("go", on: process)
            #expect(result.problem?.code == "grant-needs-price")
            #expect(desk.questions == 0)
        }
    }

    /// Tokens and money on a tool are those of the children that it spawns; each takes 110.
    @Test(arguments: [("max_tokens: 200", "limit-tokens-used-up"), ("max_usd: 0.000200", "limit-money-used-up")])
    func aLimitOfAToolCountsItsChildren(_ limit: String, _ code: String) async throws {
        let results = Mutex<[String]>([])
        let desk = ClosureDesk(prices: [ModelPrice(input: 1_000_000, output: 1_000_000)]) { question, _ in
            guard question.name == "worker" else { return ClosureDesk.text("done") }
            let said = question.messages.last?.toolResults.first?.text
            if let said { results.withLock { $0.append(said) } }
            return results.withLock { $0.count } < 3
                ? ClosureDesk.calls(
                    ToolUse(
                        id: "c\(question.messages.count)", name: "spawn_agent",
                        input: ["manifest": "name: helper\nmodel: m\n", "message": "go"]))
                : ClosureDesk.text("over")
        }
        let manifest = "capabilities: [{grant: 'tool: spawn_agent', \(limit)}, 'spawn: [helper]']"
        try await Self.with(desk, manifest) { (world: World, process: AgentProcess) async throws in
            #expect(try await world.directory.run("go", on: process).stop == .complete)
            let said = results.withLock { $0 }
            #expect(said.count == 3 && said.prefix(2).allSatisfy { $0.contains(#""response":"done""#) }, "\(said)")
            #expect(said.last?.contains(code) == true, "\(said)")
            let used = world.grants.records(of: process.holder).first {
                "\($0.terms.capability)" == "tool: spawn_agent"
            }?
            .used
            #expect(used?.tokens == 220 && used?.microUSD == 220, "\(String(describing: used))")
        }
    }

    /// A question that a child still asks when it is ended counts against the limit of the tool by which it was started.
    @Test func whatACancelledChildWasStillUsingCounts() async throws {
        let asked = Waiter<Bool>()
        let place = Mutex<World?>(nil)
        defer { place.withLock { $0 = nil } }
        let desk = ClosureDesk { question, _ in
            guard question.name == "helper" else {
                return ClosureDesk.calls(
                    ToolUse(
                        id: "c", name: "spawn_agent", input: ["manifest": "name: helper\nmodel: m\n", "message": "go"]))
            }
            asked.resolve(true)
            await untilCancelled()
            // The answer is there after its end has begun.
            let helper = try? place.withLock { $0 }?.directory.find(question.agent)
            while let helper, !helper.isLeaving { await Task.yield() }
            return ClosureDesk.text("late")
        }
        let manifest = "capabilities: [{grant: 'tool: spawn_agent', max_tokens: 1000}, 'spawn: [helper]']"
        try await Self.with(desk, manifest) { (world: World, process: AgentProcess) async throws in
            place.withLock { $0 = world }
            let trace = try await world.directory.send("go", to: process.id)
            _ = await asked.value()
            await process.cancel(trace: trace)
            #expect(try await world.directory.reply(trace, of: process.id, wait: true)?.stop == .cancelled)
            let used = world.grants.records(of: process.holder).first {
                "\($0.terms.capability)" == "tool: spawn_agent"
            }
            #expect(used?.used.tokens == 110, "\(String(describing: used))")
        }
    }

    @Test func aRevokedModelIsNotAsked() async throws {
        let desk = ClosureDesk { _, _ in ClosureDesk.text("yes") }
        try await Self.with(desk, "") { (world: World, process: AgentProcess) async throws in
            _ = try world.grants.revoke(process.holder, capability: .model("m"), reason: "enough")
            let result = try await world.directory.run("go", on: process)
            #expect(result.stop == .error)
            #expect(result.problem?.code == "grant-revoked")
            #expect(desk.questions == 0)
        }
    }

    /// What failed before a provider has worked on it costs nothing.
    @Test func aFailedCallGivesBackWhatItReserved() async throws {
        let desk = ClosureDesk { _, number throws(AegisError) in
            guard number > 1 else { throw AegisError(.unavailable, "model-overloaded", "later") }
            return ClosureDesk.text("yes")
        }
        try await Self.with(desk, "capabilities: [{grant: 'model: m', max_tokens: 150}]") {
            (world: World, process: AgentProcess) async throws in
            #expect(try await world.directory.run("go", on: process).problem?.code == "model-overloaded")
            #expect(try await world.directory.run("go", on: process).stop == .complete)
        }
    }
}
