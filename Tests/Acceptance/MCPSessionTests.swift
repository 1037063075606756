import Foundation
import Testing

/// Servers of the revision with sessions that do not know one any more.
@Suite struct MCPSessionTests {
    /// Forgets its sessions when it is told to, and says so as different libraries do.
    private static let server = """
        SESSIONS = set()
        NOTHING = [
            {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "Session not found"}},
            {"jsonrpc": "2.0", "id": None, "error": {"code": -32001, "message": "Session not found"}},
        ]
        asked_in_vain = 0
        def tell(word):
            with open(sys.argv[1] + ".told", "a") as file: file.write(word + "\\n")
        class Handler(Base):
            def do_DELETE(self): self.answer(200, "text/plain", b"")
            def unknown(self):
                global asked_in_vain
                if self.headers["Mcp-Session-Id"] in SESSIONS: return False
                asked_in_vain += 1
                body = json.dumps(NOTHING[asked_in_vain % 2]).encode() if asked_in_vain % 3 else b""
                self.answer(404, "application/json", body)
                return True
            def do_GET(self):
                if self.unknown(): return
                self.send_response(200); self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close"); self.end_headers()
                while self.connection.recv(4096): pass
            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                method, more = asked["method"], {}
                if method == "initialize":
                    session = os.urandom(8).hex()
                    SESSIONS.add(session)
                    tell("begun")
                    result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}
                    body = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode()
                    self.send_response(200); self.send_header("Content-Type", "application/json")
                    self.send_header("Mcp-Session-Id", session)
                    self.send_header("Content-Length", str(len(body))); self.end_headers(); return self.wfile.write(body)
                if method == "server/discover": return self.answer(400, "text/plain", b"")
                if self.unknown(): return
                if "id" not in asked: return self.answer(202, "text/plain", b"")
                if method == "tools/list":
                    result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ["work", "forget"]]}
                else:
                    name = asked["params"]["name"]
                    tell(name)
                    if name == "forget": SESSIONS.clear()
                    result = {"content": [{"type": "text", "text": "did " + name}]}
                self.answer(200, "application/json", json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode())
        serve(Handler)
        """

    /// The next call begins another one, and is made once.
    @Test func aForgottenSessionIsBegunAnew() async throws {
        try await DaemonFixture.with(config: nil) { f in
            try await LocalServer.with(f, Self.server) { server in
                try await f.succeed("down")
                try AgentDoor.configuration(
                    f, "  mcp_servers: [{ name: s, url: 'http://127.0.0.1:\(server.port)/mcp' }]\n")
                try await f.up()
                let door = AgentDoor(fixture: f)
                let id = try await door.spawn("a", ["tool: mcp.s.work", "tool: mcp.s.forget"])
                try await f.eventually("its tools are there") {
                    try await f.aegis("tool", "list").out.contains("mcp.s.work")
                }
                func call(_ tool: String) async throws {
                    let answer = try await door.invoke(id, "mcp.s.\(tool)", [:])
                    #expect(AgentDoor.value(answer)?["text"] as? String == "did \(tool)", "\(answer)")
                }
                try await call("work")
                for _ in 0..<6 {
                    try await call("forget")
                    try await call("work")
                }
                // A list finds it out as well.
                try await call("forget")
                try await f.succeed("mcp", "refresh", "s")
                try await call("work")
                let told = try String(contentsOfFile: "\(server.file).told", encoding: .utf8).split(separator: "\n")
                #expect(told.count { $0 == "work" } == 8 && told.count { $0 == "forget" } == 7, "\(told)")
                #expect(told.count { $0 == "begun" } == 8, "\(told)")
            }
        }
    }
}
