import Foundation
import Testing

/// What agents make of models that fail: servers that refuse, hang, break off and talk nonsense, in both dialects, behind HTTP.
@Suite struct AgentProviderFaultTests {
    /// A model does what its name says; the number of its calls, and the seconds between the last two, are in its answers.
    private static let server = #"""
        import time
        CALLS, LAST, LOCK = {}, {}, threading.Lock()
        def openai(text, call):
            def chunk(delta, finish=None):
                return {"id": "c", "object": "chat.completion.chunk", "model": "m",
                    "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
            delta = {"content": text} if not call else {"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
                "function": {"name": "echo", "arguments": '{"message": "never"}'}}]}
            events = [chunk({"role": "assistant", "content": ""}), chunk(delta), chunk({}, "tool_calls" if call else "stop"),
                {"id": "c", "choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}}]
            return ["data: %s\n\n" % json.dumps(e) for e in events] + ["data: [DONE]\n\n"]
        def anthropic(text, call):
            block = {"type": "tool_use", "id": "toolu_1", "name": "echo", "input": {}} if call else {"type": "text", "text": ""}
            delta = {"type": "input_json_delta", "partial_json": '{"message": "never"}'} if call else {"type": "text_delta", "text": text}
            message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [],
                "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 7, "output_tokens": 1}}
            events = [{"type": "message_start", "message": message},
                {"type": "content_block_start", "index": 0, "content_block": block},
                {"type": "content_block_delta", "index": 0, "delta": delta},
                {"type": "content_block_stop", "index": 0},
                {"type": "message_delta", "delta": {"stop_reason": "tool_use" if call else "end_turn", "stop_sequence": None},
                    "usage": {"output_tokens": 5}},
                {"type": "message_stop"}]
            return ["event: %s\ndata: %s\n\n" % (e["type"], json.dumps(e)) for e in events]
        class Handler(Base):
            def refuse(self, status, words, after=None):
                body = json.dumps({"type": "error", "error": {"type": "some_error", "message": words}}).encode()
                self.send_response(status); self.send_header("Content-Type", "application/json")
                if after is not None: self.send_header("Retry-After", after)
                self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
            def stream(self, parts):
                # Without a length: where the connection ends, the answer does.
                self.send_response(200); self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close"); self.close_connection = True; self.end_headers()
                for part in parts: self.wfile.write(part.encode()); self.wfile.flush()
            def hang(self):
                # Until the other side has had enough.
                while self.connection.recv(4096): pass
                self.close_connection = True
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                speak = anthropic if self.path.endswith("/messages") else openai
                model, now = body["model"], time.monotonic()
                with LOCK:
                    number = CALLS[model] = CALLS.get(model, 0) + 1
                    pause, LAST[model] = now - LAST.get(model, now), now
                whole = speak("whole %d %.3f" % (number, pause), False)
                half = speak("HALF an answer", "call" in model)
                half = half[:[i for i, e in enumerate(half) if "HALF" in e or "never" in e][0] + 1]
                first, what = number == 1, model[2:]
                if what == "absent": self.refuse(404, "nobody of that name")
                elif what == "busy" and first: self.refuse(429, "one moment", "1")
                elif what == "crowded": self.refuse(429, "far too many", "0")
                elif what == "closed": self.refuse(429, "come back tomorrow", "86400")
                elif what == "ill" and first or what == "dead": self.refuse(500, "out of order")
                elif what == "hung": self.hang()
                elif what == "stalled": self.stream(half); self.hang()
                elif what in ("cut", "cut-call") and first: self.stream(half)
                elif what == "broken" and first:
                    self.stream(half + ["event: error\ndata: %s\n\n" % json.dumps({"type": "error",
                        "error": {"type": "overloaded_error", "message": "out of breath", "code": 503}})])
                elif what == "resting" and first: self.refuse(503, "being loaded", "1")
                elif what == "moved":
                    self.send_response(301); self.send_header("Location", "https://elsewhere.example/")
                    self.send_header("Content-Length", "0"); self.end_headers()
                elif what == "garbled" and first or what == "garbage":
                    self.stream(half + ["data: {\"choices\": [{]\n\n", "\0\xff\n"] + whole)
                elif what == "page": self.answer(200, "text/html", b"<html><title>Sign in</title></html>")
                else: self.stream(whole)
        serve(Handler)
        """#

    /// Asks each model with an agent of its own, all at once; what the agents were answered and have used, by model.
    private static let client = """
        import json, socket, sys, threading
        def ask(model, results):
            s = socket.socket(socket.AF_UNIX); s.settimeout(100); s.connect(sys.argv[1]); f = s.makefile("rwb")
            def call(method, **params):
                f.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\\n"); f.flush()
                return json.loads(f.readline())["result"]
            agent = call("agent.spawn", manifest="name: %s\\nmodel: %s\\nlifecycle: persistent\\ncapabilities: ['tool: echo']"
                % (model, model))["agent_id"]
            results[model] = call("agent.run", agent_id=agent, message="go")
            results[model]["budget"] = call("agent.budget", agent_id=agent)
            call("agent.stop", agent_id=agent)
        results = {}
        asking = [threading.Thread(target=ask, args=(model, results)) for model in sys.argv[2:]]
        for one in asking: one.start()
        for one in asking: one.join()
        print(json.dumps(results))
        """

    /// What becomes of a question to a model.
    private enum Fate {
        /// It is answered by a call of this number, and the calls before it have cost something, or nothing.
        case answered(call: Int, wasted: Bool = false)
        /// It is answered by another model.
        case elsewhere
        /// It fails with a code, and words that say why, after so many calls.
        case failed(String, words: String, calls: Int)
    }

    private static let fates: [(model: String, fate: Fate)] = [
        ("well", .answered(call: 1)),
        ("absent", .failed("model-not-found", words: "nobody of that name", calls: 1)),
        ("busy", .answered(call: 2)),
        ("crowded", .failed("model-rate-limited", words: "far too many", calls: 2)),
        ("closed", .failed("model-rate-limited", words: "come back tomorrow", calls: 1)),
        ("ill", .answered(call: 2)),
        ("dead", .failed("model-overloaded", words: "out of order", calls: 2)),
        ("hung", .elsewhere),
        ("stalled", .elsewhere),
        ("cut", .answered(call: 2, wasted: true)),
        ("cut-call", .answered(call: 2, wasted: true)),
        ("garbled", .answered(call: 2, wasted: true)),
        ("garbage", .failed("model-bad-answer", words: "cannot be read", calls: 2)),
        ("broken", .answered(call: 2, wasted: true)),
        ("resting", .answered(call: 2)),
        ("page", .failed("model-not-found", words: "a web page", calls: 1)),
        ("moved", .failed("model-not-found", words: "redirects to 'https://elsewhere.example/'", calls: 1)),
    ]

    /// A provider for each model: one that asks for a pause asks all of its callers.
    private static func config(_ port: Int) -> String {
        let providers = [("o", "openai-compatible", "/v1"), ("a", "anthropic", "")].flatMap { dialect, type, path in
            fates.map { fate in
                """
                    - name: \(dialect)-\(fate.model)
                      type: \(type)
                      endpoint: http://127.0.0.1:\(port)\(path)
                      timeout: \(["hung", "stalled"].contains(fate.model) ? "1s" : "60s")
                      models: [{ alias: \(dialect)-\(fate.model), model: \(dialect)-\(fate.model) }]

                """
            }
        }
        return providers.joined() + """
              llm_selection:
                fallback: { o-hung: [a-well], a-hung: [o-well], o-stalled: [a-well], a-stalled: [o-well] }
                max_retries: 1
                retry_delay: 20ms
                max_retry_after: 5s

            """
    }

    @Test func whatAProviderCannotAnswerIsAskedAgainOrElsewhereOrSaid() async throws {
        try await DaemonFixture.with(config: nil) { f in
            try await LocalServer.with(f, Self.server) { server in
                try await f.succeed("down")
                try AgentDoor.configuration(f, Self.config(server.port))
                try await f.up()
                let models = ["o", "a"].flatMap { dialect in Self.fates.map { "\(dialect)-\($0.model)" } }
                let asked = try await f.run(
                    "/usr/bin/python3", ["-c", Self.client, "\(f.home)/agentd.sock"] + models)
                let results = try #require(
                    try JSONSerialization.jsonObject(with: Data(asked.out.utf8)) as? [String: [String: Any]], "\(asked)"
                )
                let door = AgentDoor(fixture: f)
                let kinds = ["model_call_answered", "model_call_failed", "tool_invoked", "tool_refused"]
                let told = try await door.result("audit.tail", ["kinds": kinds, "count": 1000])
                let records = try #require(told["records"] as? [[String: Any]])
                // A call that was cut in the middle of its arguments is nobody's.
                #expect(!records.contains { ($0["kind"] as? String)?.hasPrefix("tool") == true }, "\(told)")
                for (dialect, tokens) in [("o", 14), ("a", 12)] {
                    for (model, fate) in Self.fates {
                        let name = "\(dialect)-\(model)"
                        let calls = records.compactMap { $0["fields"] as? [String: Any] }
                            .filter { $0["name"] as? String == name }
                        Self.check(try #require(results[name], "\(name)"), name, fate, tokens, calls)
                    }
                }
                #expect(try await f.aegis("audit", "verify").code == 0)
            }
        }
    }

    /// Whether an agent was told, has paid and is on record as its model's fate wants it.
    private static func check(
        _ result: [String: Any], _ name: String, _ fate: Fate, _ tokens: Int, _ calls: [[String: Any]]
    ) {
        let text = result["response"] as? String ?? ""
        func budget(_ key: String) -> Int? {
            ((result["budget"] as? [String: Any])?[key] as? [String: Any])?["tokens"] as? Int
        }
        let used = budget("used") ?? -1
        #expect(budget("reserved") == 0, "\(name): \(result)")
        switch fate {
        case .answered(let call, let wasted):
            #expect(result["stop_reason"] as? String == "complete", "\(name): \(result)")
            #expect(text.hasPrefix("whole \(call) ") && !text.contains("HALF"), "\(name): \(result)")
            #expect(wasted ? used > tokens : used == tokens, "\(name): \(result)")
            #expect(calls.count == call, "\(name): \(calls)")
            if name.hasSuffix("busy") || name.hasSuffix("resting") {
                #expect(Double(text.split(separator: " ").last ?? "") ?? 0 >= 1, "it came back too early: \(text)")
            }
        case .elsewhere:
            #expect(result["stop_reason"] as? String == "complete" && text.hasPrefix("whole "), "\(name): \(result)")
            #expect(calls.map { $0["error"] as? String } == ["timeout", "timeout", nil], "\(name): \(calls)")
        case .failed(let code, let words, let count):
            #expect(result["stop_reason"] as? String == "error" && text.isEmpty, "\(name): \(result)")
            let problem = result["error"] as? [String: Any]
            let message = problem?["message"] as? String ?? ""
            #expect(problem?["code"] as? String == code, "\(name): \(result)")
            #expect(message.contains(words) && message.hasPrefix(name), "\(name): \(result)")
            #expect(calls.count == count, "\(name): \(calls)")
            // What no model has worked on costs nothing.
            #expect((used > 0) == name.hasSuffix("garbage"), "\(name): \(result)")
        }
    }
}
