import Foundation
import Testing

/// Goals reach the MCP servers of the node where somebody says so.
@Suite struct MCPGoalTests {
    private static let server = #"""
        import json, sys
        for line in sys.stdin:
            asked = json.loads(line)
            if "id" not in asked:
                continue
            if asked["method"] == "initialize":
                result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "s"}}
            elif asked["method"] == "tools/list":
                result = {"tools": [{"name": "say", "inputSchema": {"type": "object"}}]}
            else:
                result = {"content": [{"type": "text", "text": "said by a server"}]}
            print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
        """#

    private static let rules = """
          - when: { agent: child, turn: 1 }
            reply: { tools: [{ name: mcp__all__say, input: {} }] }
          - when: { message: "ask", turn: 1 }
            reply: { tools: [{ name: mcp__all__say, input: {} }] }
          - when: { message: "hand on", turn: 1 }
            reply:
              tools:
                - name: spawn_agent
                  input: { manifest: "name: child\\nmodel: default\\ncapabilities: ['tool: mcp.all.say']", message: go }
          - when: { turn: 2 }
            reply: { text: "{{result}}" }

        """

    @Test func aGoalReachesTheServersThatAreGrantedToItAndNoOthers() async throws {
        let place = "/tmp/aegis-test-mcp-goal-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: place) }
        try Self.server.write(toFile: "\(place)/server.py", atomically: true, encoding: .utf8)
        let servers = """
              mcp_servers:
                - { name: all, command: [python3, /srv/server.py], mounts: ["\(place):/srv"], protocol: "2025-11-25" }

            """
        try await AgentDoor.with(servers, rules: Self.rules) { door in
            let f = door.fixture
            try await f.eventually("its tools are there") {
                try await f.aegis("tool", "list").out.contains("mcp.all.say")
            }
            // Neither itself nor through a child; and it is told what has to be written.
            let alone = try await f.succeed("goal", "ask")
            #expect(alone.out.contains("capability-denied") && !alone.out.contains("said by a server"), "\(alone)")
            #expect(alone.out.contains("aegis goal --grant 'tool: mcp.all.say'"), "\(alone)")
            let handed = try await f.succeed("goal", "hand on")
            #expect(handed.out.contains("grant-too-wide") && !handed.out.contains("said by a server"), "\(handed)")
            let used = try await door.result("audit.tail", ["kinds": ["tool_invoked"], "count": 1000])
            let tools = (used["records"] as? [[String: Any]] ?? []).map {
                ($0["fields"] as? [String: Any])?["tool"] as? String
            }
            #expect(tools == ["spawn_agent"], "\(used)")

            // Whoever hands the goal over names it, or the author of a manifest has.
            for text in ["ask", "hand on"] {
                let named = try await f.succeed("goal", "--grant", "tool: mcp.all.say", text)
                #expect(named.out.contains("said by a server"), "\(named)")
            }
            let file = f.path("wide.yaml")
            try "name: wide\nmodel: default\ncapabilities: ['tool: *']\n".write(
                toFile: file, atomically: true, encoding: .utf8)
            try await f.succeed("agent", "deploy", file)
            let wide = try await f.succeed("goal", "--manifest", "wide", "ask")
            #expect(wide.out.contains("said by a server"), "\(wide)")
            // A grant that is none is said at once.
            let wrong = try await f.aegis("goal", "--grant", "tool mcp.all.say", "ask")
            #expect(wrong.code == 2 && wrong.err.contains("invalid-capability"), "\(wrong)")
        }
    }

    /// What a goal may call is all that there is, but for what belongs to its memory and to servers.
    @Test func theManifestThatComesWithAegisNamesAllToolsOfOurOwn() async throws {
        try await AgentDoor.with(rules: "  - reply: { text: x }\n") { door in
            let all = try await door.result("tool.list")["tools"] as? [[String: Any]]
            _ = try await door.result("goal.show", ["goal_id": try await goal(door), "wait": true])
            let told = try await door.result("audit.tail", ["kinds": ["agent_spawned"], "count": 10])
            let record = try #require((told["records"] as? [[String: Any]])?.first?["fields"] as? [String: Any])
            let held = try #require(record["grants"] as? [String]).filter { $0.hasPrefix("tool: ") }
            let names = (all ?? []).compactMap { $0["name"] as? String }.filter { !$0.hasPrefix("memory_") }
            #expect(Set(held) == Set((names + ["web_search"]).map { "tool: \($0)" }))
        }
    }

    private func goal(_ door: AgentDoor) async throws -> String {
        try #require(try await door.result("goal.submit", ["goal": "go"])["id"] as? String)
    }
}
