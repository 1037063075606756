import Foundation
import Testing

/// One turn at the provider for all: were it held while an agent waits for others, nobody could answer and nothing would ever end.
@Suite struct AgentPermitTests {
    private static func child(_ name: String, _ capabilities: String = "[]") -> String {
        "name: \(name)\\nmodel: default\\ncapabilities: \(capabilities)"
    }

    /// Over two levels: the boss waits for a child, and that for a child of its own.
    @Test func whoWaitsForAChildHoldsNoTurn() async throws {
        let middle = Self.child("middle", "['tool: spawn_agent', 'spawn: [low]']")
        let rules = """
              - when: { tool: spawn_agent }
                reply: { text: "{{agent}} got {{result:spawn_agent.response}}" }
              - when: { agent: boss }
                reply: { tools: [{ name: spawn_agent, input: { manifest: "\(middle)", message: go } }] }
              - when: { agent: middle }
                reply: { tools: [{ name: spawn_agent, input: { manifest: "\(Self.child("low"))", message: go } }] }
              - when: { agent: low }
                reply: { text: done }

            """
        try await AgentTests.with(rules, permits: 1) { f in
            let run = try await AgentDoor(fixture: f).result(
                "agent.spawn_and_run",
                [
                    "manifest":
                        "name: boss\nmodel: default\ncapabilities: ['tool: spawn_agent', 'spawn: [middle, low]']",
                    "message": "go",
                ])
            #expect(run["response"] as? String == "boss got middle got done", "\(run)")
        }
    }

    /// Several at once, of which each asks another agent, and that starts children itself.
    @Test func whoWaitsForSeveralHoldsNoTurn() async throws {
        let asker = Self.child("asker", "['tool: agent_ask', 'message: [oracle]']")
        let rules = """
              - when: { agent: boss, tool: spawn_agents }
                reply: { text: "{{result}}" }
              - when: { agent: boss }
                reply:
                  tools:
                    - name: spawn_agents
                      input:
                        children:
                          - { manifest: "\(asker)", message: one }
                          - { manifest: "\(asker)", message: two }
                          - { manifest: "\(asker)", message: three }
              - when: { agent: asker, tool: agent_ask }
                reply: { text: "heard: {{result}}" }
              - when: { agent: asker }
                reply: { tools: [{ name: agent_ask, input: { to: oracle, message: "what of {{message}}?" } }] }
              - when: { agent: oracle, tool: spawn_agents }
                reply: { text: "{{result}}" }
              - when: { agent: oracle }
                reply:
                  tools:
                    - name: spawn_agents
                      input:
                        children:
                          - { manifest: "\(Self.child("low"))", message: a }
                          - { manifest: "\(Self.child("low"))", message: b }
              - when: { agent: low }
                reply: { text: "low did {{message}}" }

            """
        try await AgentTests.with(rules, permits: 1) { f in
            let door = AgentDoor(fixture: f)
            _ = try await door.spawn(
                "name: oracle\nmodel: default\nlifecycle: persistent\ncapabilities: ['tool: spawn_agents', 'spawn: [low]']"
            )
            let id = try await door.spawn(
                "name: boss\nmodel: default\nlifecycle: persistent\n"
                    + "capabilities: ['tool: spawn_agents', 'spawn: [asker]', 'tool: agent_ask', 'message: [oracle]']")
            let run = try await door.result("agent.run", ["agent_id": id, "message": "go"])
            let text = try #require(run["response"] as? String, "\(run)")
            let said = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
            let children = try #require(said?["children"] as? [[String: Any]], "\(run)")
            #expect(children.count == 3, "\(run)")
            for child in children {
                let answer = child["response"] as? String ?? ""
                #expect(answer.contains("low did a") && answer.contains("low did b"), "\(child)")
            }
        }
    }
}
