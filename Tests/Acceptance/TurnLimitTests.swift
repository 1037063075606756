import Foundation
import Testing

/// How far one turn of an agent may go. Through `agentd.sock` of a real daemon.
@Suite struct TurnLimitTests {
    /// Three calls of the model, of which the first two take three million tokens each.
    private static let rules = """
          - when: { turn: 1 }
            reply: { tools: [{ name: echo, input: { message: a } }], usage: { input: 10, output: 3000000 } }
          - when: { turn: 2 }
            reply: { tools: [{ name: echo, input: { message: b } }], usage: { input: 10, output: 3000000 } }
          - reply: { text: done }

        """

    /// The limit is the owner's: by default five million tokens, another with the key, and a larger budget in any case.
    @Test(arguments: [
        ("", "max_tokens", 2), ("max_turn_tokens: 2M", "max_tokens", 1), ("max_turn_tokens: 7M", "complete", 3),
        ("budget_config: {max_tokens: 20M, reset_period_seconds: 0}", "complete", 3),
        ("budget_config: {max_tokens: 20M}\nmax_turn_tokens: 4M", "max_tokens", 2),
    ])
    func aTurnEndsAtTheTokensThatItsManifestSays(_ more: String, _ stop: String, _ calls: Int) async throws {
        try await AgentDoor.with(rules: Self.rules) { door in
            let id = try await door.spawn("spender", ["tool: echo"], more)
            let reply = try await door.result("agent.run", ["agent_id": id, "message": "go"])
            #expect(reply["stop_reason"] as? String == stop && reply["iterations"] as? Int == calls, "\(reply)")
        }
    }

    /// A child works on the budget of whoever spawned it.
    @Test func aChildGoesOnToTheBudgetOfItsParent() async throws {
        let boss = """
              - when: { agent: boss, turn: 1 }
                reply:
                  tools:
                    - name: spawn_agent
                      input: { manifest: "name: child\\nmodel: default\\ncapabilities: ['tool: echo']", message: go }
              - when: { agent: boss }
                reply: { text: "the child is {{result:spawn_agent.response}}" }

            """
        try await AgentDoor.with(rules: boss + Self.rules) { door in
            let id = try await door.spawn(
                "boss", ["tool: spawn_agent", "spawn: child", "tool: echo"], "budget_config: {max_tokens: 20M}")
            let reply = try await door.result("agent.run", ["agent_id": id, "message": "go"])
            #expect(reply["response"] as? String == "the child is done", "\(reply)")
        }
    }

    /// Whoever gives a goal more tokens than a turn usually may take means them to be used; and is told what a turn may take.
    @Test func aGoalGoesOnToItsBudget() async throws {
        try await AgentDoor.with(rules: Self.rules) { door in
            let goal = try await door.fixture.aegis("goal", "--budget-tokens", "20M", "spend it")
            #expect(goal.code == 0 && goal.out.contains("done"), "\(goal)")
            let file = door.fixture.path("spender.yaml")
            try "name: spender\nmodel: default\nmax_turn_tokens: 1.5M\n".write(
                toFile: file, atomically: true, encoding: .utf8)
            let wrong = try await door.fixture.aegis("agent", "validate", file)
            #expect(wrong.code == 2 && wrong.err.contains("a number of tokens"), "\(wrong)")
            try "name: spender\nmodel: default\nmax_turn_tokens: 2M\n".write(
                toFile: file, atomically: true, encoding: .utf8)
            let valid = try await door.fixture.succeed("agent", "validate", file)
            #expect(valid.out.contains("50 model calls and 2000000 tokens at most"), "\(valid)")
        }
    }
}
