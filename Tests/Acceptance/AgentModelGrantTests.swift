import Foundation
import Testing

/// What a grant of a model still allows when its question has to wait, or to be asked again: models behind HTTP that refuse and
/// break off.
@Suite struct AgentModelGrantTests {
    /// What each model is asked is counted in a file of its name. One that is `busy` asks for a pause, whose seconds its name ends
    /// with; others say as much as they may, up to 300 tokens by our count, and break off.
    private static let server = #"""
        CALLS, LOCK = {}, threading.Lock()
        class Handler(Base):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                model = body["model"]
                with LOCK:
                    CALLS[model] = CALLS.get(model, 0) + 1
                    with open("%s.%s" % (sys.argv[1], model), "w") as f: f.write(str(CALLS[model]))
                if model.startswith("busy") and CALLS[model] == 1:
                    self.send_response(429); self.send_header("Retry-After", model.split("-")[1])
                    self.send_header("Content-Length", "0"); self.end_headers()
                    return
                self.send_response(200); self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close"); self.close_connection = True; self.end_headers()
                most = body.get("max_tokens") or body.get("max_completion_tokens")
                text = "x" * (2 * min(300, most))
                for delta in [{"role": "assistant", "content": ""}, {"content": text}]:
                    self.wfile.write(("data: %s\n\n" % json.dumps({"id": "c", "object": "chat.completion.chunk",
                        "model": model, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})).encode())
                self.wfile.flush()
        serve(Handler)
        """#

    private static let models = ["busy-50", "busy-20", "cut-tokens", "cut-money"]

    /// A provider for each model: one that asks for a pause asks all of its callers. A token costs a micro dollar.
    private static func config(_ port: Int) -> String {
        models.map { model in
            """
                - name: p-\(model)
                  type: openai-compatible
                  endpoint: http://127.0.0.1:\(port)/v1
                  models: [{ alias: \(model), model: \(model), input_per_mtok: 1, output_per_mtok: 1 }]

            """
        }.joined() + "  llm_selection: { max_retries: 9, retry_delay: 20ms }\n"
    }

    private static func with(
        _ body: @escaping @Sendable (AgentDoor, _ calls: @escaping @Sendable (String) -> Int) async throws -> Void
    ) async throws {
        try await DaemonFixture.with(config: nil) { f in
            try await LocalServer.with(f, server) { server in
                try await f.succeed("down")
                try AgentDoor.configuration(f, config(server.port))
                try await f.up()
                let file = server.file
                try await body(AgentDoor(fixture: f)) { model in
                    (try? String(contentsOfFile: "\(file).\(model)", encoding: .utf8)).flatMap { Int($0) } ?? 0
                }
            }
        }
    }

    private static func spawn(_ door: AgentDoor, _ model: String, _ limit: String) async throws -> String {
        try await door.spawn(
            "name: \(model)\nmodel: \(model)\nlifecycle: persistent\ncapabilities: [{ grant: 'model: \(model)'\(limit) }]\n"
        )
    }

    private static func code(_ result: [String: Any]) -> String? {
        (result["error"] as? [String: Any])?["code"] as? String
    }

    /// A provider asks for a pause; what is taken back or ends meanwhile is not asked for again.
    @Test func aQuestionThatWaitsIsNotAskedWithoutItsGrant() async throws {
        try await Self.with { door, calls in
            let revoked = try await Self.spawn(door, "busy-50", "")
            let expired = try await Self.spawn(door, "busy-20", ", expires: 15s")
            var traces: [String] = []
            for id in [revoked, expired] {
                let sent = try await door.result("agent.run", ["agent_id": id, "message": "go", "wait": false])
                traces.append(try #require(sent["trace_id"] as? String))
            }
            try await door.fixture.eventually("it is to be asked again", within: .seconds(45)) {
                try await !door.records("model_call_retried", of: revoked).isEmpty
            }
            _ = try await door.result("agent.revoke", ["agent_id": revoked, "capability": "model: busy-50"])
            for (id, trace, model, code) in [
                (revoked, traces[0], "busy-50", "grant-revoked"), (expired, traces[1], "busy-20", "grant-expired"),
            ] {
                let reply = try await door.result("agent.reply", ["agent_id": id, "trace_id": trace, "wait": true])
                #expect(Self.code(reply) == code, "\(model): \(reply)")
                #expect(calls(model) <= 1, "\(model)")
                let denied = try await door.records("capability_denied", of: id)
                #expect(denied.contains { $0["action"] as? String == "model: \(model)" }, "\(model): \(denied)")
            }
            #expect(calls("busy-50") == 1)
        }
    }

    /// Each attempt costs the question and what came of the answer: together no more than the grant allows.
    @Test(arguments: [("tokens", ", max_tokens: 1000"), ("money", ", max_usd: 0.001")])
    func attemptsTogetherStayWithinTheGrant(_ what: String, _ limit: String) async throws {
        try await Self.with { door, calls in
            let id = try await Self.spawn(door, "cut-\(what)", limit)
            let result = try await door.result("agent.run", ["agent_id": id, "message": "go"])
            #expect(Self.code(result) == "limit-\(what)-used-up", "\(result)")
            #expect(result["stop_reason"] as? String == "budget_exceeded", "\(result)")
            let grants = try await door.result("agent.grants", ["agent_id": id])["grants"] as? [[String: Any]]
            let used = grants?.first?["used"] as? [String: Int]
            let number = used?[what == "tokens" ? "tokens" : "microUSD"] ?? 0
            #expect(number > 600 && number <= 1000, "\(grants ?? [])")
            #expect((2...4).contains(calls("cut-\(what)")))
        }
    }
}

extension AgentDoor {
    /// The fields of what the ledger has of an agent.
    func records(_ kind: String, of agent: String) async throws -> [[String: Any]] {
        let told = try await result("audit.tail", ["kinds": [kind], "agent": agent, "count": 1000])
        return (told["records"] as? [[String: Any]] ?? []).compactMap { $0["fields"] as? [String: Any] }
    }
}
