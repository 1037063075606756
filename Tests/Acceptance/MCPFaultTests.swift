import Foundation
import Testing

/// Tools of others that hang while the daemon ends.
@Suite struct MCPFaultTests {
    /// A server over its standard streams whose tool writes down that it was called, and never answers.
    private static let overStreams = ForeignClients.server(
        #"""
        tools = [tool("work", {})]
        def call(name, given):
            with open("/srv/called", "a") as file: file.write("called\n")
        """#)

    /// The same over HTTP.
    static let overHTTP = LocalServer.ofTool(
        #"""
        TOOL = {"name": "work", "inputSchema": {"type": "object"}}
        def call(handler, given):
            with open(sys.argv[1] + ".called", "a") as file: file.write("called\n")
            while handler.connection.recv(4096): pass
        """#)

    private static let rules = """
          - { when: { tool: mcp__slow__work }, reply: { text: "heard {{result}}" } }
          - { when: { tool: exec }, reply: { text: "heard {{result}}" } }
          - when: { message: exec }
            reply: { tools: [{ name: exec, input: { argv: [sh, -c, "echo called >> /workspace/called; exec sleep 1000"] } }] }
          - { when: { message: call }, reply: { tools: [{ name: mcp__slow__work, input: {} }] } }

        """

    /// A daemon that is told to end takes from its agents what their tools work with: what was under way may have happened, and
    /// its agents are told so by the next daemon. It has not failed, and it is not made again.
    private static func interrupt(_ door: AgentDoor, _ message: String, called: (String) -> String) async throws {
        let f = door.fixture
        let agent = try await door.spawn(
            """
            name: caller
            model: default
            lifecycle: persistent
            capabilities: ["tool: *", "exec: *", "file_read: /workspace/**", "file_write: /workspace/**"]
            """)
        let file = called(agent)
        func calls() -> String { (try? String(contentsOfFile: file, encoding: .utf8)) ?? "" }
        let sent = try await door.result("agent.run", ["agent_id": agent, "message": message, "wait": false])
        try await f.eventually("the tool is called") { calls() == "called\n" }
        try await f.succeed("down")
        try await f.up()
        let reply = try await door.result(
            "agent.reply", ["agent_id": agent, "trace_id": sent["trace_id"] ?? "", "wait": true])
        #expect(reply["stop_reason"] as? String == "complete", "\(reply)")
        let response = reply["response"] as? String ?? ""
        #expect(response.hasPrefix("heard ") && response.contains("may or may not have happened"), "\(reply)")
        #expect(response.contains("interrupted") && calls() == "called\n", "\(reply)")
        let told = try await door.result("audit.tail", ["kinds": ["tool_result", "tool_resumed"], "agent": agent])
        let fields = (told["records"] as? [[String: Any]])?.compactMap { $0["fields"] as? [String: Any] }
        #expect(fields?.contains { $0["success"] as? Bool == true } == false, "\(told)")
        #expect(try await f.aegis("audit", "verify").code == 0)
    }

    @Test func aToolOfAnInstanceIsUnderWayWhenTheDaemonEnds() async throws {
        let place = "/tmp/aegis-test-mcp-fault-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: place) }
        try Self.overStreams.write(toFile: "\(place)/server.py", atomically: true, encoding: .utf8)
        let server =
            "  mcp_servers: [{ name: slow, command: [python3, /srv/server.py], mounts: ['\(place):/srv:rw'] }]\n"
        try await AgentDoor.with(server, rules: Self.rules) { door in
            try await Self.interrupt(door, "call") { _ in "\(place)/called" }
            #expect(try await door.fixture.aegis("mcp", "list").code == 0)
        }
    }

    @Test func aToolBehindHTTPIsUnderWayWhenTheDaemonEnds() async throws {
        try await DaemonFixture.with(config: nil) { f in
            try await LocalServer.with(f, Self.overHTTP) { server in
                try await f.succeed("down")
                let more = "  mcp_servers: [{ name: slow, url: 'http://127.0.0.1:\(server.port)/mcp' }]\n"
                try AgentDoor.configuration(f, more, rules: Self.rules)
                try await f.up()
                try await Self.interrupt(AgentDoor(fixture: f), "call") { _ in "\(server.file).called" }
            }
        }
    }

    @Test(arguments: backends) func aProgramIsUnderWayWhenTheDaemonEnds(_ backend: String) async throws {
        try await AgentDoor.with("  runtime: { default_isolation: \(backend) }\n", rules: Self.rules) { door in
            try await Self.interrupt(door, "exec") { "\(door.fixture.home)/agents/\($0)/workspace/called" }
        }
    }
}
