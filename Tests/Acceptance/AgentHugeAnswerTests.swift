import AegisTestSupport
import Foundation
import Testing

/// A model that never comes to an end.
@Suite struct AgentHugeAnswerTests {
    /// It streams, or sends one JSON text, for as long as somebody takes it, and writes down how much that was each time. Nothing of
    /// it is ever there as a whole.
    private static let server = #"""
        WORDS, LOCK = "tide " * 12800, threading.Lock()
        def stream():
            event = ("data: %s\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"content": WORDS}}]})).encode()
            while True: yield event
        def whole():
            yield b'{"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "'
            while True: yield WORDS.encode()
        class Handler(Base):
            def do_POST(self):
                model = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["model"]
                self.send_response(200); self.close_connection = True
                self.send_header("Content-Type", "text/event-stream" if model == "stream" else "application/json")
                self.send_header("Connection", "close"); self.end_headers()
                sent = 0
                try:
                    # A test that fails ends, too.
                    for part in (stream if model == "stream" else whole)():
                        if sent > 512 << 20: break
                        self.wfile.write(part); sent += len(part)
                except OSError: pass
                with LOCK, open(sys.argv[1] + "." + model, "a") as f: f.write("%d\n" % sent)
        serve(Handler)
        """#

    private static func config(_ port: Int) -> String {
        """
            - name: endless
              type: openai-compatible
              endpoint: http://127.0.0.1:\(port)/v1
              models: [{ alias: stream, model: stream }, { alias: whole, model: whole }]
          llm_selection: { max_retries: 2, retry_delay: 20ms }

        """
    }

    /// The most memory that a daemon has had, in MiB.
    private static func most(_ f: DaemonFixture) throws -> Int {
        let status = try kernelText("/proc/\(try #require(f.daemonPid))/status")
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") } ?? ""
        return (Int(line.filter(\.isNumber)) ?? 0) / 1024
    }

    /// How much each call of a model has been told.
    private static func told(_ server: LocalServer, _ model: String) -> [Int] {
        let text = try? String(contentsOfFile: "\(server.file).\(model)", encoding: .utf8)
        return (text ?? "").split(separator: "\n").compactMap { Int($0) }
    }

    @Test(arguments: ["stream", "whole"]) func anAnswerHasAnEnd(_ model: String) async throws {
        try await DaemonFixture.with(config: nil) { f in
            try await LocalServer.with(f, Self.server) { server in
                let door = AgentDoor(fixture: f)
                try await f.succeed("down")
                try AgentDoor.configuration(f, Self.config(server.port))
                try await f.up()
                let before = try Self.most(f)
                let run = try await door.result(
                    "agent.spawn_and_run", ["manifest": "name: a\nmodel: \(model)", "message": "tell me all"])
                #expect(run["stop_reason"] as? String == "error", "\(run)")
                let error = try #require(run["error"] as? [String: Any], "\(run)")
                #expect(error["code"] as? String == "model-answer-too-large", "\(error)")
                #expect((error["message"] as? String)?.contains("67108864 bytes") == true, "\(error)")
                // The connection ends there, and nothing of the answer stays.
                try await f.eventually("the server is told") { !Self.told(server, model).isEmpty }
                #expect(Self.told(server, model).allSatisfy { (64 << 20..<128 << 20).contains($0) })
                let after = try Self.most(f)
                // Once as it comes and once as it is kept, and what memory grows by: 64 to 112 MiB were seen.
                #expect(after - before < 256, "\(before) MiB before, \(after) at most")
                // It goes on with others.
                let other = try await door.result(
                    "agent.spawn_and_run", ["manifest": "name: b\nmodel: default", "message": "hello"])
                #expect(other["response"] as? String == "x", "\(other)")
                // It would have had no end again: it was asked once, and once more by a child, which is not tried again for that.
                let boss = try await door.spawn("boss", ["tool: spawn_agent", "spawn: [child]", "model: \(model)"])
                let child = ["manifest": "name: child\nmodel: \(model)", "message": "tell me all"]
                let answer = try await door.invoke(boss, "spawn_agent", child)
                #expect("\(answer)".contains("model-answer-too-large"), "\(answer)")
                let calls = try await door.result("audit.tail", ["kinds": ["model_call_failed"], "count": 100])
                let errors = (calls["records"] as? [[String: Any]] ?? []).map {
                    ($0["fields"] as? [String: Any])?["error"] as? String
                }
                #expect(errors == ["too_large", "too_large"], "\(calls)")
            }
        }
    }
}
