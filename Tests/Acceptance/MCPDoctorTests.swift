import Foundation
import Testing

/// What `aegis doctor` says of MCP servers.
@Suite struct MCPDoctorTests {
    private struct Report: Decodable {
        struct Check: Decodable {
            var name: String
            var status: String
            var detail: String
            var hint: String?
        }
        var checks: [Check]
    }

    private static func checks(_ f: DaemonFixture) async throws -> [String: Report.Check] {
        let json = try await f.aegis("doctor", "--output", "json")
        let all = try JSONDecoder().decode(Report.self, from: Data(json.stdout)).checks
        return Dictionary(uniqueKeysWithValues: all.filter { $0.name.hasPrefix("mcp ") }.map { ($0.name, $0) })
    }

    private static let server = #"""
        import json, sys
        for line in sys.stdin:
            asked = json.loads(line)
            if "id" not in asked:
                continue
            if asked["method"] == "initialize":
                result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "s"}}
            else:
                result = {"tools": [{"name": "say", "inputSchema": {"type": "object"}}]}
            print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
        """#

    private static func servers(_ place: String, port: Int) -> String {
        let here = "command: [python3, \(place)/server.py], host: true, user: nobody, mounts: [\"\(place):\(place)\"]"
        return """
              mcp_servers:
                - { name: inside, command: [python3, /srv/server.py], mounts: ["\(place):/srv"], protocol: "2025-11-25" }
                - { name: here, \(here), protocol: "2025-11-25" }
                - { name: wide, \(here), network: { mode: host }, protocol: "2025-11-25" }
                - { name: silent, command: [sleep, "100000"], network: { mode: allow, allow: [a.example] } }
                - { name: far, url: "http://127.0.0.1:\(port)/mcp?key=k1", headers: { X-Key: k }, protocol: "2026-07-28" }
                - { name: clear, url: "http://mcp.invalid/mcp" }
                - { name: unused, enabled: false, command: [x] }

            """
    }

    @Test func itSaysWhatEachServerReachesAndWhetherItAnswers() async throws {
        let place = "/tmp/aegis-test-mcp-doctor-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: place) }
        try Self.server.write(toFile: "\(place)/server.py", atomically: true, encoding: .utf8)
        let program = LocalServer.ofTool("TOOL = {'name': 'say', 'inputSchema': {'type': 'object'}}\n")
        try await DaemonFixture.with(config: nil) { f in
            try await LocalServer.with(f, program) { server in
                try await f.succeed("down")
                try AgentDoor.configuration(f, Self.servers(place, port: server.port))
                try await f.up()
                try await Self.check(f, place, port: server.port)
            }
        }
    }

    private static func check(_ f: DaemonFixture, _ place: String, port: Int) async throws {
        // A busy machine may be late with starting them all.
        var found: [String: Report.Check] = [:]
        try await f.eventually("those that can answer do") {
            found = try await checks(f)
            return ["inside", "here", "wide", "far"].allSatisfy {
                found["mcp \($0)"]?.detail.hasSuffix("; it answers") == true
            }
        }
        let expected: [(name: String, status: String, words: [String])] = [
            ("inside", "ok", ["in an instance with \(place):/srv and no network"]),
            ("here", "warning", ["at the host as 'nobody' and not in a sandbox", "no network but a loopback"]),
            ("wide", "warning", ["the host's network", "127.0.0.1"]),
            ("silent", "warning", ["none of the host's folders and a network that reaches a.example; "]),
            ("far", "ok", ["at http://127.0.0.1:\(port)/mcp?•••, with X-Key: what agents tell its tools goes there"]),
            ("clear", "warning", ["for everybody on the way to read"]),
        ]
        #expect(found.count == expected.count, "\(found.keys)")
        for (name, status, words) in expected {
            let check = try #require(found["mcp \(name)"], "\(found.keys)")
            #expect(check.status == status && words.allSatisfy { check.detail.contains($0) }, "\(check)")
            #expect((check.hint == nil) == (status == "ok"), "\(check)")
            #expect(check.detail.hasSuffix("; it answers") != ["silent", "clear"].contains(name), "\(check)")
        }
        // Addresses are for who runs the node, and so is having servers started.
        try await AgentDoor(fixture: f).openToAll()
        let text = try await f.run(
            "/usr/bin/setpriv",
            ["--reuid", "65534", "--regid", "65534", "--clear-groups", DaemonFixture.cli, "doctor"])
        #expect(text.out.contains("Kernel") && !text.out.contains("mcp"), "\(text)")
    }
}
