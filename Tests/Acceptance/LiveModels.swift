import Foundation
import Testing

/// Models that say things slowly, twice or too fast, behind HTTP in both dialects; and clients that hear them.
enum LiveModels {
    /// A model that says its first words and waits for `/go` before it says the rest; `cut` breaks off once, `fast` says 4 MB, `long`
    /// too, and then a dot every two seconds for more than a minute.
    private static let server = """
        import time
        CALLS, GONE, CHANGED = {}, set(), threading.Condition()
        def wait(model):
            with CHANGED:
                if not CHANGED.wait_for(lambda: model in GONE, 100): raise SystemExit("nobody said go")
                GONE.discard(model)
        def speak(model, last):
            CALLS[model] = CALLS.get(model, 0) + 1
            if model.startswith("fast"):
                for n in range(2000): yield "%06d " % n + "x" * 2000 + "\\n"
                return
            if model.startswith("long"):
                for n in range(2000): yield "%06d " % n + "x" * 2000 + "\\n"
                for n in range(33):
                    time.sleep(2); yield "."
                return
            if model.startswith("cut") and CALLS[model] == 1:
                yield "half an "; wait(model); yield None; return
            for word in ["first ", "wörds "]: yield word
            wait(model)
            for word in ["and ", "the ", "rest."]: yield word
        def openai(model, texts):
            chunk = lambda delta, end=None: "data: %s\\n\\n" % json.dumps({"id": "c", "object": "chat.completion.chunk",
                "model": model, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]})
            yield chunk({"role": "assistant", "content": "", "reasoning_content": "hm"})
            for text in texts:
                if text is None: return
                yield chunk({"content": text})
            yield chunk({}, "stop") + "data: [DONE]\\n\\n"
        def anthropic(model, texts):
            def event(type, **fields): return "event: %s\\ndata: %s\\n\\n" % (type, json.dumps(dict(type=type, **fields)))
            yield event("message_start", message={"id": "m", "type": "message", "role": "assistant", "model": model,
                "content": [], "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 7, "output_tokens": 1}})
            yield event("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""})
            yield event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"})
            yield event("content_block_stop", index=0)
            yield event("content_block_start", index=1, content_block={"type": "text", "text": ""})
            for text in texts:
                if text is None: return
                yield event("content_block_delta", index=1, delta={"type": "text_delta", "text": text})
            yield event("content_block_stop", index=1)
            yield event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 5})
            yield event("message_stop")
        class Handler(Base):
            def do_GET(self):
                with CHANGED: GONE.add(self.path[4:]); CHANGED.notify_all()
                self.answer(200, "text/plain", b"")
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                dialect = anthropic if self.path.startswith("/a") else openai
                self.send_response(200); self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close"); self.end_headers(); self.close_connection = True
                for piece in dialect(body["model"], speak(body["model"], body["messages"][-1])):
                    self.wfile.write(piece.encode()); self.wfile.flush()
        serve(Handler)
        """

    private static func config(_ port: Int) -> String {
        """
            - name: one
              type: openai-compatible
              endpoint: http://127.0.0.1:\(port)/o/v1
              models: [{ alias: chat, model: slow-o }, { alias: cut, model: cut-o }, { alias: fast, model: fast-o }, { alias: long, model: long-o }]
            - name: two
              type: anthropic
              endpoint: http://127.0.0.1:\(port)/a
              models: [{ alias: messages, model: slow-a }, { alias: cut-messages, model: cut-a }]
          llm_selection: { max_retries: 2 }

        """
    }

    /// Clients that know nothing of ours; each test's own lines follow.
    private static let client = """
        import http.client, json, os, pty, socket, subprocess, sys, urllib.request
        home, port, cli = sys.argv[1:4]
        class Unix(http.client.HTTPConnection):
            def connect(self):
                self.sock = socket.socket(socket.AF_UNIX); self.sock.settimeout(100); self.sock.connect(home + "/aegisd.sock")
        def ask(method, path, body=None, **headers):
            c = Unix("localhost"); c.request(method, path, body and json.dumps(body), headers); return c.getresponse()
        def lines(response):
            for line in response: yield json.loads(line)
        def events(response):
            found = {}
            for line in response:
                line = line.decode().rstrip("\\n")
                if line == "" and "data" in found: yield found; found = {}
                elif ": " in line and not line.startswith(":"): key, value = line.split(": ", 1); found[key] = value
        class RPC:
            def __init__(self):
                s = self.s = socket.socket(socket.AF_UNIX); s.settimeout(100); s.connect(home + "/agentd.sock"); self.f = s.makefile("rwb")
            def send(self, method, **params):
                self.f.write((json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) + "\\n").encode()); self.f.flush()
            def read(self): return json.loads(self.f.readline())
            def call(self, method, **params):
                self.send(method, **params)
                while True:
                    answer = self.read()
                    if answer.get("id") == 1: return answer.get("result") or answer["error"]["data"]["code"]
        def go(model): urllib.request.urlopen("http://127.0.0.1:%s/go/%s" % (port, model), timeout=100).read()
        def spawn(model): return RPC().call("agent.spawn", manifest="name: w-%s\\nmodel: %s\\nlifecycle: persistent" % (model, model))["agent_id"]
        def heard(deltas, until):
            # Reads pieces until so much text has come.
            text = ""
            for d in deltas:
                assert d["kind"] == "agent.delta", d
                if d["type"] == "text":
                    assert d["at"] == len(text.encode()), (d, text); text += d["text"]
                    if text == until: return text
                if d["type"] == "restart": text = ""
            raise SystemExit("heard %r" % text)
        def rest(deltas, text):
            # Reads to the end of the answer.
            types = set()
            for d in deltas:
                types.add(d.get("type", d["kind"]))
                if d.get("type") == "text": text += d["text"]
                if d.get("type") == "restart": text = ""
                if d.get("type") == "end": return text, d["complete"], types
            raise SystemExit("no end after %r" % text)
        whole = "first wörds and the rest."

        """

    static func with(_ body: @escaping @Sendable (AgentDoor, Int) async throws -> Void) async throws {
        try await DaemonFixture.with(config: nil) { f in
            try await LocalServer.with(f, server) { server in
                try await f.succeed("down")
                try AgentDoor.configuration(f, config(server.port))
                try await f.up()
                try await body(AgentDoor(fixture: f), server.port)
            }
        }
    }

    static func run(
        _ door: AgentDoor, _ port: Int, _ program: String, _ more: [String] = [], user: Int? = nil,
        deadline: Duration = .seconds(120)
    ) async throws -> CommandResult {
        var words =
            ["/usr/bin/python3", "-c", client + program, door.fixture.home, "\(port)", DaemonFixture.cli] + more
        if let user {
            words = ["/usr/bin/setpriv", "--reuid", "\(user)", "--regid", "\(user)", "--clear-groups"] + words
        }
        return try await door.fixture.run(words[0], Array(words.dropFirst()), deadline: deadline)
    }
}
