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
