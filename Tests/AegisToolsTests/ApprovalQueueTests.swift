import AegisAudit
import AegisAuditTestSupport
import AegisCapabilities
import AegisCore
import AegisJSON
import AegisStore
import AegisTestSupport
import Synchronization
import Testing

@testable import AegisTools

/// A queue on a real database, with a clock that stands still.
private final class QueueWorld: Sendable {
    let directory: TemporaryDirectory
    let trail = MemoryTrail()
    let clock = TestClock()
    let database: Database
    let queue: ApprovalQueue
    let cli = Approver(uid: 1000, door: "cli")

    init(_ change: (inout ApprovalQueue.Settings) -> Void = { _ in }) throws {
        directory = try TemporaryDirectory()
        database = try Self.open(directory)
        var settings = ApprovalQueue.Settings()
        change(&settings)
        let time = Box()
        queue = ApprovalQueue(database, audit: trail, settings: settings, clock: clock) { time.value }
        self.box = time
    }
    private let box: Box
    final class Box: Sendable {
        private let time = Mutex(Timestamp(milliseconds: 1_000_000))
        var value: Timestamp { time.withLock { $0 } }
        func advance(_ seconds: Int64) { time.withLock { $0.milliseconds += seconds * 1000 } }
    }

    static func open(_ directory: TemporaryDirectory) throws -> Database {
        try Database.open(
            path: directory.path("aegis.db"), applicationID: 0x4145_4749,
            migrations: ApprovalQueue.migrations + ApprovalQueue.parentMigrations)
    }

    /// The daemon as it is after a restart.
    func restarted() -> ApprovalQueue {
        let box = box
        return ApprovalQueue(database, audit: trail, clock: clock) { box.value }
    }

    func pass(_ seconds: Int64) {
        box.advance(seconds)
        clock.advance(by: .seconds(seconds))
    }

    func request(
        _ call: String = "c-1", agent: String = "agent-1", tool: String = "file_write", hash: String = "h",
        text: String = "x", facts: [String: String] = [:], resource: String? = "file_write: /workspace/a"
    ) -> ApprovalRequest {
        ApprovalRequest(
            agent: agent, agentName: "tester", trace: "t", step: 2, callID: call, door: "loop", tool: tool,
            grant: "g-1",
            input: ["path": "/workspace/a"], inputHash: hash,
            preview: ApprovalPreview(text, facts: facts, resource: resource))
    }

    /// Asks, and waits until it stands in the queue.
    func asking(
        _ request: ApprovalRequest, of queue: ApprovalQueue? = nil
    ) async throws -> (Task<ApprovalDecision, any Error>, ApprovalRecord) {
        let queue = queue ?? self.queue
        let before = clock.sleeperCount
        let task = Task { try await queue.ask(request) }
        await clock.sleepers(before + 1)
        let record = try #require(try queue.pending().last { $0.request == request })
        return (task, record)
    }
}

struct ApprovalQueueTests {
    @Test func anAnswerEndsTheWait() async throws {
        let world = try QueueWorld()
        let (task, record) = try await world.asking(world.request())
        #expect(
            record.id.hasPrefix("ap-") && record.expiresAt.milliseconds - record.requestedAt.milliseconds == 600_000)
        let answered = try world.queue.respond(record.id, approve: true, by: world.cli)
        #expect(answered.state == .granted && answered.approver == world.cli)
        #expect(try await task.value == .granted(id: record.id, by: world.cli))
        #expect(try world.queue.pending().isEmpty)
        #expect(world.trail.kinds == ["human_approval_requested", "human_approval_granted"])
        #expect(world.trail.field("uid", ofLast: .approvalGranted) == 1000)
        #expect(world.trail.field("door", ofLast: .approvalGranted) == "cli")
        let again = #expect(throws: AegisError.self) {
            try world.queue.respond(record.id, approve: false, by: world.cli)
        }
        #expect(again?.code == "approval-closed")
        let unknown = #expect(throws: AegisError.self) { try world.queue.respond("ap-x", approve: true, by: world.cli) }
        #expect(unknown?.code == "approval-not-found")
    }

    @Test func aRefusalCarriesItsReason() async throws {
        let world = try QueueWorld()
        let (task, record) = try await world.asking(world.request())
        try world.queue.respond(record.id, approve: false, reason: "not now", by: world.cli)
        #expect(try await task.value == .denied(id: record.id, by: world.cli, reason: "not now"))
        #expect(world.trail.events.last?.kind.isDenial == true)
        #expect(try world.queue.record(record.id)?.reason == "not now")
    }

    @Test func nobodyAnswersMeansNo() async throws {
        let world = try QueueWorld()
        let (task, record) = try await world.asking(world.request())
        world.pass(600)
        #expect(try await task.value == .expired(id: record.id))
        #expect(world.trail.kinds.last == "human_approval_expired")
        let late = #expect(throws: AegisError.self) { try world.queue.respond(record.id, approve: true, by: world.cli) }
        #expect(late?.code == "approval-closed")
    }

    @Test func whoIsLateIsTooLateAlsoWhenNobodyWaits() async throws {
        let world = try QueueWorld()
        guard case .waiting(let record) = try world.queue.open(world.request(), id: "ap-1") else {
            Issue.record("it is answered")
            return
        }
        world.pass(601)
        let late = #expect(throws: AegisError.self) { try world.queue.respond("ap-1", approve: true, by: world.cli) }
        #expect(late?.code == "approval-closed")
        #expect(try world.queue.record(record.id)?.state == .expired)
        #expect(try world.queue.pending().isEmpty)
    }

    @Test func aCancelledCallIsWithdrawn() async throws {
        let world = try QueueWorld()
        let (task, record) = try await world.asking(world.request())
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(try world.queue.record(record.id)?.state == .withdrawn)
    }

    @Test func whoWasCancelledBeforeLeavesNothingBehind() async throws {
        let world = try QueueWorld()
        let request = world.request()
        let queue = world.queue
        let task = Task {
            unsafe withUnsafeCurrentTask { unsafe $0?.cancel() }
            return try await queue.ask(request)
        }
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(try queue.pending().isEmpty)
    }

    @Test func stoppingAnAgentWithdrawsAndForgets() async throws {
        let world = try QueueWorld()
        let (task, record) = try await world.asking(world.request())
        let (other, _) = try await world.asking(world.request("c-2", agent: "agent-2"))
        try world.queue.stop(agent: "agent-1")
        #expect(try await task.value == .withdrawn(id: record.id))
        #expect(try world.queue.pending().map(\.request.agent) == ["agent-2"])
        other.cancel()
        _ = await other.result
    }

    @Test func theQueueOfAnAgentIsBounded() async throws {
        let world = try QueueWorld { $0.mostPerAgent = 2 }
        let (first, record) = try await world.asking(world.request("c-1"))
        let (second, _) = try await world.asking(world.request("c-2"))
        let error = await #expect(throws: AegisError.self) { try await world.queue.ask(world.request("c-3")) }
        #expect(error?.code == "too-many-approvals")
        let (other, _) = try await world.asking(world.request("c-1", agent: "agent-2"))
        try world.queue.respond(record.id, approve: true, by: world.cli)
        _ = try await first.value
        let (third, _) = try await world.asking(world.request("c-3"))
        for task in [second, other, third] {
            task.cancel()
            _ = await task.result
        }
    }

    // MARK: Restart

    @Test func anOpenRequestSurvivesARestart() async throws {
        let world = try QueueWorld()
        guard case .waiting = try world.queue.open(world.request(), id: "ap-1") else { return }
        world.pass(100)
        let queue = world.restarted()
        #expect(try queue.pending().map(\.id) == ["ap-1"])
        let (task, record) = try await world.asking(world.request(), of: queue)
        // The same request goes on; its time does not begin anew.
        #expect(record.id == "ap-1")
        #expect(world.clock.deadlines == [.seconds(600)])
        try queue.respond("ap-1", approve: true, by: world.cli)
        #expect(try await task.value == .granted(id: "ap-1", by: world.cli))
    }

    /// The time goes on while there is no daemon, and being over is an answer as well: once, and to that call only.
    @Test(arguments: [false, true])
    func whatNobodyAnsweredMeanwhileIsRefused(_ isListed: Bool) async throws {
        let world = try QueueWorld()
        _ = try world.queue.open(world.request(), id: "ap-1")
        world.pass(601)
        let queue = world.restarted()
        // Whoever looks first closes it.
        if isListed { #expect(try queue.pending().isEmpty) }
        guard case .answered(.expired("ap-1")) = try queue.open(world.request(), id: "ap-2") else {
            Issue.record("it is asked again")
            return
        }
        #expect(world.trail.kinds == ["human_approval_requested", "human_approval_expired"])
        let (task, record) = try await world.asking(world.request(), of: queue)
        #expect(record.id != "ap-1")
        task.cancel()
        _ = await task.result
    }

    @Test(arguments: ["facts", "turn", "taken"])
    func aTimeThatWasOverForSomethingElseIsNoAnswer(_ what: String) async throws {
        let world = try QueueWorld()
        if what == "taken" {
            let (task, _) = try await world.asking(world.request(facts: ["f": "1"]))
            world.pass(600)
            _ = try await task.value
        } else {
            _ = try world.queue.open(world.request(facts: ["f": "1"]), id: "ap-1")
            world.pass(601)
        }
        var request = world.request(facts: ["f": what == "facts" ? "2" : "1"])
        if what == "turn" { request.trace = "another" }
        let (task, record) = try await world.asking(request)
        #expect(record.state == .open && record.expiresAt > record.requestedAt)
        task.cancel()
        _ = await task.result
    }

    @Test func anAnswerThatNobodyTookIsTakenOnce() async throws {
        let world = try QueueWorld()
        _ = try world.queue.open(world.request(), id: "ap-1")
        try world.queue.respond("ap-1", approve: true, by: world.cli)
        let queue = world.restarted()
        #expect(try await queue.ask(world.request()) == .granted(id: "ap-1", by: world.cli))
        let (task, record) = try await world.asking(world.request(), of: queue)
        #expect(record.id != "ap-1")
        task.cancel()
        _ = await task.result
    }

    @Test(arguments: ["facts", "hash", "tool", "late"])
    func anAnswerToSomethingElseIsNone(_ what: String) async throws {
        let world = try QueueWorld()
        _ = try world.queue.open(world.request(facts: ["f": "1"]), id: "ap-1")
        try world.queue.respond("ap-1", approve: true, by: world.cli)
        if what == "late" { world.pass(600) }
        let request = world.request(
            tool: what == "tool" ? "exec" : "file_write", hash: what == "hash" ? "i" : "h",
            facts: ["f": what == "facts" ? "2" : "1"])
        let (task, record) = try await world.asking(request)
        #expect(record.id != "ap-1")
        task.cancel()
        _ = await task.result
    }

    @Test func aRequestThatChangedIsWithdrawn() async throws {
        let world = try QueueWorld()
        _ = try world.queue.open(world.request(facts: ["f": "1"]), id: "ap-1")
        let (task, record) = try await world.asking(world.request(facts: ["f": "2"]))
        #expect(try world.queue.record("ap-1")?.state == .withdrawn)
        #expect(try world.queue.pending().map(\.id) == [record.id])
        task.cancel()
        _ = await task.result
    }

    // MARK: For the session

    @Test func aSessionRemembersExactlyToolAndResource() async throws {
        let world = try QueueWorld()
        let (task, record) = try await world.asking(world.request())
        try world.queue.respond(record.id, approve: true, forSession: true, by: world.cli)
        _ = try await task.value
        let queue = world.restarted()
        let known = try await queue.ask(world.request("c-2", hash: "another"))
        guard case .granted(_, let approver) = known else {
            Issue.record("it was asked about")
            return
        }
        #expect(approver == Approver(uid: 1000, door: "session"))
        #expect(world.trail.field("door", ofLast: .approvalGranted) == "session")
        for other in [
            world.request("c-3", resource: "file_write: /workspace/b"), world.request("c-3", tool: "file_edit"),
            world.request("c-3", agent: "agent-2"), world.request("c-3", resource: nil),
        ] {
            let (task, _) = try await world.asking(other, of: queue)
            task.cancel()
            _ = await task.result
        }
        try queue.stop(agent: "agent-1")
        let (again, _) = try await world.asking(world.request("c-4"), of: queue)
        again.cancel()
        _ = await again.result
    }

    @Test func whatNamesNoResourceIsNotRemembered() async throws {
        let world = try QueueWorld()
        let (task, record) = try await world.asking(world.request(resource: nil))
        let error = #expect(throws: AegisError.self) {
            try world.queue.respond(record.id, approve: true, forSession: true, by: world.cli)
        }
        #expect(error?.code == "approval-not-rememberable")
        #expect(try world.queue.record(record.id)?.state == .open)
        task.cancel()
        _ = await task.result
    }

    // MARK: Records and words

    @Test func whatCannotBeRecordedIsNotAnswered() async throws {
        let world = try QueueWorld()
        let (task, record) = try await world.asking(world.request())
        world.trail.fill(after: 0)
        #expect(throws: AegisError.self) { try world.queue.respond(record.id, approve: true, by: world.cli) }
        #expect(try world.queue.record(record.id)?.state == .open)
        await #expect(throws: AegisError.self) { try await world.queue.ask(world.request("c-2")) }
        world.trail.fill(after: 10)
        task.cancel()
        _ = await task.result
    }

    @Test func nothingDisguisesWhatIsShown() throws {
        var request = QueueWorldRequest.make(text: "rm -rf \u{202e}txt.\u{1b}[31m\u{200b}\nsecond\r")
        request.input = ["a\u{7}": "\u{2066}b"]
        let record = ApprovalRecord(
            id: "ap-1", request: request, state: .open, requestedAt: Timestamp(milliseconds: 0),
            expiresAt: Timestamp(milliseconds: 1), answeredAt: nil, approver: nil, reason: nil)
        #expect(record.json["preview"]?.text == #"rm -rf \u{202e}txt.\u{1b}[31m\u{200b}"# + "\nsecond\\u{d}")
        #expect(record.json["input"] == [#"a\u{7}"#: #"\u{2066}b"#])
    }

    private enum QueueWorldRequest {
        static func make(text: String) -> ApprovalRequest {
            ApprovalRequest(
                agent: "a", agentName: "n", trace: "t", step: 1, callID: "c", door: "loop", tool: "exec", grant: "g",
                input: [:], inputHash: "h", preview: ApprovalPreview(text))
        }
    }

    @Test func theGateWaitsInTheQueue() async throws {
        let world = try QueueWorld()
        let tool = ClosureTool(asksApproval: true)
        var agent = try World([tool], grants: ["tool: probe"])
        agent.context.desk = world.queue
        let task = Task { [agent] in await agent.call("probe", ["x": 1]) }
        await world.clock.sleepers(1)
        #expect(tool.calls == 0)
        let record = try #require(try world.queue.pending().first)
        #expect(record.request.preview.text == "{\n  \"x\": 1\n}")
        try world.queue.respond(record.id, approve: true, by: world.cli)
        #expect(await task.value == ToolReply(["x": 1]))
    }
}
