import AegisIO
import Foundation
import LinuxSys
import Testing

/// A client of `agentd.sock` that knows nothing of ours.
struct AgentDoor: Sendable {
    let fixture: DaemonFixture

    private static let client = """
        import json, socket, sys
        s = socket.socket(socket.AF_UNIX); s.settimeout(100); s.connect(sys.argv[1]); f = s.makefile('rwb')
        f.write(sys.stdin.buffer.read() + b'\\n'); f.flush()
        sys.stdout.buffer.write(f.readline())
        """

    private static func request(_ method: String, _ params: [String: Any]) throws -> [UInt8] {
        let request: [String: Any] = ["jsonrpc": "2.0", "id": 1, "method": method, "params": params]
        return Array(try JSONSerialization.data(withJSONObject: request))
    }

    private static func answer(_ result: CommandResult) throws -> [String: Any] {
        try #require(result.code == 0, "\(result)")
        return try #require(
            try JSONSerialization.jsonObject(with: Data(result.out.utf8)) as? [String: Any], "\(result.out)")
    }

    /// Calls a method and gives the whole answer; as somebody else with `user`.
    func call(_ method: String, _ params: [String: Any] = [:], user: Int? = nil) async throws -> [String: Any] {
        try Self.answer(try await send(method, params, user: user))
    }

    /// Calls a method, whether it is answered or not.
    @discardableResult
    func send(_ method: String, _ params: [String: Any] = [:], user: Int? = nil) async throws -> CommandResult {
        var words = ["/usr/bin/python3", "-c", Self.client, "\(fixture.home)/agentd.sock"]
        if let user {
            words = ["/usr/bin/setpriv", "--reuid", "\(user)", "--regid", "\(user)", "--clear-groups"] + words
        }
        return try await fixture.run(words[0], Array(words.dropFirst()), input: try Self.request(method, params))
    }

    /// Sends whatever bytes, and gives all that is answered until the daemon ends the connection.
    func raw(_ bytes: [UInt8]) async throws -> CommandResult {
        let script = """
            import socket, sys
            s = socket.socket(socket.AF_UNIX); s.settimeout(100); s.connect(sys.argv[1])
            s.sendall(sys.stdin.buffer.read()); s.shutdown(socket.SHUT_WR)
            while part := s.recv(65536): sys.stdout.buffer.write(part)
            """
        return try await fixture.run(
            "/usr/bin/python3", ["-c", script, "\(fixture.home)/agentd.sock"], input: bytes)
    }

    /// Calls a method that succeeds.
    func result(_ method: String, _ params: [String: Any] = [:], user: Int? = nil) async throws -> [String: Any] {
        let answer = try await call(method, params, user: user)
        return try #require(answer["result"] as? [String: Any], "\(method): \(answer)")
    }

    /// The word of a method's error; nil when it succeeds.
    func problem(_ method: String, _ params: [String: Any] = [:], user: Int? = nil) async throws -> String? {
        Self.code(try await call(method, params, user: user))
    }

    static func code(_ answer: [String: Any]) -> String? {
        ((answer["error"] as? [String: Any])?["data"] as? [String: Any])?["code"] as? String
    }

    /// Spawns an agent.
    func spawn(_ manifest: String, user: Int? = nil) async throws -> String {
        try #require(try await result("agent.spawn", ["manifest": manifest], user: user)["agent_id"] as? String)
    }

    /// Spawns an agent that lives until it is stopped, with the default model.
    func spawn(_ name: String, _ capabilities: [String], _ more: String = "") async throws -> String {
        let list = capabilities.map { "\"\($0)\"" }.joined(separator: ", ")
        return try await spawn("name: \(name)\nmodel: default\nlifecycle: persistent\ncapabilities: [\(list)]\n\(more)")
    }

    /// A conversation of five messages, each about half of what a small window takes.
    ///
    /// - Returns: the answers.
    func talk(with agent: String) async throws -> [String?] {
        var answers: [String?] = []
        for number in 1...5 {
            let message = "part \(number): " + String(repeating: "tide ", count: 320)
            let reply = try await result("agent.run", ["agent_id": agent, "message": message])
            answers.append(reply["response"] as? String)
        }
        return answers
    }

    /// Calls a tool as an agent.
    func invoke(
        _ agent: String, _ tool: String, _ input: [String: Any], user: Int? = nil
    ) async throws -> [String: Any] {
        try await call("tool.invoke", ["agent_id": agent, "tool": tool, "input": input], user: user)
    }

    /// What a tool gave; nil when it failed.
    static func value(_ answer: [String: Any]) -> [String: Any]? {
        (answer["result"] as? [String: Any])?["result"] as? [String: Any]
    }

    /// Lets everybody to the sockets, as a group of users would be.
    func openToAll() async throws {
        let open = try await fixture.run(
            "/bin/sh",
            ["-c", #"chmod 711 "$0" "$(dirname "$0")" && chmod 666 "$0/agentd.sock" "$0/aegisd.sock""#, fixture.home])
        try #require(open.code == 0, "\(open)")
    }

    private static func configuration(_ folder: String, _ more: String, _ rules: String = "") throws -> String {
        let file = "\(folder)/scenario-\(UUID().uuidString).yaml"
        try "apiVersion: aegis/v1\nkind: ModelScenario\nrules:\n\(rules)  - reply: { text: x }\n".write(
            toFile: file, atomically: true, encoding: .utf8)
        return """
            apiVersion: 100monkeys.ai/v1
            kind: NodeConfig
            metadata: { name: faces }
            spec:
              llm_providers:
                - name: demo
                  type: scripted
                  scenario: \(file)
                  models: [{ alias: default, model: demo }]

            """ + more
    }

    /// Writes the configuration of the next daemon: a model that says nothing of use, and whatever else there is to be.
    static func configuration(_ fixture: DaemonFixture, _ more: String, rules: String = "") throws {
        try configuration(fixture.home, more, rules).write(
            toFile: "\(fixture.home)/aegis-config.yaml", atomically: true, encoding: .utf8)
    }

    /// Runs a test with a daemon whose model says nothing of use beside the rules, and whatever else the configuration is to have.
    static func with(
        _ more: String = "", rules: String = "", launcher: [String] = [],
        _ body: @escaping @Sendable (AgentDoor) async throws -> Void
    ) async throws {
        let folder = "/tmp/aegis-test-scenario-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try await DaemonFixture.with(config: try configuration(folder, more, rules), launcher: launcher) { f in
            try await body(AgentDoor(fixture: f))
        }
    }
}

extension AgentDoor {
    /// What a boss with one child says: the child writes a file, and its boss repeats what the child said of that.
    static func rulesOfBoss(child: [String], writes file: String, _ text: String, says answer: String) -> String {
        let held = child.map { "'\($0)'" }.joined(separator: ", ")
        return """
              - when: { agent: child, tool: file_write }
                reply: { text: "\(answer)" }
              - when: { agent: child }
                reply: { tools: [{ name: file_write, input: { path: \(file), content: "\(text)" } }] }
              - when: { agent: boss, tool: spawn_agent }
                reply: { text: "{{result:spawn_agent.response}}" }
              - when: { agent: boss }
                reply:
                  tools:
                    - name: spawn_agent
                      input:
                        manifest: "name: child\\nmodel: default\\ncapabilities: [\(held)]"
                        message: write

            """
    }

    /// Runs a test with a daemon that has a model `small` besides: its window is so small that conversations are summarised soon.
    /// What it is asked is in `small.jsonl`.
    static func withSmallWindow(
        summary: String = "reply: { text: \"they spoke of tides\" }", rules: String = "",
        _ body: @escaping @Sendable (AgentDoor) async throws -> Void
    ) async throws {
        try await DaemonFixture.with(config: nil) { f in
            let scenario = f.path("small.yaml")
            try """
            apiVersion: aegis/v1
            kind: ModelScenario
            rules:
              - when: { system: "You write summaries" }
                \(summary)
              - reply: { text: noted }
            """.write(toFile: scenario, atomically: true, encoding: .utf8)
            try await f.succeed("down")
            try configuration(
                f,
                """
                    - name: small
                      type: scripted
                      scenario: \(scenario)
                      record: \(f.path("small.jsonl"))
                      models: [{ alias: small, model: small, context_window: 2048 }]

                """, rules: rules)
            try await f.up()
            try await body(AgentDoor(fixture: f))
        }
    }
}

/// A server of a test's own on this machine; it ends with the test.
struct LocalServer: Sendable {
    let port: Int
    /// Its file, which the program has as its argument; others beside it are the test's.
    let file: String

    /// The program of an MCP server with one tool.
    ///
    /// - Parameter tool: Python that says what `TOOL` is, and `call(handler, given)`, whose text is the answer; none is no answer.
    /// - Returns: the program.
    static func ofTool(_ tool: String) -> String {
        tool + """

            class Handler(Base):
                def do_GET(self): self.answer(405, "text/plain", b"")
                def do_POST(self):
                    asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                    if "id" not in asked: return self.answer(202, "text/plain", b"")
                    if asked["method"] == "server/discover":
                        result = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
                            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "tool", "version": "1"}}}
                    elif asked["method"] == "tools/list":
                        result = {"tools": [TOOL]}
                    else:
                        text = call(self, asked["params"].get("arguments", {}))
                        if text is None: return
                        result = {"content": [{"type": "text", "text": text}]}
                    self.answer(200, "application/json", json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode())
            serve(Handler)
            """
    }

    /// Runs a Python program that prints its port first.
    static func with(
        _ fixture: DaemonFixture, _ program: String, _ body: (LocalServer) async throws -> Void
    ) async throws {
        let file = fixture.path("port-\(UUID().uuidString)")
        let prelude = """
            import http.server, json, os, sys, threading, urllib.parse
            class Base(http.server.BaseHTTPRequestHandler):
                protocol_version = "HTTP/1.1"
                def log_message(self, *a): pass
                def answer(self, status, type, body):
                    self.send_response(status); self.send_header("Content-Type", type)
                    self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
            def serve(handler):
                server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
                with open(sys.argv[1] + "~", "w") as f: f.write(str(server.server_address[1]))
                os.rename(sys.argv[1] + "~", sys.argv[1])
                server.serve_forever()

            """
        let running = try fixture.begin(program: "/usr/bin/python3", ["-c", prelude + program, file])
        defer { _ = running.child.signal(9) }
        try await fixture.eventually("the server listens") { FileManager.default.fileExists(atPath: file) }
        let port = try #require(Int(try String(contentsOfFile: file, encoding: .utf8)))
        try await body(LocalServer(port: port, file: file))
        _ = running.child.signal(9)
        _ = try await running.result()
    }
}
