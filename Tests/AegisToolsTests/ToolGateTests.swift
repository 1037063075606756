import AegisAudit
import AegisAuditTestSupport
import AegisCapabilities
import AegisCore
import AegisIO
import AegisJSON
import AegisTestSupport
import Testing

@testable import AegisTools

struct ToolGateTests {
    @Test func aCallIsRecordedBeforeAndAfter() async throws {
        let tool = ClosureTool()
        let world = try World([tool], grants: ["tool: probe"])
        let reply = await world.call("probe", ["a": 1])
        #expect(reply == ToolReply(["a": 1]))
        #expect(world.trail.kinds == ["tool_invoked", "tool_result"])
        let grant = world.book.records(of: world.holder)[0].id
        #expect(world.trail.field("grant", ofLast: .toolInvoked) == .string("\(grant)"))
        #expect(world.trail.field("call_id", ofLast: .toolInvoked) == "c-1")
        #expect(world.trail.field("input_preview", ofLast: .toolInvoked) == #"{"a":1}"#)
        #expect(world.trail.field("success", ofLast: .toolResult) == true)
        #expect(world.trail.events.allSatisfy { $0.agent == "agent-1" && $0.trace == "t-1" && $0.step == 1 })
    }

    @Test func theHashOfTheInputDoesNotDependOnItsSpelling() async throws {
        let world = try World([ClosureTool()], grants: ["tool: probe"])
        _ = await world.call("probe", try JSONValue(json: #"{"b":1,"a":2}"#))
        let first = world.trail.field("input_hash", ofLast: .toolInvoked)
        _ = await world.call("probe", try JSONValue(json: #"{ "a" : 2, "b" : 1 }"#))
        #expect(world.trail.field("input_hash", ofLast: .toolInvoked) == first)
        #expect(first?.text?.utf8.count == 64)
    }

    @Test func anUnknownToolIsAuditedAndTheNearestNamed() async throws {
        let world = try World([ClosureTool("file_read"), ClosureTool("secret")], grants: ["tool: file_read"])
        let reply = await world.call("file_raed")
        #expect(reply.code == "tool-unknown")
        #expect(reply.value["error"]?["hint"] == "did you mean 'file_read'?")
        // What is not granted is not told of.
        #expect(reply.value["error"]?["tools"] == ["file_read"])
        #expect(world.trail.kinds == ["tool_refused"])
        #expect(world.trail.events[0].kind.isDenial)
        let odd = await world.call("a\u{1b}[2J\u{202e}b")
        #expect(odd.value["error"]?["message"] == #"there is no tool 'a\u{1b}[2J\u{202e}b'"#)
    }

    @Test func aToolThatIsNotGrantedIsNotRun() async throws {
        let tool = ClosureTool()
        let world = try World([tool, ClosureTool("other")], grants: ["tool: other", "file_read: /x"])
        let reply = await world.call("probe")
        #expect(reply.isError && reply.code == "capability-denied")
        #expect(reply.value["error"]?["granted"] == ["tool: other"])
        #expect(tool.calls == 0)
        #expect(world.trail.kinds == ["tool_refused"])
    }

    @Test func argumentsAreCheckedBeforeTheCapabilityAndCountNothing() async throws {
        let schema = try JSONValue(
            json:
                #"{"type":"object","properties":{"path":{"type":"string"}},"required":["path"],"additionalProperties":false}"#
        )
        let tool = ClosureTool(input: schema)
        let world = try World([tool], grants: [#"{grant: "tool: probe", max_calls: 1}"#])
        let reply = await world.call("probe", ["pth": "x"])
        #expect(reply.code == "arguments-invalid")
        #expect(
            reply.value["error"]?["problems"]
                == [
                    ["at": "", "problem": "the field 'path' is missing"],
                    ["at": "", "problem": "there is no field 'pth', did you mean 'path'?"],
                ])
        #expect(await world.call("probe", ["path": "x"]).isError == false)
        // The one call is used up now.
        #expect(await world.call("probe", ["path": "x"]).code == "limit-calls-used-up")
        #expect(tool.calls == 1)
    }

    @Test func brokenArgumentsAreNeverEmptyArguments() async throws {
        let tool = ClosureTool()
        let world = try World([tool], grants: ["tool: probe"])
        let reply = world.gate.refuseMalformed("probe", text: "{\"a\": ", why: "the text ends early", world.context)
        #expect(reply.code == "arguments-malformed")
        #expect(tool.calls == 0 && world.trail.kinds == ["tool_refused"])
        #expect(world.gate.refuseMalformed("prob", text: "{", why: "x", world.context).code == "tool-unknown")
    }

    @Test func errorsOfToolsAreReplies() async throws {
        let failing = ClosureTool("failing") { _, _ in throw AegisError.notFound("path-not-found", "no", hint: "look") }
        let odd = ClosureTool("odd") { _, _ in throw Strange() }
        let world = try World([failing, odd], grants: ["tool: *"])
        let reply = await world.call("failing")
        #expect(
            reply.value == ["error": ["code": "path-not-found", "message": "no", "hint": "look"]] && reply.isError)
        #expect(world.trail.field("code", ofLast: .toolResult) == "path-not-found")
        #expect(await world.call("odd").code == "tool-failed")
    }
    private struct Strange: Error {}

    @Test func aResourceDenialTellsWhatIsGrantedOfThatKind() async throws {
        let tool = ClosureTool(resources: [.network]) { _, context in
            let destination = try #require(Destination(host: "evil.example", port: 443))
            let admission = try context.grants.admit(Request(.connect(destination, tool: "probe")), by: context.holder)
            admission.settle()
            return ToolReply("reached")
        }
        let world = try World([tool], grants: ["tool: probe", "network: good.example:443", "file_read: /x"])
        let reply = await world.call("probe")
        #expect(reply.code == "capability-denied")
        #expect(reply.value["error"]?["granted"] == ["network: good.example:443"])
        #expect(world.trail.kinds == ["tool_invoked", "tool_refused", "tool_result"])
    }

    @Test func whatIsTooLongIsCutAtACharacter() async throws {
        let tool = ClosureTool(outputLimit: 10) { _, _ in ToolReply("aaaaaaaaaäb") }
        let world = try World([tool], grants: ["tool: probe"])
        #expect(await world.call("probe").text == "aaaaaaaaa\n[cut: 10 of 12 bytes are shown]")
    }

    @Test func aBatchWithoutASuccessIsAnError() {
        #expect(ToolReply.batch(["a", "b"], failures: 1, named: "files").isError == false)
        #expect(ToolReply.batch(["a", "b"], failures: 2, named: "files").isError)
        #expect(ToolReply.batch([], failures: 0, named: "files").isError == false)
    }

    // MARK: Time

    @Test func aCallEndsAtItsTimeLimit() async throws {
        let tool = ClosureTool(timeLimit: .milliseconds(1)) { _, _ in
            await untilCancelled()
            throw CancellationError()
        }
        let looking = ClosureTool("looking", effects: .reads, timeLimit: .milliseconds(1)) { _, _ in
            await untilCancelled()
            throw CancellationError()
        }
        let world = try World([tool, looking], grants: ["tool: *"])
        let reply = await world.call("probe")
        #expect(reply.code == "interrupted")
        #expect(reply.value["error"]?["message"]?.text?.contains("may or may not have happened") == true)
        #expect(await world.call("looking").value["error"]?["hint"] == nil)
        #expect(world.trail.kinds == ["tool_invoked", "tool_result", "tool_invoked", "tool_result"])
    }

    /// What a cancelled tool has to say of it, which is no outcome: what it works with may have gone first.
    @Test(arguments: [
        CancellationError() as any Error, AegisError(.unavailable, "mcp-unavailable", "the server has ended"),
    ])
    func aCancelledCallIsRecordedToItsEnd(told: any Error) async throws {
        let (started, signal) = AsyncStream.makeStream(of: Void.self)
        let tool = ClosureTool { _, _ in
            signal.yield()
            await untilCancelled()
            throw told
        }
        let world = try World([tool], grants: ["tool: probe"])
        let task = Task { await world.call("probe") }
        for await _ in started { break }
        task.cancel()
        #expect(await task.value.code == "interrupted")
        #expect(world.trail.kinds == ["tool_invoked", "tool_result"])
    }

    /// What the end of a daemon cuts short is left to the next one where it can be done again; what cannot has an end.
    @Test(arguments: [true, false]) func whatCanBeDoneAgainIsLeftToTheNextDaemon(isIdempotent: Bool) async throws {
        let (started, signal) = AsyncStream.makeStream(of: Void.self)
        let tool = ClosureTool(isIdempotent: isIdempotent) { _, _ in
            signal.yield()
            await untilCancelled()
            throw CancellationError()
        }
        var world = try World([tool], grants: ["tool: probe"])
        let journal = MemoryJournal()
        world.context.journal = journal
        let task = Task { [world] in await world.call("probe") }
        for await _ in started { break }
        journal.leave()
        task.cancel()
        let reply = await task.value
        #expect(reply.code == "interrupted")
        #expect(try journal.state(of: "c-1") == (isIdempotent ? .begun : .ended(reply)))
    }

    // MARK: Recording

    @Test func nothingIsRunThatCannotBeRecorded() async throws {
        let tool = ClosureTool()
        let world = try World([tool], grants: [#"{grant: "tool: probe", max_calls: 1}"#])
        world.trail.fill(after: 0)
        let reply = await world.call("probe")
        #expect(reply.isError && reply.halt != nil && reply.code == "not-recorded")
        #expect(tool.calls == 0)
        // It was not begun, so it does not count.
        world.trail.fill(after: 10)
        #expect(await world.call("probe").isError == false)
    }

    @Test func whatHappenedAndCannotBeRecordedStopsTheAgent() async throws {
        let tool = ClosureTool()
        let world = try World([tool], grants: ["tool: probe"])
        world.trail.fill(after: 1)
        let reply = await world.call("probe")
        #expect(reply.halt?.contains("disk is full") == true)
        #expect(tool.calls == 1)
    }

    @Test func aRefusalThatCannotBeRecordedStopsTheAgent() async throws {
        let world = try World([ClosureTool()], grants: [])
        world.trail.fill(after: 0)
        #expect(await world.call("probe").halt != nil)
        #expect(await world.call("unknown").halt != nil)
    }

    // MARK: Resuming (D34)

    @Test func aSavedOutcomeIsReused() async throws {
        let tool = ClosureTool()
        var world = try World([tool], grants: ["tool: probe"])
        world.context.journal = MemoryJournal(["c-1": .ended(ToolReply("from before"))])
        #expect(await world.call("probe").text == "from before")
        #expect(tool.calls == 0 && world.trail.kinds == ["tool_resumed"])
    }

    @Test func anIntentWithoutOutcomeIsUnknownUnlessRepeatingIsHarmless() async throws {
        let once = ClosureTool("once")
        let again = ClosureTool("again", isIdempotent: true)
        var world = try World([once, again], grants: ["tool: *"])
        let journal = MemoryJournal(["c-1": .begun])
        world.context.journal = journal
        let reply = await world.call("once")
        #expect(reply.code == "interrupted" && once.calls == 0)
        #expect(try journal.state(of: "c-1") == .ended(reply))
        world.context.journal = MemoryJournal(["c-1": .begun])
        #expect(await world.call("again").isError == false)
        #expect(again.calls == 1)
        // Not for a run that only ends, and nobody is asked about it either.
        let stopped = MemoryJournal(["c-1": .begun])
        stopped.stop()
        world.context.journal = stopped
        world.context.approvals = ApprovalPolicy(required: ["*"])
        let end = await world.call("again")
        #expect(end.code == "interrupted" && again.calls == 1)
        #expect(try stopped.state(of: "c-1") == .ended(end))
    }

    @Test func aRunThatCannotBeSavedGoesNoFurther() async throws {
        let tool = ClosureTool()
        var world = try World([tool], grants: ["tool: probe"])
        for (step, calls) in [("state", 0), ("begin", 0), ("end", 1)] {
            let journal = MemoryJournal()
            journal.fail(step)
            world.context.journal = journal
            #expect(await world.call("probe").halt != nil)
            #expect(tool.calls == calls)
        }
    }

    @Test func aCallSavesIntentThenOutcome() async throws {
        let journal = MemoryJournal()
        let tool = ClosureTool { _, context in
            ToolReply(try context.journal?.state(of: context.callID) == .begun ? "begun" : "not begun")
        }
        var world = try World([tool], grants: ["tool: probe"])
        world.context.journal = journal
        let reply = await world.call("probe")
        #expect(reply.text == "begun")
        #expect(try journal.state(of: "c-1") == .ended(reply))
    }

    @Test func answersCanBeSaved() throws {
        for reply in [ToolReply(["a": [1, "x"]]), ToolReply("t", isError: true, halt: "why")] {
            let text = reply.saved.compact
            #expect(ToolReply(saved: try JSONValue(parsing: text)) == reply)
        }
        #expect(ToolReply(saved: ["value": 1]) == nil)
    }

    // MARK: Settling

    /// A call under way when its grant is taken back: it is ended, but what has come to its end all the same has happened.
    @Test(arguments: ["success", "error", "halt", "thrown"]) func whatEndsAlthoughItsGrantWasTakenBack(_ how: String)
        async throws
    {
        let tool = ClosureTool(effects: .external) { _, _ in
            await untilCancelled()
            switch how {
            case "success": return ToolReply("sent")
            case "error": return ToolReply(AegisError.failed("x", "not sent"))
            case "halt": return ToolReply("sent", isError: true, halt: "the disk is full")
            default: throw CancellationError()
            }
        }
        let world = try World([tool], grants: ["tool: *", "tool: probe"])
        async let call = world.call("probe")
        while tool.calls == 0 { await Task.yield() }
        for grant in ["tool: *", "tool: probe"] {
            try world.book.revoke(world.holder, capability: try Capability(parsing: grant), reason: "enough")
        }
        let reply = await call
        switch how {
        case "success": #expect(!reply.isError && reply.text == "sent")
        case "halt": #expect(reply.halt == "the disk is full" && reply.text == "sent")
        default:
            #expect(reply.code == "grant-revoked" && reply.halt == nil)
            #expect(reply.text.contains("the grant that allowed this call of 'probe'"), "\(reply.text)")
        }
    }

    @Test func bytesOfAnswersCount() async throws {
        let tool = ClosureTool { _, _ in ToolReply("0123456789") }
        let world = try World([tool], grants: [#"{grant: "tool: probe", max_bytes: 15}"#])
        #expect(await world.call("probe").isError == false)
        #expect(await world.call("probe").isError == false)
        #expect(await world.call("probe").code == "limit-bytes-used-up")
    }

    @Test func aFailedCallCountsAndARefusedOneDoesNot() async throws {
        let tool = ClosureTool(asksApproval: true) { _, _ in throw AegisError.failed("x", "x") }
        var world = try World([tool], grants: [#"{grant: "tool: probe", max_calls: 1}"#])
        world.context.desk = ScriptedDesk { _, _ in .denied(id: "a", by: Approver(uid: 1, door: "cli"), reason: nil) }
        #expect(await world.call("probe").code == "approval-denied")
        world.context.desk = ScriptedDesk.agreeing()
        #expect(await world.call("probe").code == "x")
        #expect(await world.call("probe").code == "limit-calls-used-up")
    }
}
