import Foundation
import Testing

/// Schemas of others, as the standard means them.
@Suite struct MCPSchemaTests {
    private static let server = LocalServer.ofTool(
        #"""
        TOOL = {"name": "work", "inputSchema": {
            "type": "object", "additionalProperties": False,
            "properties": {"word": {"type": "string", "pattern": "^[\\u4e00-\\u9fa5]+$"}},
            "patternProperties": {"^X-": {"type": "string"}}}}
        def call(handler, given): return "got " + json.dumps(given, sort_keys=True)

        """#)

    /// Patterns are those of ECMA-262, for names of fields as well.
    @Test func patternsOfASchemaAreReadAsTheyAreMeant() async throws {
        try await DaemonFixture.with(config: nil) { f in
            try await LocalServer.with(f, Self.server) { server in
                try await f.succeed("down")
                try AgentDoor.configuration(
                    f, "  mcp_servers: [{ name: s, url: 'http://127.0.0.1:\(server.port)/mcp' }]\n")
                try await f.up()
                let door = AgentDoor(fixture: f)
                let id = try await door.spawn("a", ["tool: mcp.s.work"])
                try await f.eventually("its tool is there") {
                    try await f.aegis("tool", "list").out.contains("mcp.s.work")
                }
                let taken = try await door.invoke(id, "mcp.s.work", ["word": "中文", "X-a": "b"])
                #expect(
                    AgentDoor.value(taken)?["text"] as? String == #"got {"X-a": "b", "word": "\u4e2d\u6587"}"#,
                    "\(taken)")
                let wrong: [[String: Any]] = [
                    ["word": "abc"], ["word": "中文\n"], ["X-a": 1], ["Y-a": "b"], ["words": "中文"],
                ]
                for input in wrong {
                    let refused = try await door.invoke(id, "mcp.s.work", input)
                    #expect(AgentDoor.code(refused) == "arguments-invalid", "\(input): \(refused)")
                }
            }
        }
    }
}
