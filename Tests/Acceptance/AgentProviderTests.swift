import Foundation
import Testing

/// Agents whose models are behind HTTP: both dialects, streamed, with tools; fallback; how much is asked at once.
@Suite struct AgentProviderTests {
    private static let server = """
        CALLS, NOW, PEAK, CHANGED = {}, {}, {}, threading.Condition()
        def occupy(model):
            # Waits until another call is there as well; where there must be none, not for ever.
            with CHANGED:
                NOW[model] = NOW.get(model, 0) + 1
                PEAK[model] = max(PEAK.get(model, 0), NOW[model])
                CHANGED.notify_all()
                CHANGED.wait_for(lambda: PEAK[model] > 1, 100 if model == "pair" else 0.5)
                NOW[model] -= 1
                return "at most %d at once" % PEAK[model]
        def pieces(text): return [text[i:i + 7] for i in range(0, len(text), 7)]
        def openai(body):
            last = body["messages"][-1]
            chunk = lambda delta, finish=None: {"id": "c", "object": "chat.completion.chunk", "model": body["model"],
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
            if body["model"] in ("single", "pair"): out, end = [{"content": occupy(body["model"])}], "stop"
            elif last["role"] == "tool":
                text = "openai read " + last["content"] + ", after %d failures" % CALLS.get("broken", 0)
                out, end = [{"content": p} for p in pieces(text)], "stop"
            else:
                call = lambda **f: {"tool_calls": [dict(index=0, **f)]}
                out = [call(id="call_1", type="function", function={"name": body["tools"][0]["function"]["name"], "arguments": ""})]
                out += [call(function={"arguments": p}) for p in pieces(json.dumps({"message": last["content"]}))]
                end = "tool_calls"
            events = [chunk({"role": "assistant", "content": ""})] + [chunk(d) for d in out] + [chunk({}, end)]
            events.append({"id": "c", "choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}})
            return "".join("data: %s\\n\\n" % json.dumps(e) for e in events) + "data: [DONE]\\n\\n"
        def anthropic(body):
            last = body["messages"][-1]["content"][-1]
            if last["type"] == "tool_result":
                stop, block = "end_turn", {"type": "text", "text": ""}
                deltas = [{"type": "text_delta", "text": p} for p in pieces("anthropic read " + last["content"])]
            else:
                stop, block = "tool_use", {"type": "tool_use", "id": "toolu_1", "name": body["tools"][0]["name"], "input": {}}
                deltas = [{"type": "input_json_delta", "partial_json": p} for p in pieces(json.dumps({"message": last["text"]}))]
            message = {"id": "m", "type": "message", "role": "assistant", "model": body["model"], "content": [],
                "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 7, "output_tokens": 1}}
            events = [{"type": "message_start", "message": message}, {"type": "ping"},
                {"type": "content_block_start", "index": 0, "content_block": block}]
            events += [{"type": "content_block_delta", "index": 0, "delta": d} for d in deltas]
            events += [{"type": "content_block_stop", "index": 0},
                {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {"output_tokens": 5}},
                {"type": "message_stop"}]
            return "".join("event: %s\\ndata: %s\\n\\n" % (e["type"], json.dumps(e)) for e in events)
        class Handler(Base):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                CALLS[body["model"]] = CALLS.get(body["model"], 0) + 1
                if body["model"] == "broken":
                    return self.answer(500, "application/json", b'{"error": {"message": "out of order"}}')
                known = {"/o/v1/chat/completions": ("Authorization", "Bearer key-o", openai),
                    "/a/v1/messages": ("x-api-key", "key-a", anthropic)}
                header, key, speak = known[self.path]
                if self.headers[header] != key or not body["stream"]:
                    return self.answer(401, "application/json", b'{"error": {"message": "bad key"}}')
                self.answer(200, "text/event-stream", speak(body).encode())
        serve(Handler)
        """

    private static func config(_ port: Int) -> String {
        """
            - name: one
              type: openai-compatible
              endpoint: http://127.0.0.1:\(port)/o/v1
              api_key: key-o
              models: [{ alias: chat, model: chat }, { alias: broken, model: broken }]
            - name: two
              type: anthropic
              endpoint: http://127.0.0.1:\(port)/a
              api_key: key-a
              models: [{ alias: messages, model: messages }]
            - name: wrong-key
              type: anthropic
              endpoint: http://127.0.0.1:\(port)/a
              api_key: key-b
              models: [{ alias: denied, model: denied }]
            - name: nobody
              type: openai-compatible
              endpoint: http://127.0.0.1:1/v1
              models: [{ alias: gone, model: gone }]
            - name: narrow
              type: openai-compatible
              endpoint: http://127.0.0.1:\(port)/o/v1
              api_key: key-o
              max_concurrent: 1
              models: [{ alias: single, model: single }]
            - name: wide
              type: openai-compatible
              endpoint: http://127.0.0.1:\(port)/o/v1
              api_key: key-o
              max_concurrent: 2
              models: [{ alias: pair, model: pair }]
          llm_selection: { fallback: { broken: [chat], gone: [messages], denied: [gone] }, max_retries: 0 }

        """
    }

    @Test func modelsAnswerOverHTTP() async throws {
        try await DaemonFixture.with(config: nil) { f in
            try await LocalServer.with(f, Self.server) { server in
                let door = AgentDoor(fixture: f)
                try await f.succeed("down")
                try AgentDoor.configuration(f, Self.config(server.port))
                try await f.up()
                // Each model calls a tool and reads what it gave; where one fails, the next one is asked.
                for (model, by, tokens) in [
                    ("chat", "openai", 22), ("messages", "anthropic", 14), ("broken", "openai", 22),
                    ("gone", "anthropic", 14), ("denied", "anthropic", 14),
                ] {
                    let manifest = "name: \(model)-user\nmodel: \(model)\ncapabilities: ['tool: echo']"
                    let run = try await door.result("agent.spawn_and_run", ["manifest": manifest, "message": "tides"])
                    let text = run["response"] as? String ?? ""
                    #expect(text.hasPrefix("\(by) read ") && text.contains("tides"), "\(model): \(run)")
                    #expect((run["usage"] as? [String: Any])?["input_tokens"] as? Int == tokens, "\(model): \(run)")
                    if by == "openai" {
                        #expect(text.hasSuffix("after \(model == "broken" ? 2 : 0) failures"), "\(text)")
                    }
                }
                let told = try await door.result("audit.tail", ["kinds": ["tool_invoked"], "count": 100])
                #expect((told["records"] as? [Any])?.count == 5)
                // Three agents at once: as many of their calls are under way as the provider may get.
                for (model, peak) in [("single", 1), ("pair", 2)] {
                    var sent: [(String, String)] = []
                    for _ in 0..<3 {
                        let id = try await door.spawn("name: \(model)\nmodel: \(model)\nlifecycle: persistent")
                        let run = try await door.result("agent.run", ["agent_id": id, "message": "go", "wait": false])
                        sent.append((id, try #require(run["trace_id"] as? String)))
                    }
                    for (id, trace) in sent {
                        let reply = try await door.result(
                            "agent.reply", ["agent_id": id, "trace_id": trace, "wait": true])
                        #expect(reply["response"] as? String == "at most \(peak) at once", "\(model): \(reply)")
                    }
                }
            }
        }
    }
}
