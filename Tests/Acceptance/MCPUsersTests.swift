import Foundation
import Testing

/// MCP servers that some users of the node may use, and others not.
@Suite struct MCPUsersTests {
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
                result = {"content": [{"type": "text", "text": "said"}]}
            print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
        """#

    @Test func aServerIsThereForWhomItsEntryNames() async throws {
        let place = "/tmp/aegis-test-mcp-users-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: place) }
        try Self.server.write(toFile: "\(place)/server.py", atomically: true, encoding: .utf8)
        let entry = "command: [python3, /srv/server.py], mounts: [\"\(place):/srv\"], protocol: \"2025-11-25\""
        let servers = """
              mcp_servers:
                - { name: all, \(entry) }
                - { name: some, \(entry), users: [nobody, "4242"] }

            """
        let manifest = "name: x\nmodel: default\nlifecycle: persistent\ncapabilities: ['tool: *']\n"
        try await AgentDoor.with(servers) { door in
            try await door.openToAll()
            try await door.fixture.eventually("both are listed") {
                let listed = try await door.fixture.aegis("tool", "list").out
                return listed.contains("mcp.all.say") && listed.contains("mcp.some.say")
            }
            for (user, may) in [(65_534, true), (4242, true), (4343, false)] {
                let agent = try await door.spawn(manifest, user: user)
                let said = try await door.invoke(agent, "mcp.all.say", [:], user: user)
                #expect(AgentDoor.value(said)?["text"] as? String == "said", "\(user): \(said)")
                let asked = try await door.invoke(agent, "mcp.some.say", [:], user: user)
                #expect((AgentDoor.value(asked)?["text"] as? String == "said") == may, "\(user): \(asked)")
                if !may { #expect(AgentDoor.code(asked) == "tool-unknown", "\(asked)") }
                // It is in no list either of who may not use it.
                let lists = [
                    "\(try await door.result("tool.list", user: user))",
                    "\(try await door.result("tool.list", ["agent_id": agent], user: user))",
                ]
                for list in lists { #expect(list.contains("mcp.some.say") == may && list.contains("mcp.all.say")) }
                let names = "\(try await door.result("mcp.list", user: user))"
                #expect(names.contains("mcp.some.say") == may && names.contains("mcp.all.say"), "\(names)")
            }
            // Who runs the node uses all of them.
            let own = try await door.spawn(manifest)
            let said = try await door.invoke(own, "mcp.some.say", [:])
            #expect(AgentDoor.value(said)?["text"] as? String == "said", "\(said)")
        }
    }

    @Test func aUserThatThereIsNotIsAMistake() async throws {
        try await AgentDoor.with { door in
            let f = door.fixture
            try await f.succeed("down")
            try AgentDoor.configuration(f, "  mcp_servers: [{ name: s, command: [x], users: [nobody-at-all] }]\n")
            let up = try await f.aegis("up", "--ports", "auto")
            #expect(up.code != 0 && (up.out + up.err).contains("'nobody-at-all', who is not in /etc/passwd"), "\(up)")
            try AgentDoor.configuration(f, "")
            try await f.up()
        }
    }
}
