import Foundation
import Testing

/// A limit that was handed on holds for all who work by it together, at the same time and over the end of a daemon.
@Suite struct AgentSharedLimitTests {
    private static func used(_ door: AgentDoor, _ agent: String) async throws -> Int {
        let answer = try await door.result("agent.grants", ["agent_id": agent])
        let grants = try #require(answer["grants"] as? [[String: Any]], "\(answer)")
        let record = try #require(grants.first { "\($0["terms"] ?? "")".contains("spawn_agent\"") }, "\(answer)")
        return try #require((record["used"] as? [String: Int])?["tokens"], "\(record)")
    }

    /// Two children, started by a call that nothing limits, each start one of their own by the same limited grant.
    @Test func holdersWhoWorkAtTheSameTimeShareIt() async throws {
        let rules = """
              - when: { agent: middle, tool: spawn_agent }
                reply: { text: "{{result:spawn_agent.stop_reason}}", usage: { input: 1, output: 1 } }
              - when: { agent: middle }
                reply:
                  usage: { input: 1, output: 1 }
                  tools:
                    - name: spawn_agent
                      input: { manifest: "name: looper\\nmodel: default\\ncapabilities: ['tool: echo']", message: go }
              - when: { agent: looper }
                latency: 300ms
                reply: { tools: [{ name: echo, input: { message: more } }], usage: { input: 60, output: 50 } }

            """
        try await AgentDoor.with(rules: rules) { door in
            let id = try await door.spawn(
                "name: boss\nmodel: default\nlifecycle: persistent\n"
                    + "capabilities: [{grant: 'tool: spawn_agent', max_tokens: 900}, 'tool: spawn_agents', 'tool: echo', 'spawn: *']"
            )
            let middle = [
                "manifest":
                    "name: middle\nmodel: default\ncapabilities: ['tool: spawn_agent', 'tool: echo', 'spawn: [looper]']",
                "message": "go",
            ]
            let both = try await door.invoke(id, "spawn_agents", ["children": [middle, middle]])
            let answers = try #require(AgentDoor.value(both)?["children"] as? [[String: Any]], "\(both)")
            #expect(answers.map { $0["response"] as? String } == ["budget_exceeded", "budget_exceeded"], "\(both)")
            // At most one answer of each goes beyond it; each by itself would have used it up.
            let used = try await Self.used(door, id)
            #expect((600...1120).contains(used), "\(used)")
            let report = try await door.result("agent.budget", ["agent_id": id])
            // Everything was paid for once: the two in between have asked twice each.
            #expect((report["used"] as? [String: Any])?["tokens"] as? Int == used + 8, "\(report)")
        }
    }

    /// Of two children of different agents, each is told what both have left to them by the one grant.
    @Test func whatIsLeftIsToldToAllWhoShareIt() async throws {
        func child(_ name: String) -> String {
            "name: \(name)\\nmodel: default\\ncapabilities: ['tool: echo']\\napproval_required: [echo]"
        }
        func rule(_ agent: String, _ tool: String, _ input: String, _ usage: String) -> String {
            """
              - when: { agent: \(agent) }
                reply: { tools: [{ name: \(tool), input: \(input) }], usage: \(usage) }

            """
        }
        let small = "{ input: 1, output: 1 }"
        let rules =
            rule("one", "spawn_agent", "{ manifest: \"\(child("heavy"))\", message: go }", small)
            + rule("two", "spawn_agent", "{ manifest: \"\(child("light"))\", message: go }", small)
            + rule("heavy", "echo", "{ message: x }", "{ input: 50000, output: 40000 }")
            + rule("light", "echo", "{ message: x }", "{ input: 60, output: 40 }")
        try await AgentDoor.with(rules: rules) { door in
            let id = try await door.spawn(
                "name: boss\nmodel: default\nlifecycle: persistent\n"
                    + "capabilities: [{grant: 'tool: spawn_agent', max_tokens: 100k}, 'tool: spawn_agents', 'tool: echo', 'spawn: *']"
            )
            let children = ["one", "two"].map { name in
                [
                    "manifest":
                        "name: \(name)\nmodel: default\ncapabilities: [{grant: 'tool: spawn_agent', max_tokens: 100k}, 'tool: echo', 'spawn: *']",
                    "message": "go",
                ]
            }
            async let both = door.invoke(id, "spawn_agents", ["children": children])
            /// Of the two children, by name, while they wait for somebody to let them go on.
            @Sendable func reports() async throws -> [String: [String: Any]] {
                let all = try await door.result("agent.budget")["budgets"] as? [[String: Any]] ?? []
                let pairs = all.compactMap { one in (one["name"] as? String).map { ($0, one) } }
                return Dictionary(pairs) { first, _ in first }.filter { ["heavy", "light"].contains($0.key) }
            }
            func tokens(_ report: [String: Any]?, _ name: String) -> Int? {
                (report?[name] as? [String: Any])?["tokens"] as? Int
            }
            try await door.fixture.eventually("both have been answered", within: .seconds(90)) {
                let told = try await reports()
                return tokens(told["heavy"], "used") == 90_000 && tokens(told["light"], "used") == 100
            }
            let told = try await reports()
            for name in ["heavy", "light"] { #expect(tokens(told[name], "left") == 9_900, "\(name): \(told)") }
            _ = try await door.result("agent.stop", ["agent_id": id])
            _ = try await both
        }
    }

    /// What children had used when the daemon was killed counts at the grant by which they were started, once; and whose grant it is
    /// stays known.
    @Test func whatWasUsedOutlivesItsDaemon() async throws {
        let rules = """
              - when: { agent: boss, tool: spawn_agent }
                reply: { text: "gave up" }
              - when: { agent: boss }
                reply:
                  tools:
                    - name: spawn_agent
                      input: { manifest: "name: slow\\nmodel: default\\ncapabilities: ['tool: echo']", message: go }
              - when: { agent: slow, turn: 1 }
                reply: { tools: [{ name: echo, input: { message: more } }], usage: { input: 60, output: 50 } }
              - when: { agent: slow }
                latency: 10m
                reply: { text: never }

            """
        try await AgentDoor.with(rules: rules) { door in
            let f = door.fixture
            let id = try await door.spawn(
                "name: boss\nmodel: default\nlifecycle: persistent\n"
                    + "capabilities: [{grant: 'tool: spawn_agent', max_tokens: 1M}, 'tool: echo', 'spawn: *']")
            let sent = try await door.result("agent.run", ["agent_id": id, "message": "go", "wait": false])
            try await f.eventually("the child has asked for the second time") {
                let told = try await door.result("audit.tail", ["kinds": ["model_call_started"], "count": 50])
                return "\(told)".components(separatedBy: "slow").count > 2
            }
            kill(try #require(f.daemonPid), SIGKILL)
            try await f.up()
            let reply = try await door.result(
                "agent.reply", ["agent_id": id, "trace_id": sent["trace_id"] ?? "", "wait": true])
            #expect(reply["response"] as? String == "gave up", "\(reply)")
            let used = try await Self.used(door, id)
            #expect(used >= 110)
            // The child did not outlive its daemon, and that is told as well.
            let stopped = try await door.result("audit.tail", ["kinds": ["agent_stopped"], "count": 5])
            let child = (stopped["records"] as? [[String: Any]])?.last
            #expect(child?["parent"] as? String == id && "\(stopped)".contains("its daemon ended"), "\(stopped)")
            let told = try await door.result("audit.tail", ["kinds": ["capability_settled"], "agent": id, "count": 10])
            #expect("\(told)".contains("recalled"), "\(told)")
            #expect(AgentDoor.value(try await door.invoke(id, "echo", ["message": "x"])) != nil)
            let uses = try await door.result("audit.tail", ["kinds": ["capability_used"], "count": 1])
            let last = (uses["records"] as? [[String: Any]])?.last
            #expect(last?["agent"] as? String == id, "\(uses)")
            try await f.succeed("down")
            try await f.up()
            #expect(try await Self.used(door, id) == used)
        }
    }
}
