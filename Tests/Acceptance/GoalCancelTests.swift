import Foundation
import Testing

/// A goal that is given up while its tree is at work.
@Suite struct GoalCancelTests {
    private static let rules = """
          - when: { agent: worker }
            reply: { tools: [{ name: exec, input: { argv: [sh, -c, "echo begun >> /workspace/begun; exec sleep 1000"] } }] }
          - when: { agent: asker }
            reply: { tools: [{ name: file_write, input: { path: /workspace/asked, content: x } }] }
          - when: { agent: lead, turn: 1 }
            reply:
              tools:
                - name: spawn_agents
                  input:
                    children:
                      - { manifest: "name: worker\\nmodel: default\\ncapabilities: ['tool: exec', 'exec: *', 'file_read: /workspace/**', 'file_write: /workspace/**']", message: work }
                      - { manifest: "name: asker\\nmodel: default\\napproval_required: [file_write]\\ncapabilities: ['tool: file_write', 'file_write: /workspace/**']", message: ask }
          - when: { agent: lead }
            reply: { text: "it should not come to this" }

        """

    @Test func aCancelledGoalStopsItsTreeWhateverThatWaitsFor() async throws {
        try await AgentDoor.with(rules: Self.rules) { door in
            let f = door.fixture
            let file = f.path("lead.yaml")
            try """
            name: lead
            model: default
            capabilities:
              - "tool: spawn_agents"
              - "spawn: *"
              - "tool: exec"
              - "exec: *"
              - "tool: file_write"
              - "file_read: /workspace/**"
              - "file_write: /workspace/**"
            """.write(toFile: file, atomically: true, encoding: .utf8)
            try await f.succeed("agent", "deploy", file)
            let goal = try await door.result("goal.submit", ["goal": "never", "name": "lead"])
            let id = try #require(goal["id"] as? String)
            // One child waits for a program, another for a person, their parent for both.
            _ = try await door.waiting()
            let shown = try await door.result("goal.show", ["goal_id": id])
            let agent = try #require(shown["agent"] as? String, "\(shown)")
            try await f.eventually("the program runs") {
                FileManager.default.fileExists(atPath: "\(f.home)/agents/\(agent)/workspace/begun")
            }
            #expect((try await door.result("agent.list")["agents"] as? [Any])?.count == 3)
            try await f.succeed("goal", "cancel", id)
            let over = try await door.result("goal.show", ["goal_id": id, "wait": true])
            #expect(over["stop_reason"] as? String == "cancelled" && over["state"] as? String == "cancelled", "\(over)")
            #expect((try await door.result("agent.list")["agents"] as? [Any])?.isEmpty == true)
            #expect((try await door.result("approval.list")["pending"] as? [Any])?.isEmpty == true)
            try await f.eventually("no sandbox is left") { try await f.list().isEmpty }
            #expect(!FileManager.default.fileExists(atPath: "\(f.home)/agents/\(agent)/workspace/asked"))
            // Once more changes nothing.
            let again = try await door.result("goal.cancel", ["goal_id": id])
            #expect(again["ended_at"] as? String == over["ended_at"] as? String, "\(again)")
            let told = try await door.result("audit.tail", ["kinds": ["agent_stopped"], "count": 10])
            #expect((told["records"] as? [Any])?.count == 3, "\(told)")
            // It stays so for the next daemon.
            try await f.crash()
            try await f.up()
            let later = try await door.result("goal.show", ["goal_id": id])
            #expect(later["stop_reason"] as? String == "cancelled", "\(later)")
            #expect((try await door.result("agent.list")["agents"] as? [Any])?.isEmpty == true)
            #expect(try await f.aegis("audit", "verify").code == 0)
        }
    }
}
