import AegisAuditTestSupport
import AegisCapabilities
import AegisCore
import AegisJSON
import Synchronization
import Testing

@testable import AegisTools

struct ToolGateApprovalTests {
    private let agreed = ApprovalDecision.granted(id: "a", by: Approver(uid: 0, door: "cli"))

    @Test func nothingNeedsAgreementThatDoesNotAsk() async throws {
        var world = try World([ClosureTool()], grants: ["tool: probe"])
        let desk = ScriptedDesk.agreeing()
        world.context.desk = desk
        _ = await world.call("probe")
        #expect(desk.requests.isEmpty)
        world.context.approvals.required = ["probe"]
        _ = await world.call("probe", ["x": 1])
        #expect(desk.requests.count == 1)
        let request = desk.requests[0]
        #expect(request.tool == "probe" && request.agent == "agent-1" && request.input == ["x": 1])
        #expect(request.grant == "\(world.book.records(of: world.holder)[0].id)")
        #expect(request.inputHash == world.trail.field("input_hash", ofLast: .toolInvoked)?.text)
    }

    @Test func policyDecides() {
        let asking = ClosureTool("a", asksApproval: true).declaration
        let silent = ClosureTool("b").declaration
        #expect(ApprovalPolicy().asks(asking) && !ApprovalPolicy().asks(silent))
        #expect(!ApprovalPolicy(waived: ["a"]).asks(asking))
        #expect(ApprovalPolicy(required: ["a"], waived: ["a"]).asks(asking))
        #expect(ApprovalPolicy(required: ["*"]).asks(silent))
    }

    @Test func whereNobodyCanBeAskedNothingHappens() async throws {
        let tool = ClosureTool(asksApproval: true)
        let world = try World([tool], grants: ["tool: probe"])
        #expect(await world.call("probe").code == "approval-impossible")
        #expect(tool.calls == 0 && world.trail.kinds == ["tool_refused"])
    }

    @Test func nobodyIsAskedForWhatIsRefusedAnyway() async throws {
        let schema: JSONValue = ["type": "object", "additionalProperties": false]
        let preview = ClosureTool(
            "preview", asksApproval: true, resources: [.fileWrite],
            preview: { _ in throw Denial(.notCovered, message: "not there") }
        ) { _, _ in ToolReply("run") }
        var world = try World(
            [ClosureTool(input: schema, asksApproval: true), ClosureTool("locked", asksApproval: true), preview],
            grants: ["tool: probe", "tool: preview"])
        let desk = ScriptedDesk.agreeing()
        world.context.desk = desk
        #expect(await world.call("probe", ["x": 1]).code == "arguments-invalid")
        #expect(await world.call("locked").code == "capability-denied")
        #expect(await world.call("preview").code == "capability-denied")
        #expect(desk.requests.isEmpty)
    }

    @Test(arguments: [
        (ApprovalDecision.denied(id: "a", by: Approver(uid: 0, door: "cli"), reason: "no\u{202e}"), "approval-denied"),
        (.expired(id: "a"), "approval-expired"), (.withdrawn(id: "a"), "approval-withdrawn"),
    ])
    func refusalsAreReplies(_ decision: ApprovalDecision, _ code: String) async throws {
        let tool = ClosureTool(asksApproval: true)
        var world = try World([tool], grants: ["tool: probe"])
        world.context.desk = ScriptedDesk { _, _ in decision }
        let reply = await world.call("probe")
        #expect(reply.code == code && tool.calls == 0)
        if code == "approval-denied" {
            #expect(reply.value["error"]?["message"] == #"a person refused 'probe': no\u{202e}"#)
        }
    }

    @Test func aChangeAfterTheApprovalIsAskedAboutAgain() async throws {
        let version = Mutex("1")
        let tool = ClosureTool(
            asksApproval: true, preview: { _ in ApprovalPreview("x", facts: ["file": version.withLock { $0 }]) }
        ) { _, context in
            try context.confirm("file", is: version.withLock { $0 })
            return ToolReply("done")
        }
        var world = try World([tool], grants: ["tool: probe"])
        let agreed = agreed
        let desk = ScriptedDesk { _, count in
            if count == 1 { version.withLock { $0 = "2" } }
            return agreed
        }
        world.context.desk = desk
        #expect(await world.call("probe").text == "done")
        #expect(desk.requests.map { $0.preview.facts["file"] } == ["1", "2"])
        // One intent, one outcome, whatever was asked in between.
        #expect(world.trail.kinds == ["tool_invoked", "tool_result"])
    }

    @Test func whatNeverStandsStillIsRefused() async throws {
        let version = Mutex(0)
        let tool = ClosureTool(
            asksApproval: true, preview: { _ in ApprovalPreview("x", facts: ["file": "\(version.withLock { $0 })"]) }
        ) { _, context in
            try context.confirm("file", is: "\(version.withLock { $0 })")
            return ToolReply("done")
        }
        var world = try World([tool], grants: ["tool: probe"])
        let agreed = agreed
        let desk = ScriptedDesk { _, _ in
            version.withLock { $0 += 1 }
            return agreed
        }
        world.context.desk = desk
        #expect(await world.call("probe").code == "approval-stale")
        #expect(desk.requests.count == ToolGate.mostApprovals)
        #expect(world.trail.kinds == ["tool_invoked", "tool_refused", "tool_result"])
    }

    @Test func anApprovalIsNotForTheCallsOfATool() async throws {
        let inner = ClosureTool("inner") { _, context in ToolReply(.bool(context.approved == nil)) }
        let registry = try ToolRegistry([inner])
        let outer = ClosureTool("outer", asksApproval: true) { _, context in
            await ToolGate(registry).call("inner", input: [:], context)
        }
        let stale = ClosureTool("stale") { _, _ in throw ApprovalStale(fact: "x") }
        var world = try World([outer, stale], grants: ["tool: *"])
        world.context.desk = ScriptedDesk.agreeing()
        #expect(await world.call("outer").value == true)
        // Nobody was asked, so asking again is no way out.
        #expect(await world.call("stale").code == "approval-stale")
    }

    @Test func revokedWhileAPersonThinksIsRevoked() async throws {
        let tool = ClosureTool(asksApproval: true)
        var world = try World([tool], grants: ["tool: probe"])
        let (book, id, agreed) = (world.book, world.book.records(of: world.holder)[0].id, agreed)
        world.context.desk = ScriptedDesk { _, _ in
            _ = try book.revoke(id, reason: "test")
            return agreed
        }
        #expect(await world.call("probe").code == "grant-revoked")
        #expect(tool.calls == 0)
    }
}
