import Foundation
import Testing

/// What stands in a conversation goes back to its provider with each question: a strict one must not refuse all that follow.
@Suite struct AgentHistoryTests {
    /// Both dialects at any path; each path is a provider of its own, named by the path's first part. `names` asks for a tool by a
    /// name that no provider takes back. `first` is overloaded for its first question; `second` thinks, signs that and asks for a
    /// tool. What a real provider would refuse is refused with status 400.
    private static let server = #"""
        import re
        COUNT = {}
        def openai(text, tool):
            chunk = lambda delta, finish=None: {"id": "c", "object": "chat.completion.chunk", "model": "m",
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
            delta = {"content": text} if not tool else {"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
                "function": {"name": tool, "arguments": "{}"}}]}
            events = [chunk(delta), chunk({}, "tool_calls" if tool else "stop")]
            return "".join("data: %s\n\n" % json.dumps(e) for e in events) + "data: [DONE]\n\n"
        def anthropic(text, tool, signature=None):
            parts = []
            if signature: parts.append(({"type": "thinking", "thinking": "", "signature": ""},
                [{"type": "thinking_delta", "thinking": "hm"}, {"type": "signature_delta", "signature": signature}]))
            if tool: parts.append(({"type": "tool_use", "id": "toolu_1", "name": tool, "input": {}},
                [{"type": "input_json_delta", "partial_json": '{"message": "x"}'}]))
            else: parts.append(({"type": "text", "text": ""}, [{"type": "text_delta", "text": text}]))
            message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [],
                "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 7, "output_tokens": 1}}
            events = [{"type": "message_start", "message": message}]
            for place, (block, deltas) in enumerate(parts):
                events.append({"type": "content_block_start", "index": place, "content_block": block})
                events += [{"type": "content_block_delta", "index": place, "delta": delta} for delta in deltas]
                events.append({"type": "content_block_stop", "index": place})
            events += [{"type": "message_delta", "delta": {"stop_reason": "tool_use" if tool else "end_turn",
                "stop_sequence": None}, "usage": {"output_tokens": 5}}, {"type": "message_stop"}]
            return "".join("event: %s\ndata: %s\n\n" % (e["type"], json.dumps(e)) for e in events)
        def names(body):
            for m in body["messages"]:
                for c in m.get("tool_calls", []): yield c["function"]["name"]
                if isinstance(m["content"], list):
                    for p in m["content"]:
                        if p["type"] == "tool_use": yield p["name"]
        def signatures(body):
            return [p["signature"] for m in body["messages"] if isinstance(m["content"], list)
                for p in m["content"] if p["type"] == "thinking"]
        class Handler(Base):
            def refuse(self, status, kind, words):
                body = {"type": "error", "error": {"type": kind, "message": words}}
                self.answer(status, "application/json", json.dumps(body).encode())
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                who = self.path.split("/")[1]
                speak = anthropic if self.path.endswith("/messages") else openai
                count = COUNT[who] = COUNT.get(who, 0) + 1
                for name in names(body):
                    if not re.fullmatch("[a-zA-Z0-9_-]{1,64}", name):
                        return self.refuse(400, "invalid_request_error", "a name that is none: '%s'" % name)
                for signature in signatures(body):
                    if not signature.startswith(who):
                        return self.refuse(400, "invalid_request_error", "Invalid signature in thinking block")
                if who == "names": said = speak("done after %s" % sorted(set(names(body))),
                    ["multi_tool_use.parallel", "x" * 90, ""][count - 1] if count < 4 else None)
                elif who == "first" and count == 1: return self.refuse(529, "overloaded_error", "one moment")
                elif who == "first": said = anthropic("done after %d thoughts" % len(signatures(body)), None)
                elif count == 1: said = anthropic("", "echo", who + "-1")
                else: said = anthropic("the other one is asked again", None)
                self.answer(200, "text/event-stream", said.encode())
        serve(Handler)
        """#

    private func asked(
        _ providers: @escaping @Sendable (Int) -> String, _ model: String
    ) async throws -> (response: String, all: String) {
        let answer = Answers()
        try await DaemonFixture.with(config: nil) { f in
            try await LocalServer.with(f, Self.server) { server in
                let door = AgentDoor(fixture: f)
                try await f.succeed("down")
                try AgentDoor.configuration(f, providers(server.port))
                try await f.up()
                let agent = try await door.spawn(
                    "name: a\nmodel: \(model)\nlifecycle: persistent\ncapabilities: ['tool: echo']")
                let result = try await door.result("agent.run", ["agent_id": agent, "message": "go"])
                await answer.set(result["response"] as? String ?? "", "\(result)")
            }
        }
        return await (answer.response, answer.all)
    }

    private actor Answers {
        var (response, all) = ("", "")
        func set(_ response: String, _ all: String) { (self.response, self.all) = (response, all) }
    }

    /// Models make up names of tools; each question after that holds them.
    @Test(arguments: [("openai-compatible", "/v1"), ("anthropic", "")])
    func aNameThatAModelMadeUpDoesNotEndAllThatFollows(_ dialect: String, _ path: String) async throws {
        let result = try await asked(
            { port in
                """
                    - name: strict
                      type: \(dialect)
                      endpoint: http://127.0.0.1:\(port)/names\(path)
                      models: [{ alias: strict, model: m }]

                """
            }, "strict")
        #expect(result.response.hasPrefix("done after ['multi_tool_use__parallel', "), "\(result.all)")
    }

    /// Signed by one provider, what a model thought is refused by the other, whichever of them the conversation is meant for.
    @Test func whatAFallbackThoughtIsNotSentToTheFirst() async throws {
        let result = try await asked(
            { port in
                ["first", "second"].map { name in
                    """
                        - name: \(name)
                          type: anthropic
                          endpoint: http://127.0.0.1:\(port)/\(name)
                          models: [{ alias: \(name), model: m }]

                    """
                }.joined() + """
                      llm_selection:
                        fallback: { first: [second] }
                        max_retries: 0

                    """
            }, "first")
        #expect(result.response == "done after 0 thoughts", "\(result.all)")
    }
}
