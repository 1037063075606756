import Foundation
import Testing

/// Models that give one id to several calls of tools, in both dialects: each call is one for itself.
@Suite struct AgentCallIDTests {
    /// It asks for a file with the same id again and again: twice in its first answer, once in the next, and once for the second
    /// message. It says what it was sent back, and everything in it that a strict provider refuses.
    private static let server = #"""
        WRONG = []
        def chat(messages):
            # Each message as its side, its calls and the results in it.
            for m in messages:
                if m["role"] == "tool": yield "user", [], [(m["tool_call_id"], m["content"])]
                else: yield m["role"], [(c["id"], json.loads(c["function"]["arguments"])["path"]) for c in m.get("tool_calls", [])], []
        def blocks(messages):
            for m in messages:
                parts = m["content"] if isinstance(m["content"], list) else []
                yield (m["role"], [(p["id"], p["input"]["path"]) for p in parts if p["type"] == "tool_use"],
                    [(p["tool_use_id"], p["content"]) for p in parts if p["type"] == "tool_result"])
        def check(turns):
            calls, results, waiting, hears = [], [], [], False
            for side, asked, given in turns:
                if side == "assistant":
                    if waiting: WRONG.append("no result for %s" % waiting)
                    calls += asked; waiting = [id for id, _ in asked]
                for id, text in given:
                    if not waiting or waiting.pop(0) != id: WRONG.append("a result for %s, which is not next" % id)
                results += given; hears = side == "user" and not given
            if waiting: WRONG.append("no result for %s" % waiting)
            if len({id for id, _ in calls}) != len(calls): WRONG.append("an id twice: %s" % calls)
            return calls, results, hears
        def next(calls, results, hears):
            count = len(calls)
            if count == 0: return [1, 2], None
            if count == 2: return [3], None
            if count == 3: return ([4], None) if hears else ([], "half")
            return [], json.dumps({"wrong": WRONG, "calls": calls, "results": results})
        def given(number): return {"path": "/workspace/n%d" % number, "content": "x", "append": True}
        def openai(body):
            wanted, text = next(*check(chat(body["messages"])))
            chunk = lambda delta, finish=None: {"id": "c", "object": "chat.completion.chunk", "model": "m",
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
            out = [{"role": "assistant", "content": text or ""}]
            for place, number in enumerate(wanted):
                out.append({"tool_calls": [{"index": place, "id": "same", "type": "function",
                    "function": {"name": "file_write", "arguments": json.dumps(given(number))}}]})
            events = [chunk(d) for d in out] + [chunk({}, "tool_calls" if wanted else "stop")]
            return "".join("data: %s\n\n" % json.dumps(e) for e in events) + "data: [DONE]\n\n"
        def anthropic(body):
            wanted, text = next(*check(blocks(body["messages"])))
            message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [],
                "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 7, "output_tokens": 1}}
            events = [{"type": "message_start", "message": message}]
            parts = [({"type": "tool_use", "id": "same", "name": "file_write", "input": {}},
                {"type": "input_json_delta", "partial_json": json.dumps(given(number))}) for number in wanted]
            if text: parts = [({"type": "text", "text": ""}, {"type": "text_delta", "text": text})]
            for place, (block, delta) in enumerate(parts):
                events += [{"type": "content_block_start", "index": place, "content_block": block},
                    {"type": "content_block_delta", "index": place, "delta": delta},
                    {"type": "content_block_stop", "index": place}]
            stop = "tool_use" if wanted else "end_turn"
            events += [{"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None},
                "usage": {"output_tokens": 5}}, {"type": "message_stop"}]
            return "".join("event: %s\ndata: %s\n\n" % (e["type"], json.dumps(e)) for e in events)
        class Handler(Base):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                speak = anthropic if self.path.endswith("/messages") else openai
                self.answer(200, "text/event-stream", speak(body).encode())
        serve(Handler)
        """#

    private struct Report: Decodable {
        var wrong: [String]
        /// Ids with the path that each call is about, and with what each has given.
        var calls: [[String]]
        var results: [[String]]
    }

    @Test(arguments: [("openai-compatible", "/v1"), ("anthropic", "")])
    func anIdThatComesAgainIsAnotherCall(_ dialect: String, _ path: String) async throws {
        try await DaemonFixture.with(config: nil) { f in
            try await LocalServer.with(f, Self.server) { server in
                let door = AgentDoor(fixture: f)
                try await f.succeed("down")
                try AgentDoor.configuration(
                    f,
                    """
                        - name: forgetful
                          type: \(dialect)
                          endpoint: http://127.0.0.1:\(server.port)\(path)
                          models: [{ alias: forgetful, model: m }]

                    """)
                try await f.up()
                let agent = try await door.spawn(
                    "name: writer\nmodel: forgetful\nlifecycle: persistent\n"
                        + "capabilities: ['tool: file_write', 'file_write: /workspace/**']")
                let first = try await door.result("agent.run", ["agent_id": agent, "message": "write"])
                #expect(first["response"] as? String == "half", "\(first)")
                // The next daemon knows which calls there were.
                try await f.crash()
                try await f.up()
                let second = try await door.result("agent.run", ["agent_id": agent, "message": "once more"])
                let text = try #require(second["response"] as? String, "\(second)")
                let report = try JSONDecoder().decode(Report.self, from: Data(text.utf8))
                #expect(report.wrong.isEmpty, "\(report)")
                #expect(report.calls.map(\.last) == (1...4).map { "/workspace/n\($0)" }, "\(report)")
                #expect(Set(report.calls.map(\.first)).count == 4 && report.calls[0][0] == "same", "\(report)")
                // Each call is answered with what it did, and did it once.
                #expect(report.results.map(\.first) == report.calls.map(\.first), "\(report)")
                for (number, result) in report.results.enumerated() {
                    #expect(result[1].contains("/workspace/n\(number + 1)"), "\(result)")
                    let file = "\(f.home)/agents/\(agent)/workspace/n\(number + 1)"
                    #expect(try String(contentsOfFile: file, encoding: .utf8) == "x")
                }
                for kind in ["tool_invoked", "tool_result"] {
                    let told = try await door.result("audit.tail", ["kinds": [kind], "agent": agent, "count": 100])
                    let records = try #require(told["records"] as? [[String: Any]])
                    let ids = records.map { ($0["fields"] as? [String: Any])?["call_id"] as? String }
                    #expect(ids == report.calls.map(\.first), "\(kind): \(ids)")
                }
            }
        }
    }
}
