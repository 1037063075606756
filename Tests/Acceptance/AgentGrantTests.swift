import Foundation
import Testing

/// Grants and their limits, through `agentd.sock`: counted once for all who share them, and nobody's but their holder's.
@Suite struct AgentGrantTests {
    /// Three children, one of which is tried twice, have together the calls that their parent had.
    @Test func aLimitIsSharedByAllChildrenAndNotRefilledByATry() async throws {
        let rules = """
              - when: { agent: flaky, tool: echo }
                times: 1
                fail: { status: 400, message: it is broken }
              - when: { agent: "*", tool: echo }
                reply: { text: "{{result}}" }
              - when: { message: "call" }
                reply: { tools: [{ name: echo, input: { message: tide } }, { name: echo, input: { message: tide } }] }

            """
        try await AgentDoor.with(rules: rules) { door in
            let boss = try await door.spawn(
                "name: boss\nmodel: default\nlifecycle: persistent\ncapabilities:\n"
                    + "  - { grant: 'tool: echo', max_calls: 5 }\n  - 'tool: spawn_agents'\n  - 'spawn: [steady, flaky]'\n"
            )
            func child(_ name: String) -> [String: String] {
                ["manifest": "name: \(name)\nmodel: default\ncapabilities: ['tool: echo']\n", "message": "call"]
            }
            let answer = try await door.invoke(
                boss, "spawn_agents", ["children": [child("flaky"), child("steady"), child("steady")]])
            let children = try #require(AgentDoor.value(answer)?["children"] as? [[String: Any]], "\(answer)")
            #expect(children.map { $0["retried"] as? Bool } == [true, false, false], "\(answer)")
            // Eight calls were tried.
            let told = try await door.result("audit.tail", ["kinds": ["tool_invoked", "tool_refused"], "count": 100])
            let calls = (told["records"] as? [[String: Any]] ?? []).filter {
                ($0["fields"] as? [String: Any])?["tool"] as? String == "echo"
            }
            #expect(calls.count { $0["kind"] as? String == "tool_invoked" } == 5, "\(calls)")
            #expect(calls.count { $0["kind"] as? String == "tool_refused" } == 3, "\(calls)")
            let own = try await door.invoke(boss, "echo", ["message": "x"])
            #expect(AgentDoor.code(own) == "limit-calls-used-up", "\(own)")
        }
    }

    /// A search reads by all grants that let files be read: what a limited one of them allows is used up by it.
    @Test func whatIsFoundCountsAtTheGrantOfEachFile() async throws {
        try await AgentDoor.with { door in
            let id = try await door.spawn(
                "name: a\nmodel: default\nlifecycle: persistent\ncapabilities:\n  - 'tool: *'\n  - 'file_write: /workspace/**'\n"
                    + "  - 'file_read: /workspace'\n"
                    + "  - { grant: 'file_read: /workspace/data/**', max_bytes: 100, max_calls: 1 }\n")
            _ = try await door.invoke(id, "file_write", ["path": "/workspace/data/text", "content": "0123456789"])
            func search() async throws -> [String: Any] {
                let answer = try await door.invoke(id, "grep", ["pattern": ".", "path": "/workspace"])
                return try #require(AgentDoor.value(answer), "\(answer)")
            }
            let first = try await search()
            #expect("\(first)".contains("0123456789"), "\(first)")
            let listed = try await door.result("agent.grants", ["agent_id": id])["grants"] as? [[String: Any]]
            let limited = listed?.first { "\($0["terms"] ?? "")".contains("data/**") }
            #expect(limited?["calls"] as? Int == 1, "\(listed ?? [])")
            #expect((limited?["used"] as? [String: Int])?["bytes"] == 10, "\(listed ?? [])")
            let second = try await search()
            #expect(!"\(second)".contains("0123456789"), "\(second)")
            #expect((second["skipped"] as? [String: Int])?["not_granted"] == 1, "\(second)")
            let read = try await door.invoke(id, "file_read", ["path": "/workspace/data/text"])
            #expect(AgentDoor.code(read) == "limit-calls-used-up", "\(read)")
        }
    }

    /// A rate and a time hold as they are written.
    @Test func aRateAndATimeEndAGrant() async throws {
        try await AgentDoor.with { door in
            let id = try await door.spawn(
                "name: a\nmodel: default\nlifecycle: persistent\ncapabilities:\n  - { grant: 'tool: echo', per_minute: 2 }\n"
                    + "  - { grant: 'tool: file_list', expires: 2s }\n  - 'file_read: /workspace/**'\n")
            var codes: [String?] = []
            for _ in 0..<30 { codes.append(AgentDoor.code(try await door.invoke(id, "echo", ["message": "x"]))) }
            #expect(codes.first == .some(nil) && codes.contains("limit-too-fast"), "\(codes)")
            try await door.fixture.eventually("it has expired") {
                AgentDoor.code(try await door.invoke(id, "file_list", ["path": "/workspace"])) == "grant-expired"
            }
            // A daemon that is killed does not make it new.
            try await door.fixture.crash()
            try await door.fixture.up()
            let list = try await door.invoke(id, "file_list", ["path": "/workspace"])
            #expect(AgentDoor.code(list) == "grant-expired", "\(list)")
        }
    }

    /// Who calls is said by the runtime: neither a field of a call, nor an id that is known, nor a name gives somebody else's grants.
    @Test func nobodyActsWithTheGrantsOfAnother() async throws {
        try await AgentDoor.with { door in
            let rich = try await door.spawn("rich", ["tool: echo", "tool: file_write", "file_write: /workspace/**"])
            let poor = try await door.spawn("poor", ["tool: echo"])
            let granted = try await door.result("agent.grants", ["agent_id": rich])["grants"] as? [[String: Any]]
            let grant = try #require(granted?.compactMap { $0["id"] as? String }.first)
            let write: [String: Any] = ["path": "/workspace/x", "content": "x"]
            #expect(AgentDoor.code(try await door.invoke(poor, "file_write", write)) == "capability-denied")
            for field in ["agent_id", "grant", "holder", "capability", "_meta"] {
                let said = write.merging([field: field == "agent_id" ? rich : grant]) { $1 }
                #expect(
                    AgentDoor.code(try await door.invoke(poor, "file_write", said)) == "arguments-invalid", "\(field)")
            }
            for field in ["grant", "holder", "uid", "owner"] {
                var parameters: [String: Any] = ["agent_id": poor, "tool": "file_write", "input": write]
                parameters[field] = rich
                let asked = try await door.call("tool.invoke", parameters)
                let number = (asked["error"] as? [String: Any])?["code"] as? Int
                #expect(number == -32602, "\(field): \(asked)")
            }
            // The agents of another user are not there for it, whatever it knows of them.
            try await door.openToAll()
            let theirs = try await door.invoke(rich, "file_write", write, user: 65_534)
            #expect(AgentDoor.code(theirs) == "agent-not-found", "\(theirs)")
            for (method, more) in [
                ("agent.run", ["message": "go"]), ("agent.stop", [:]), ("agent.grants", [:]), ("agent.status", [:]),
                ("agent.revoke", ["capability": grant]),
            ] as [(String, [String: String])] {
                let parameters = ["agent_id": rich].merging(more) { $1 }
                #expect(try await door.problem(method, parameters, user: 65_534) == "agent-not-found", "\(method)")
            }
            // One that is gone has left nothing that could be used.
            _ = try await door.result("agent.stop", ["agent_id": rich])
            #expect(AgentDoor.code(try await door.invoke(rich, "file_write", write)) == "agent-not-found")
            let again = try await door.spawn("rich", ["tool: echo"])
            #expect(AgentDoor.code(try await door.invoke(again, "file_write", write)) == "capability-denied")
        }
    }

    /// Who is run once leaves its place: more of them than may live at once.
    @Test func whoAnswersOnceLeavesItsPlace() async throws {
        try await AgentDoor.with("  agents: { max_live: 3 }\n") { door in
            for number in 0..<8 {
                let run = try await door.result(
                    "agent.spawn_and_run", ["manifest": "name: once\nmodel: default", "message": "go"])
                #expect(run["stop_reason"] as? String == "complete", "\(number): \(run)")
            }
            #expect((try await door.result("agent.list")["agents"] as? [Any])?.isEmpty == true)
        }
    }
}
