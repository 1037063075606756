import Foundation
import Testing

/// What becomes of calls under way when what allowed them is taken back.
@Suite struct AgentRevocationTests {
    /// A child whose model never answers.
    private static let rules = "  - { when: { agent: helper }, fail: { hang: true } }\n"

    private static let manifest = """
        name: worker
        model: default
        lifecycle: persistent
        capabilities: ['tool: spawn_agent', 'tool: spawn_agents', 'spawn: [helper]', 'tool: mcp.slow.work']
        """

    /// Takes a tool back while a call of it waits, and gives what the call came to.
    private static func revoke(
        _ door: AgentDoor, _ id: String, _ tool: String, _ input: [String: String], children: Bool = false,
        underWay: @escaping @Sendable () async throws -> Bool
    ) async throws {
        async let call = door.call(
            "tool.invoke",
            ["agent_id": id, "tool": tool, "input": children ? ["children": [input, input]] as [String: Any] : input])
        try await door.fixture.eventually("the call of \(tool) is under way", within: .seconds(100)) {
            try await underWay()
        }
        _ = try await door.result("agent.revoke", ["agent_id": id, "capability": "tool: \(tool)"])
        let answer = try await call
        #expect(AgentDoor.code(answer) == "grant-revoked", "\(tool): \(answer)")
        let told = try await door.result("audit.tail", ["kinds": ["tool_result"], "agent": id])
        let last = (told["records"] as? [[String: Any]])?.last?["fields"] as? [String: Any]
        #expect(last?["tool"] as? String == tool && last?["code"] as? String == "grant-revoked", "\(told)")
    }

    /// Nobody waits for the time limit of what is not allowed any more: the call is ended, and its children with it.
    @Test func aCallThatWaitsEndsWithItsGrant() async throws {
        try await DaemonFixture.with(config: nil) { f in
            try await LocalServer.with(f, MCPFaultTests.overHTTP) { server in
                try await f.succeed("down")
                let more = "  mcp_servers: [{ name: slow, url: 'http://127.0.0.1:\(server.port)/mcp' }]\n"
                try AgentDoor.configuration(f, more, rules: Self.rules)
                try await f.up()
                let door = AgentDoor(fixture: f)
                let id = try await door.spawn(Self.manifest)
                let order = ["manifest": "name: helper\nmodel: default\n", "message": "go"]
                @Sendable func working() async throws -> Int {
                    let agents = try await door.result("agent.list")["agents"] as? [[String: Any]] ?? []
                    return agents.count { $0["name"] as? String == "helper" && $0["state"] as? String == "working" }
                }
                try await Self.revoke(door, id, "spawn_agent", order) { try await working() == 1 }
                #expect(try await working() == 0)
                try await Self.revoke(door, id, "spawn_agents", order, children: true) { try await working() == 2 }
                #expect(try await working() == 0)
                let called = "\(server.file).called"
                try await Self.revoke(door, id, "mcp.slow.work", [:]) { FileManager.default.fileExists(atPath: called) }
                #expect(try await f.aegis("audit", "verify").code == 0)
            }
        }
    }
}
