import Foundation
import Testing

/// Limits of grants that agents use up through a real daemon: what is counted, and that it ends there.
@Suite struct AgentLimitTests {
    /// What an agent has used of the grant for something.
    private static func used(_ door: AgentDoor, _ agent: String, _ resource: String) async throws -> [String: Int] {
        let answer = try await door.result("agent.grants", ["agent_id": agent])
        let grants = try #require(answer["grants"] as? [[String: Any]], "\(answer)")
        let record = try #require(grants.first { "\($0["terms"] ?? "")".contains(resource) }, "\(answer)")
        return try #require(record["used"] as? [String: Int], "\(record)")
    }

    @Test func bytesOfMemoryEnd() async throws {
        try await AgentDoor.with { door in
            let id = try await door.spawn(
                "name: keeper\nmodel: default\nlifecycle: persistent\n"
                    + "capabilities: ['tool: memory_store', 'tool: memory_query', {grant: 'memory: self', max_bytes: 40}]"
            )
            let note = ["content": "the tide turns at noon", "category": "fact"]
            #expect(AgentDoor.value(try await door.invoke(id, "memory_store", note)) != nil)
            #expect(try await Self.used(door, id, "memory: self")["bytes"] == 22)
            for (tool, input) in [("memory_query", ["query": "tide"]), ("memory_store", note)] {
                let refused = try await door.invoke(id, tool, input)
                #expect(AgentDoor.code(refused) == "limit-bytes-used-up", "\(refused)")
            }
            #expect(try await Self.used(door, id, "memory: self")["bytes"] == 22)
        }
    }

    @Test func bytesOfMessagesEnd() async throws {
        try await AgentDoor.with { door in
            let id = try await door.spawn(
                "name: writer\nmodel: default\nlifecycle: persistent\n"
                    + "capabilities: ['tool: agent_send', 'tool: agent_ask', {grant: 'message: [peer]', max_bytes: 20}]"
            )
            _ = try await door.spawn("peer", [])
            #expect(
                AgentDoor.value(try await door.invoke(id, "agent_ask", ["to": "peer", "message": "ten bytes!"])) != nil)
            let long = try await door.invoke(id, "agent_send", ["to": "peer", "message": "eleven byte"])
            #expect(AgentDoor.code(long) == "limit-bytes-used-up", "\(long)")
            #expect(
                AgentDoor.value(try await door.invoke(id, "agent_send", ["to": "peer", "message": "ten bytes!"])) != nil
            )
            let over = try await door.invoke(id, "agent_send", ["to": "peer", "message": "x"])
            #expect(AgentDoor.code(over) == "limit-bytes-used-up", "\(over)")
            #expect(try await Self.used(door, id, "message: ")["bytes"] == 20)
        }
    }

    /// What a child's model takes counts against the tool that spawned it; the next child is not begun.
    @Test func tokensOfChildrenEnd() async throws {
        let rules = """
              - when: { agent: helper }
                reply: { text: "done", usage: { input: 60, output: 50 } }

            """
        try await AgentDoor.with(rules: rules) { door in
            let id = try await door.spawn(
                "name: boss\nmodel: default\nlifecycle: persistent\n"
                    + "capabilities: [{grant: 'tool: spawn_agents', max_tokens: 200}, 'spawn: [helper]']")
            let child = ["manifest": "name: helper\nmodel: default\n", "message": "go"]
            let both = try await door.invoke(id, "spawn_agents", ["children": [child, child]])
            #expect(AgentDoor.value(both)?["failed"] as? Int ?? 0 == 0 && AgentDoor.value(both) != nil, "\(both)")
            #expect(try await Self.used(door, id, "spawn_agents")["tokens"] == 220)
            let refused = try await door.invoke(id, "spawn_agents", ["children": [child]])
            #expect(AgentDoor.code(refused) == "limit-tokens-used-up", "\(refused)")
        }
    }

    /// A child that goes on and on ends where the limit of the tool ends that started it, and what several use counts together.
    @Test func aChildEndsInItsTurnWhereTheLimitEnds() async throws {
        let rules = """
              - when: { agent: looper }
                reply: { tools: [{ name: echo, input: { message: more } }], usage: { input: 60, output: 50 } }

            """
        try await AgentDoor.with(rules: rules) { door in
            let id = try await door.spawn(
                "name: boss\nmodel: default\nlifecycle: persistent\n"
                    + "capabilities: [{grant: 'tool: spawn_agent', max_tokens: 500}, {grant: 'tool: spawn_agents', max_tokens: 900}, 'tool: echo', 'spawn: [looper]']"
            )
            let child = [
                "manifest": "name: looper\nmodel: default\ncapabilities: ['tool: echo']", "message": "go",
            ]
            func check(_ answer: [String: Any]) {
                #expect(answer["stop_reason"] as? String == "budget_exceeded", "\(answer)")
                let error = answer["error"] as? [String: Any]
                #expect(error?["code"] as? String == "budget-exceeded", "\(answer)")
                #expect(
                    (error?["message"] as? String)?.contains("by which this agent was started") == true, "\(answer)")
            }
            let one = try await door.invoke(id, "spawn_agent", child)
            check(try #require(AgentDoor.value(one), "\(one)"))
            let used = try #require(try await Self.used(door, id, "spawn_agent\"")["tokens"])
            // It stops before the limit where a question does not fit any more, and at most one answer goes beyond it.
            #expect((330...550).contains(used), "\(used)")
            let both = try await door.invoke(id, "spawn_agents", ["children": [child, child]])
            let answers = try #require(AgentDoor.value(both)?["children"] as? [[String: Any]], "\(both)")
            answers.forEach(check)
            let shared = try #require(try await Self.used(door, id, "spawn_agents")["tokens"])
            #expect((660...1000).contains(shared), "\(shared)")
            let refused = try await door.result("audit.tail", ["kinds": ["budget_refused"], "count": 10])
            #expect("\(refused)".contains("grant:"), "\(refused)")
            // The caller has no budget, and none was made for it.
            let report = try await door.result("agent.budget", ["agent_id": id])
            #expect((report["used"] as? [String: Any])?["tokens"] as? Int == used + shared, "\(report)")
        }
    }

    /// What a grandchild uses counts once, although its parent spawns it by a part of the same grant.
    @Test func whatAGrandchildUsesCountsOnce() async throws {
        let rules = """
              - when: { agent: middle, tool: spawn_agent }
                reply: { text: done, usage: { input: 1, output: 1 } }
              - when: { agent: middle }
                reply:
                  usage: { input: 1, output: 1 }
                  tools: [{ name: spawn_agent, input: { manifest: "name: low\\nmodel: default", message: go } }]
              - when: { agent: low }
                reply: { text: "deep down", usage: { input: 60, output: 50 } }

            """
        try await AgentDoor.with(rules: rules) { door in
            let id = try await door.spawn(
                "name: boss\nmodel: default\nlifecycle: persistent\n"
                    + "capabilities: [{grant: 'tool: spawn_agent', max_tokens: 100k}, 'spawn: *']")
            let middle = "name: middle\nmodel: default\ncapabilities: ['tool: spawn_agent', 'spawn: [low]']"
            for used in [114, 228] {
                let answer = try await door.invoke(id, "spawn_agent", ["manifest": middle, "message": "go"])
                #expect(AgentDoor.value(answer)?["response"] as? String == "done", "\(answer)")
                #expect(try await Self.used(door, id, "tool: spawn_agent")["tokens"] == used)
            }
        }
    }

    /// A limit of money says no to a model whose price nobody knows; another try would be told the same.
    @Test func aChildWithoutAPriceIsTriedOnce() async throws {
        let provider = """
                - name: dear
                  type: openai-compatible
                  endpoint: http://127.0.0.1:9/v1
                  models: [{ alias: dear, model: dear }]

            """
        try await AgentDoor.with(provider) { door in
            let id = try await door.spawn(
                "name: boss\nmodel: dear\nlifecycle: persistent\n"
                    + "capabilities: [{grant: 'tool: spawn_agents', max_usd: 1}, 'spawn: *']")
            let child = ["manifest": "name: helper\nmodel: dear\n", "message": "go"]
            let answer = try await door.invoke(id, "spawn_agents", ["children": [child]])
            let error = try #require(answer["error"] as? [String: Any], "\(answer)")
            let text = try #require(error["message"] as? String, "\(answer)")
            #expect(text.contains("budget-needs-price") && text.contains(#""retried":false"#), "\(text)")
        }
    }

    /// Money as well, and over a level in between.
    @Test func aGrandchildEndsWhereTheMoneyEnds() async throws {
        let rules = """
              - when: { agent: middle, tool: spawn_agent }
                reply: { text: "{{result:spawn_agent.stop_reason}}", usage: { input: 0, output: 0 } }
              - when: { agent: middle }
                reply:
                  usage: { input: 0, output: 10 }
                  tools:
                    - name: spawn_agent
                      input: { manifest: "name: low\\nmodel: priced\\ncapabilities: ['tool: echo']", message: go }
              - reply: { tools: [{ name: echo, input: { message: more } }], usage: { input: 0, output: 20000 } }

            """
        try await DaemonFixture.with(config: nil) { f in
            let door = AgentDoor(fixture: f)
            try await door.restart(
                "name: own", "type: scripted", "scenario: \(try door.scenario(rules))",
                "models: [{ alias: priced, model: priced, input_per_mtok: 10, output_per_mtok: 10 }]")
            let id = try await door.spawn(
                "name: boss\nmodel: priced\nlifecycle: persistent\n"
                    + "capabilities: [{grant: 'tool: spawn_agent', max_usd: 0.5}, 'tool: echo', 'spawn: *']")
            let middle =
                "name: middle\nmodel: priced\ncapabilities: ['tool: spawn_agent', 'tool: echo', 'spawn: [low]']"
            let answer = try await door.invoke(id, "spawn_agent", ["manifest": middle, "message": "go"])
            let said = try #require(AgentDoor.value(answer), "\(answer)")
            #expect("\(said)".contains("budget_exceeded"), "\(answer)")
            let told = try await door.result("audit.tail", ["kinds": ["model_call_answered"], "count": 50])
            let low = (told["records"] as? [[String: Any]])?.filter {
                ($0["fields"] as? [String: Any])?["name"] as? String == "low"
            }
            // Two answers of 0.2 are paid for in full, and perhaps the part of a third.
            #expect((2...3).contains(low?.count ?? 0), "\(told)")
        }
    }

    /// Accounts go with whom they were opened for, those of trees and of grants as well; one that was left behind, with the next start.
    @Test func accountsGoWithTheirAgents() async throws {
        let rules = """
              - when: { agent: boss, tool: spawn_agent }
                reply: { text: done }
              - when: { agent: boss }
                reply: { tools: [{ name: spawn_agent, input: { manifest: "name: low\\nmodel: default", message: go } }] }

            """
        try await AgentDoor.with(rules: rules) { door in
            let f = door.fixture
            @Sendable func sql(_ statement: String) async throws -> String {
                let program = """
                    import sqlite3, sys
                    c = sqlite3.connect(sys.argv[1], timeout=60); print(*[r[0] for r in c.execute(sys.argv[2])]); c.commit()
                    """
                let done = try await f.run("/usr/bin/python3", ["-c", program, "\(f.home)/aegis.db", statement])
                try #require(done.code == 0, "\(done)")
                return done.out.trimmingCharacters(in: .whitespacesAndNewlines)
            }
            let accounts = "SELECT owner FROM inference_accounts ORDER BY owner"
            let manifest =
                "name: boss\nmodel: default\ncapabilities: [{grant: 'tool: spawn_agent', max_tokens: 1M}, 'spawn: [low]']"
            let run = try await door.result("agent.spawn_and_run", ["manifest": manifest, "message": "go"])
            #expect(run["response"] as? String == "done", "\(run)")
            #expect(try await sql(accounts).isEmpty)
            let id = try await door.spawn("name: stays\nmodel: default\nlifecycle: persistent")
            _ = try await door.result("agent.run", ["agent_id": id, "message": "hello"])
            #expect(try await sql(accounts) == "agent:\(id) tree:\(id)")
            try await f.succeed("down")
            for owner in ["tree:a-0123456789abcdef", "grant:g-0123456789abcdef"] {
                _ = try await sql(
                    "INSERT INTO inference_accounts SELECT '\(owner)', parent, max_tokens, max_micro_usd, period_ms, period_start, used_tokens, used_micro_usd, input, output, cache_read, cache_write, estimated, total_micro_usd, calls, above FROM inference_accounts LIMIT 1"
                )
            }
            try await f.up()
            #expect(try await sql(accounts) == "agent:\(id) tree:\(id)")
        }
    }

    /// One capability by its grant's id, in both ways in, and then all: what is asked for is refused at once, and only what is
    /// the agent's can be named.
    @Test func grantsAreTakenBackByIdAndTogether() async throws {
        try await AgentDoor.with { door in
            let id = try await door.spawn("worker", ["tool: echo", "tool: memory_store", "tool: memory_query"])
            let other = try await door.spawn("other", ["tool: echo"])
            func grant(_ agent: String, _ resource: String) async throws -> String {
                let answer = try await door.result("agent.grants", ["agent_id": agent])
                let grants = try #require(answer["grants"] as? [[String: Any]], "\(answer)")
                let record = grants.first { "\($0["terms"] ?? "")".contains(resource) }
                return try #require(record?["id"] as? String, "\(answer)")
            }
            let foreign = try await grant(other, "tool: echo")
            #expect(
                try await door.problem("agent.revoke", ["agent_id": id, "capability": foreign]) == "grant-not-found")
            let first = try await grant(id, "tool: echo")
            let taken = try await door.result("agent.revoke", ["agent_id": id, "capability": first])
            #expect(taken["revoked"] as? [String] == [first] && taken["count"] as? Int == 1, "\(taken)")
            #expect(AgentDoor.code(try await door.invoke(id, "echo", ["message": "x"])) == "grant-revoked")
            let second = try await grant(id, "tool: memory_query")
            let word = try await door.fixture.aegis("agent", "revoke", id, second)
            #expect(word.code == 0 && word.out.hasPrefix("1 taken back from \(id)"), "\(word)")
            #expect(AgentDoor.code(try await door.invoke(id, "memory_query", ["query": "x"])) == "grant-revoked")
            let note = ["content": "x", "category": "fact"]
            #expect(AgentDoor.value(try await door.invoke(id, "memory_store", note)) != nil)
            let rest = try await door.fixture.aegis("agent", "revoke", id)
            #expect(rest.code == 0, "\(rest)")
            #expect(AgentDoor.code(try await door.invoke(id, "memory_store", note)) == "grant-revoked")
            #expect(AgentDoor.value(try await door.invoke(other, "echo", ["message": "x"])) != nil)
        }
    }
}
