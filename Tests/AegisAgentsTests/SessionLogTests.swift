import AegisCore
import AegisInference
import AegisJSON
import AegisStore
import AegisTestSupport
import AegisTools
import Synchronization
import Testing

@testable import AegisAgents

/// What is saved when: a step that nothing has come of yet waits for the next one, and for nobody.
@Suite struct SessionLogTests {
    private static let answer = SessionStep.replied(
        [.toolUse(ToolUse(id: "c", name: "probe", input: [:]))], .toolUse, TokenUsage())

    private func log(in world: World) throws -> SessionLog {
        let log = SessionLog(agent: "a-1", session: Session(), store: world.store) { Timestamp(milliseconds: 5) }
        try log.record(.began(trace: "t", text: "go", from: nil))
        return log
    }

    @Test func aStagedStepIsSavedWithTheNext() async throws {
        let world = try World(ClosureDesk.silent())
        let log = try log(in: world)
        let reader = Task { await log.wait(after: 1) }
        while log.waiting == 0 { await Task.yield() }
        log.stage(Self.answer)
        #expect(log.current.count == 2 && log.saved == 1 && log.waiting == 1)
        #expect(try world.store.steps(of: "a-1").count == 1)
        try log.record(.intent(call: "c"))
        #expect(await reader.value)
        #expect(log.saved == 3)
        let steps = try world.store.steps(of: "a-1")
        #expect(steps.map(\.step).dropFirst() == [Self.answer, .intent(call: "c")])
        #expect(steps.map(\.seq) == [0, 1, 2] && steps.allSatisfy { $0.trace == "t" })
        await world.end()
    }

    /// What keeps failing is told once a minute, with how often.
    @Test func whatCannotBeSavedIsToldOnceAMinute() async throws {
        let world = try World(ClosureDesk.silent())
        let time = Mutex<Int64>(1000)
        let told = Mutex<[String]>([])
        let log = SessionLog(
            agent: "a-1", session: Session(), store: world.store,
            now: { Timestamp(milliseconds: time.withLock { $0 }) },
            failed: { error, trace, times in told.withLock { $0.append("\(trace ?? "-") \(times) \(error.message)") } })
        try log.record(.began(trace: "t", text: "go", from: nil))
        _ = try world.database.transaction(.saved) { tx in
            try tx.run("CREATE TRIGGER full BEFORE INSERT ON agent_steps BEGIN SELECT RAISE(ABORT, 'no room'); END")
        }
        for step in 0..<5 {
            #expect(throws: AegisError.self) { try log.record(.note("x")) }
            if step == 3 { time.withLock { $0 += 60_000 } }
        }
        log.stage(Self.answer)
        #expect(throws: AegisError.self) { try log.flush() }
        let all = told.withLock { $0 }
        #expect(all.count == 2 && all[0].hasPrefix("t 1 ") && all[1].hasPrefix("t 4 "), "\(all)")
        #expect(all.allSatisfy { $0.contains("no room") })
        await world.end()
    }

    @Test func aStagedStepIsSavedAlone() async throws {
        let world = try World(ClosureDesk.silent())
        let log = try log(in: world)
        log.stage(Self.answer)
        try log.flush()
        try log.flush()
        #expect(try world.store.steps(of: "a-1").map(\.step).last == Self.answer)
        #expect(log.saved == 2)
        await world.end()
    }

    /// A message that comes next is a transaction of more than steps.
    @Test func aStagedStepIsSavedWithAMessage() async throws {
        let world = try World(ClosureDesk.silent())
        let log = try log(in: world)
        try world.store.keep(Mail(trace: "u", text: "more", from: nil), of: "a-1", at: Timestamp(milliseconds: 1))
        log.stage(Self.answer)
        try log.record(.began(trace: "u", text: "more", from: nil))
        #expect(try world.store.steps(of: "a-1").map(\.trace) == ["t", "t", "u"])
        #expect(try world.store.mail(of: "a-1").isEmpty)
        await world.end()
    }

    @Test func whatCannotBeSavedStaysStaged() async throws {
        let world = try World(ClosureDesk.silent())
        let log = try log(in: world)
        log.stage(Self.answer)
        world.database.close()
        #expect(throws: AegisError.self) { try log.flush() }
        #expect(throws: AegisError.self) { try log.record(.intent(call: "c")) }
        #expect(log.saved == 1 && log.current.turn?.intents.isEmpty == true)
        await world.end()
    }

    /// Whatever the effect of a call finds in the store when it begins: the answer that asked for it, and the intent.
    @Test func bothAreThereBeforeTheEffect() async throws {
        let found = Mutex<[SessionStep]>([])
        let store = Mutex<SessionStore?>(nil)
        let probe = CountingTool("probe") { input in
            let steps = try store.withLock { try $0?.steps(of: Self.only($0)) } ?? []
            found.withLock { $0 = steps.map(\.step) }
            return ToolReply(input)
        }
        let desk = ClosureDesk { _, number in
            number > 1 ? ClosureDesk.text("done") : ClosureDesk.calls(ToolUse(id: "c", name: "probe", input: [:]))
        }
        let world = try World(desk, tools: [probe])
        store.withLock { $0 = world.store }
        let process = try await world.directory.spawn(
            World.file("worker", "capabilities: ['tool: probe']"), by: .person(uid: 0))
        _ = try await world.directory.run("go", on: process)
        let steps = found.withLock { $0 }
        #expect(steps.count == 3 && steps.last == .intent(call: "c"))
        await world.end()
    }

    private static func only(_ store: SessionStore?) throws -> String {
        try store?.records(retired: false).first?.id ?? ""
    }

    /// A person may take days: what the model said is saved before they are asked.
    @Test func anAnswerIsSavedBeforeAPersonIsAsked() async throws {
        let probe = CountingTool("probe") { ToolReply($0) }
        let desk = ClosureDesk { _, number in
            number > 1 ? ClosureDesk.text("done") : ClosureDesk.calls(ToolUse(id: "c", name: "probe", input: [:]))
        }
        let approvals = LookingDesk()
        let world = try World(desk, tools: [probe], desk: approvals)
        let process = try await world.directory.spawn(
            World.file("worker", "capabilities: ['tool: probe']\napproval_required: [probe]"), by: .person(uid: 0))
        approvals.log.withLock { $0 = process.log }
        _ = try await world.directory.run("go", on: process)
        #expect(approvals.found.withLock { $0 } == [0])
        #expect(probe.calls == 0)
        await world.end()
    }

    /// Refuses, and notes how many steps are not saved when it is asked.
    private final class LookingDesk: ApprovalDesk {
        let log = Mutex<SessionLog?>(nil)
        let found = Mutex<[Int]>([])
        func ask(_ request: ApprovalRequest) async throws -> ApprovalDecision {
            let open = log.withLock { $0.map { $0.current.count - $0.saved } } ?? -1
            found.withLock { $0.append(open) }
            return .expired(id: "x")
        }
    }
}
