import Foundation
import Testing

/// Agents that multiply for as long as they are let to.
@Suite struct AgentSwarmTests {
    private static let rules = """
          - when: { agent: bomb, tool: spawn_agents, result: too-many-agents }
            reply: { text: "the node is full" }
          - when: { agent: bomb, tool: spawn_agents, result: spawn-too-deep }
            reply: { text: "it is too deep" }
          - when: { agent: bomb, tool: spawn_agents }
            reply: { text: "{{result}}" }
          - when: { agent: bomb }
            reply:
              tools:
                - name: spawn_agents
                  input:
                    children:
                      - { manifest: "name: bomb\\nmodel: bomb\\ncapabilities: ['tool: spawn_agents', 'spawn: bomb']", message: go }
                      - { manifest: "name: bomb\\nmodel: bomb\\ncapabilities: ['tool: spawn_agents', 'spawn: bomb']", message: go }
                      - { manifest: "name: bomb\\nmodel: bomb\\ncapabilities: ['tool: spawn_agents', 'spawn: bomb']", message: go }
          - reply: { text: "still here" }

        """

    /// Lets two trees grow, and watches with an agent of its own.
    private static let client = """
        import json, socket, sys, threading
        def door():
            s = socket.socket(socket.AF_UNIX); s.settimeout(100); s.connect(sys.argv[1]); f = s.makefile("rwb")
            def call(method, **params):
                f.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\\n"); f.flush()
                answer = json.loads(f.readline())
                return answer.get("result") or answer
            return call
        replies, manifest = [], "name: bomb\\nmodel: bomb\\ncapabilities: ['tool: spawn_agents', 'spawn: bomb']"
        def go(): replies.append(door()("agent.spawn_and_run", manifest=manifest, message="go"))
        bombs = [threading.Thread(target=go) for _ in range(2)]
        call = door()
        bystander = call("agent.spawn", manifest="name: bystander\\nmodel: bomb\\nlifecycle: persistent\\ncapabilities: ['tool: echo']")["agent_id"]
        for bomb in bombs: bomb.start()
        while any(bomb.is_alive() for bomb in bombs):
            assert len(call("agent.list")["agents"]) <= 100
            assert call("tool.invoke", agent_id=bystander, tool="echo", input={"message": "x"})["result"] == {"message": "x"}
        last = call("agent.run", agent_id=bystander, message="and you?")["response"]
        left = [a["name"] for a in call("agent.list")["agents"]]
        print(json.dumps({"replies": replies, "last": last, "left": left}))
        """

    @Test func aForkBombEndsAtItsLimits() async throws {
        try await DaemonFixture.with(config: nil) { f in
            let door = AgentDoor(fixture: f)
            try await door.restart(
                "name: own", "type: scripted", "scenario: \(try door.scenario(Self.rules))", "max_concurrent: 100",
                "models: [{ alias: bomb, model: bomb }]")
            let run = try await f.run("/usr/bin/python3", ["-c", Self.client, "\(f.home)/agentd.sock"])
            let seen = try #require(
                try JSONSerialization.jsonObject(with: Data(run.out.utf8)) as? [String: Any], "\(run)")
            let replies = seen["replies"] as? [[String: Any]] ?? []
            let words = replies.map { "\($0["response"] ?? $0)" }.joined(separator: "\n")
            #expect(replies.count == 2 && replies.allSatisfy { $0["stop_reason"] as? String == "complete" }, "\(words)")
            #expect(words.contains("the node is full"), "\(words.prefix(2000))")
            #expect(seen["last"] as? String == "still here" && seen["left"] as? [String] == ["bystander"], "\(seen)")
            let crowd = try Self.crowd(f)
            // Three places are taken at once or none, and some end while others begin: it need not be all hundred at one moment.
            #expect((50...100).contains(crowd.most) && crowd.deepest <= 5, "\(crowd)")
            // Others were served while it grew and shrank, and not in turn with all of them: then it would be five times or so.
            #expect(crowd.served >= 25, "\(crowd)")
            let budgets = try await door.result("agent.budget")["budgets"] as? [Any]
            #expect(budgets?.count == 1, "\(budgets ?? [])")
            let held = try await f.sql(
                "SELECT count(*) FROM agent_grants WHERE record NOT LIKE '%\"revoked\"%' AND record NOT LIKE "
                    + "'%' || (SELECT id FROM agents WHERE name = 'bystander') || '%'")
            #expect(held == "0\n", "grants of nobody who lives: \(held)")
            #expect(try await f.list().isEmpty)
            #expect(try await f.aegis("audit", "verify").code == 0)
        }
    }

    /// What the ledger says of a crowd: how many agents there were at most, how deep they went, and how often the bystander's tool
    /// was called between the first and the last of it.
    private static func crowd(_ f: DaemonFixture) throws -> (most: Int, deepest: Int, served: Int) {
        var crowd = (most: 0, deepest: 0, served: 0)
        var live = 0
        var calls = 0
        let text = try String(contentsOfFile: "\(f.home)/audit/000000000001.jsonl", encoding: .utf8)
        for line in text.split(separator: "\n") {
            let record = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any] ?? [:]
            let fields = record["fields"] as? [String: Any]
            switch record["kind"] as? String {
            case "agent_spawned":
                live += 1
                crowd.most = max(crowd.most, live)
                crowd.deepest = max(crowd.deepest, fields?["depth"] as? Int ?? 9)
                // The bystander alone is no crowd.
                if live == 2 { calls = 0 }
            case "agent_stopped":
                live -= 1
                crowd.served = calls
            case "tool_invoked" where fields?["tool"] as? String == "echo": calls += 1
            default: break
            }
        }
        return crowd
    }
}
