import Foundation
import Testing

/// Every kind of record that tells of agents is really written, with the fields that the page on the ledger says.
@Suite struct AgentLedgerTests {
    private static let rules = """
          - when: { agent: mourner }
            fail: { status: 400, message: it is broken }
          - when: { agent: asker, tool: agent_ask }
            reply: { text: asked }
          - when: { agent: asker }
            reply: { tools: [{ name: agent_ask, input: { to: peer, message: how is the tide } }] }
          - when: { agent: careful, message: "write" }
            times: 2
            reply: { tools: [{ name: echo, input: { message: x } }] }

        """

    /// Does all that there is to be told of.
    private static func act(_ door: AgentDoor) async throws {
        let mourner = try await door.spawn(
            "name: mourner\nmodel: default\nlifecycle: persistent\nrestart: {policy: on-failure, attempts: 1, pause: 10ms}"
        )
        _ = try await door.result("agent.run", ["agent_id": mourner, "message": "go"])
        _ = try await door.spawn("peer", ["tool: echo"])
        let asker = try await door.spawn("asker", ["tool: agent_ask", "message: [peer]"])
        #expect(
            try await door.result("agent.run", ["agent_id": asker, "message": "go"])["response"] as? String == "asked")
        let talker = try await door.spawn("name: talker\nmodel: small\nlifecycle: persistent")
        _ = try await door.talk(with: talker)
        try await remember(door)
        try await approve(door)
        let goal = try await door.result("goal.submit", ["goal": "go"])
        _ = try await door.result("goal.show", ["goal_id": goal["id"] ?? "", "wait": true])
        let files = try await door.spawn(
            "name: files\nmodel: default\nlifecycle: persistent\ncapabilities: ['tool: file_read', 'tool: file_write', "
                + "'file_write: /workspace/**', {grant: 'file_read: /workspace/**', max_bytes: 1M}]")
        _ = try await door.invoke(files, "file_write", ["path": "/workspace/a", "content": "x"])
        _ = try await door.invoke(files, "file_read", ["path": "/workspace/a"])
        _ = try await door.invoke(files, "file_read", ["path": "/workspace/none"])
        _ = try await door.invoke(files, "file_read", ["path": "/etc/passwd"])
        _ = try await door.result("agent.revoke", ["agent_id": files])
        let parent = try await door.spawn("parent", ["tool: spawn_agent", "tool: echo", "spawn: [child]"])
        _ = try await door.invoke(
            parent, "spawn_agent",
            ["manifest": "name: child\nmodel: default\ncapabilities: ['tool: echo']", "message": "go"])
        _ = try await door.result("agent.stop", ["agent_id": parent])
    }

    private static func remember(_ door: AgentDoor) async throws {
        let keeper = try await door.spawn(
            "keeper", ["tool: memory_store", "tool: memory_query", "tool: memory_delete"],
            "memory: { persistent: true }\n")
        let kept = try await door.invoke(keeper, "memory_store", ["content": "x", "category": "fact"])
        _ = try await door.invoke(keeper, "memory_query", ["query": "x"])
        let record = try #require(AgentDoor.value(kept)?["memory_id"] as? String, "\(kept)")
        _ = try await door.result("memory.delete", ["agent_id": keeper, "memory_id": record])
        _ = try await door.result("memory.reset", ["agent_id": keeper])
    }

    /// One call is refused by a person, one is not needed any more.
    private static func approve(_ door: AgentDoor) async throws {
        let careful = try await door.spawn("careful", ["tool: echo"], "approval_required: [echo]\n")
        let sent = try await door.result("agent.run", ["agent_id": careful, "message": "write", "wait": false])
        let first = try await door.waiting()
        try await door.answer(first, "deny")
        let second = try await door.waiting(after: first)
        try await door.answer(second, "approve")
        _ = try await door.result(
            "agent.reply", ["agent_id": careful, "trace_id": sent["trace_id"] ?? "", "wait": true])
        let again = try await door.spawn("careful", ["tool: echo"], "approval_required: [echo]\n")
        async let invoked = door.invoke(again, "echo", ["message": "x"])
        _ = try await door.waiting(after: second)
        _ = try await door.result("agent.stop", ["agent_id": again])
        _ = try await invoked
    }

    /// What the page says of kinds: their fields.
    static func documented() throws -> [String: Set<String>] {
        let page = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("docs/audit.md")
        var kinds: [String: Set<String>] = [:]
        for line in try String(contentsOf: page, encoding: .utf8).split(separator: "\n") where line.hasPrefix("| `") {
            let cells = line.split(separator: "|", omittingEmptySubsequences: false).map(String.init)
            guard cells.count == 5 else { continue }
            func words(_ text: String) -> [String] { text.matches(of: /`([a-z_]+)`/).map { String($0.1) } }
            let names = words(cells[1])
            for name in names {
                let whole = name.hasPrefix("_") ? "human_approval\(name)" : name
                kinds[whole] = Set(words(cells[2] + cells[3]))
            }
        }
        return kinds
    }

    private static let expected: Set<String> = [
        "agent_spawned", "agent_stopped", "agent_message_sent", "agent_message_received", "agent_thought",
        "agent_execution_completed", "agent_restarting", "agent_gave_up", "context_summarization_failed",
        "context_dropped", "goal_submitted", "goal_started", "goal_ended", "tool_invoked", "tool_result",
        "tool_refused",
        "human_approval_requested", "human_approval_granted", "human_approval_denied", "human_approval_withdrawn",
        "grant_issued", "grant_derived", "grant_revoked", "capability_used", "capability_settled",
        "capability_refunded",
        "capability_denied", "model_call_started", "model_call_answered", "model_call_failed", "memory_stored",
        "memory_queried", "memory_deleted", "memory_reset",
    ]

    @Test func everyKindIsWrittenAndSaysWhatThePageSays() async throws {
        try await AgentDoor.withSmallWindow(summary: "fail: { status: 400 }", rules: Self.rules) { door in
            try await Self.act(door)
            let told = try await door.result("audit.tail", ["count": 1000])
            let records = try #require(told["records"] as? [[String: Any]])
            let pages = try Self.documented()
            var seen: Set<String> = []
            var strays: Set<String> = []
            for record in records {
                let kind = try #require(record["kind"] as? String)
                seen.insert(kind)
                guard Self.expected.contains(kind) else { continue }
                let shared: Set<String> =
                    kind.hasPrefix("model_call_") ? ["name", "tree", "provider", "model", "attempt"] : []
                let known = try #require(pages[kind], "\(kind) is not on the page").union(shared)
                for field in (record["fields"] as? [String: Any] ?? [:]).keys where !known.contains(field) {
                    strays.insert("\(kind): \(field)")
                }
            }
            #expect(Self.expected.subtracting(seen).isEmpty, "\(Self.expected.subtracting(seen).sorted())")
            #expect(strays.isEmpty, "\(strays.sorted())")
            #expect(try await door.fixture.aegis("audit", "verify").code == 0)
        }
    }
}
