import Foundation
import Testing

/// Vectors of a provider's model: they are bounded, paid for, told of and recorded as questions to models are.
@Suite struct AgentEmbeddingTests {
    /// A server that says how much each request took, as the file beside it has it, and writes down each and how many are with it.
    private static let server = """
        import time
        lock = threading.Lock(); inside = 0; most = 0; asked = 0
        class Handler(Base):
            def do_POST(self):
                global inside, most, asked
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    inside += 1; asked += 1; most = max(most, inside)
                    open(sys.argv[1] + ".new", "w").write("%d %d" % (asked, most))
                    os.rename(sys.argv[1] + ".new", sys.argv[1] + ".seen")
                time.sleep(0.2)
                with lock: inside -= 1
                # There is a text that it refuses, until it is told otherwise.
                if "poison" in body["input"] and os.path.exists(sys.argv[1] + ".refuses"):
                    return self.answer(400, "application/json", b'{"error": {"message": "not this one"}}')
                try: took = int(open(sys.argv[1] + ".takes").read())
                except FileNotFoundError: took = 100
                data = [{"index": n, "embedding": [float("tide" in t), float("ship" in t), 0.1]} for n, t in enumerate(body["input"])]
                self.answer(200, "application/json", json.dumps({"data": data, "usage": {"prompt_tokens": took, "total_tokens": took}}).encode())
        serve(Handler)
        """

    private static func provider(_ port: Int, _ keys: String = "", models: String = "{ model: chat }") -> String {
        """
            - name: local
              type: openai-compatible
              endpoint: http://127.0.0.1:\(port)/v1
              \(keys.isEmpty ? "enabled: true" : keys)
              models: [\(models)]
          memory: { embedder: local/e, dimensions: 3 }

        """
    }

    /// How many requests there were, and how many at once.
    private static func seen(_ server: LocalServer) throws -> (count: Int, atOnce: Int) {
        guard let text = try? String(contentsOfFile: server.file + ".seen", encoding: .utf8) else { return (0, 0) }
        let numbers = text.split(separator: " ").compactMap { Int($0) }
        return (try #require(numbers.first), try #require(numbers.last))
    }

    private static func with(
        _ config: @escaping @Sendable (LocalServer) -> String, rules: String = "",
        _ body: @escaping @Sendable (AgentDoor, LocalServer) async throws -> Void
    ) async throws {
        try await DaemonFixture.with(config: nil) { f in
            try await LocalServer.with(f, server) { server in
                try await f.succeed("down")
                try AgentDoor.configuration(f, config(server), rules: rules)
                try await f.up()
                try await body(AgentDoor(fixture: f), server)
            }
        }
    }

    private static func keeper(_ name: String, _ more: String = "") -> String {
        "name: \(name)\nmodel: default\nlifecycle: persistent\n"
            + "capabilities: ['tool: memory_store', 'tool: memory_query']\n\(more)"
    }

    private static let note = ["content": "the tide turns at noon", "category": "fact"]

    /// The ledger's records of an agent's calls of models: the fields of each, and its kind.
    private static func records(_ door: AgentDoor, _ id: String) async throws -> [[String: Any]] {
        let kinds = ["model_call_started", "model_call_answered", "model_call_failed", "budget_refused"]
        let told = try await door.result("audit.tail", ["kinds": kinds, "agent": id, "count": 100])
        let records = try #require(told["records"] as? [[String: Any]], "\(told)")
        return records.map { record in
            var fields = record["fields"] as? [String: Any] ?? [:]
            fields["kind"] = record["kind"]
            return fields
        }
    }

    /// What an agent and all below it have used.
    private static func tokens(_ door: AgentDoor, _ id: String) async throws -> Int? {
        let answer = try await door.result("agent.budget", ["agent_id": id])
        return (answer["used"] as? [String: Any])?["tokens"] as? Int
    }

    /// The agent is told that its budget is used up, and nothing is sent any more.
    @Test func theyAreTakenFromTheBudget() async throws {
        try await Self.with({ Self.provider($0.port) }) { door, server in
            let id = try await door.spawn(Self.keeper("keeper", "budget_config: { max_tokens: 150 }"))
            let stored = try await door.invoke(id, "memory_store", Self.note)
            #expect(AgentDoor.value(stored) != nil, "\(stored)")
            let found = try await door.invoke(id, "memory_query", ["query": "tide"])
            #expect(AgentDoor.value(found)?["count"] as? Int == 1, "\(found)")
            for (tool, input) in [("memory_query", ["query": "tide"]), ("memory_store", Self.note)] {
                let refused = try await door.invoke(id, tool, input)
                #expect(AgentDoor.code(refused) == "budget-exceeded", "\(refused)")
                #expect("\(refused)".contains("the budget of agent:\(id) is used up"), "\(refused)")
            }
            #expect(try Self.seen(server).count == 2)
            let records = try await Self.records(door, id)
            let call = ["model_call_started", "model_call_answered"]
            #expect(records.map { $0["kind"] as? String } == call + call + ["budget_refused", "budget_refused"])
            #expect(records.first?["embeddings"] as? Int == 1 && records.first?["model"] as? String == "e")
            #expect((records[1]["usage"] as? [String: Any])?["input"] as? Int == 100, "\(records[1])")
            #expect(try await Self.tokens(door, id) == 200)
            // A person's search is nobody's budget.
            _ = try await door.result("memory.query", ["agent_id": id, "query": "tide"])
            #expect(try Self.seen(server).count == 3)
            #expect(try await Self.tokens(door, id) == 200)
        }
    }

    /// What a child searches for is paid for by the agent that spawned it, in money too, and told to the limits of the tool.
    @Test func theirTreePaysForThem() async throws {
        let rules = """
              - when: { agent: child, tool: memory_query }
                reply: { text: "{{result}}", usage: { input: 1, output: 1 } }
              - when: { agent: child }
                reply: { tools: [{ name: memory_query, input: { query: tide, scope: team } }], usage: { input: 1, output: 1 } }

            """
        let models = "{ model: e, input_per_mtok: 1000, output_per_mtok: 0 }"
        try await Self.with({ Self.provider($0.port, models: models) }, rules: rules) { door, server in
            let id = try await door.spawn(
                "name: boss\nmodel: default\nlifecycle: persistent\nbudget_config: { max_usd: 0.3 }\n"
                    + "capabilities: [{grant: 'tool: spawn_agent', max_tokens: 5000}, 'tool: memory_query', 'memory: team', 'spawn: [child]']"
            )
            let child = [
                "manifest": "name: child\nmodel: default\ncapabilities: ['tool: memory_query', 'memory: team']",
                "message": "go",
            ]
            func run() async throws -> String? {
                let answer = try await door.invoke(id, "spawn_agent", child)
                return try #require(AgentDoor.value(answer)?["response"] as? String, "\(answer)")
            }
            for _ in 1...3 { #expect(try await run()?.contains(#""count":0"#) == true) }
            #expect(try await Self.tokens(door, id) == 312)
            let grants = try await door.result("agent.grants", ["agent_id": id])["grants"] as? [[String: Any]]
            let spawning = grants?.first { "\($0["terms"] ?? "")".contains("spawn_agent") }
            #expect((spawning?["used"] as? [String: Any])?["tokens"] as? Int == 312, "\(spawning ?? [:])")
            // The fourth would cost more than there is.
            #expect(try await run()?.contains("the budget of agent:\(id) is used up") == true)
            #expect(try Self.seen(server).count == 3)
        }
    }

    /// The money of a tool's grant is spent on no model without a price.
    @Test func moneyOfAGrantWantsAPrice() async throws {
        try await Self.with({ Self.provider($0.port) }) { door, server in
            let id = try await door.spawn(
                "name: keeper\nmodel: default\nlifecycle: persistent\ncapabilities: "
                    + "[{grant: 'tool: memory_store', max_usd: 1}, {grant: 'tool: memory_query', max_usd: 1}]\n")
            for (tool, input) in [("memory_query", ["query": "tide"]), ("memory_store", Self.note)] {
                let refused = try await door.invoke(id, tool, input)
                #expect(AgentDoor.code(refused) == "grant-needs-price", "\(refused)")
            }
            #expect(try Self.seen(server).count == 0)
        }
    }

    /// They wait for turns at the provider, and what the provider says that they took slows down what follows.
    @Test func theyWaitForTheirTurns() async throws {
        let keys = "max_concurrent: 1\n      tokens_per_minute: 100000"
        try await Self.with({ Self.provider($0.port, keys) }) { door, server in
            var agents: [String] = []
            for name in ["a", "b", "c", "d"] { agents.append(try await door.spawn(Self.keeper(name))) }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for id in agents {
                    group.addTask {
                        let found = try await door.invoke(id, "memory_query", ["query": "tide"])
                        #expect(AgentDoor.value(found) != nil, "\(found)")
                    }
                }
                try await group.waitForAll()
            }
            let seen = try Self.seen(server)
            #expect(seen.count == 4 && seen.atOnce == 1)
            // So much takes hours to come back: longer than anybody waits.
            try "100000000".write(toFile: server.file + ".takes", atomically: true, encoding: .utf8)
            let last = try await door.invoke(agents[0], "memory_query", ["query": "tide"])
            #expect(AgentDoor.value(last) != nil, "\(last)")
            let refused = try await door.invoke(agents[1], "memory_query", ["query": "tide"])
            #expect(AgentDoor.code(refused) == "inference-deadline", "\(refused)")
            #expect(try Self.seen(server).count == 5)
        }
    }

    /// Records of another model go to the provider in portions: what one of them has brought is kept, whatever becomes of the next.
    @Test func whatWasEmbeddedAgainIsKeptWhenTheRestFails() async throws {
        let storing = """
            import json, socket, sys
            s = socket.socket(socket.AF_UNIX); s.settimeout(100); s.connect(sys.argv[1]); f = s.makefile("rwb")
            for n in range(70):
                given = {"content": "tide %d" % n if n else "poison", "category": "fact"}
                params = {"agent_id": sys.argv[2], "tool": "memory_store", "input": given}
                f.write(json.dumps({"jsonrpc": "2.0", "id": n, "method": "tool.invoke", "params": params}).encode() + b"\\n"); f.flush()
                if "error" in json.loads(f.readline()): sys.exit("not stored: %d" % n)
            """
        try await Self.with({ _ in "" }) { door, server in
            let f = door.fixture
            let id = try await door.spawn(Self.keeper("keeper"))
            let stored = try await f.run("/usr/bin/python3", ["-c", storing, "\(f.home)/agentd.sock", id])
            try #require(stored.code == 0, "\(stored)")
            try "".write(toFile: server.file + ".refuses", atomically: true, encoding: .utf8)
            try await f.succeed("down")
            try AgentDoor.configuration(f, Self.provider(server.port))
            try await f.up()
            func left() async throws -> String {
                let query = "SELECT count(*) FROM memories WHERE model <> 'local/e'"
                return try await f.run("/usr/bin/sqlite3", ["\(f.home)/aegis.db", query]).out
            }
            let failed = try await door.invoke(id, "memory_query", ["query": "tide"])
            #expect(AgentDoor.code(failed) == "embedding-failed" && "\(failed)".contains("not this one"), "\(failed)")
            // The query, 64 records, and those with the oldest of all.
            #expect(try Self.seen(server).count == 3)
            #expect(try await left() == "6\n")
            try FileManager.default.removeItem(atPath: server.file + ".refuses")
            let found = try await door.invoke(id, "memory_query", ["query": "tide", "limit": 5])
            #expect(AgentDoor.value(found)?["count"] as? Int == 5, "\(found)")
            #expect(try Self.seen(server).count == 5)
            #expect(try await left() == "0\n")
        }
    }

    /// What was recorded is answered again without the server, and the records that were embedded by one are those of the other.
    @Test func whatWasRecordedIsReplayed() async throws {
        try await Self.with({ Self.provider($0.port, "record: \($0.file).jsonl") }) { door, server in
            func run() async throws -> [String: Any] {
                let id = try await door.spawn(Self.keeper("keeper"))
                for text in ["the tide turns at noon", "the ship is late"] {
                    let stored = try await door.invoke(id, "memory_store", ["content": text, "category": "fact"])
                    #expect(AgentDoor.value(stored) != nil, "\(stored)")
                }
                let found = try await door.invoke(id, "memory_query", ["query": "which ship?", "limit": 1])
                let results = try #require(AgentDoor.value(found)?["results"] as? [[String: Any]], "\(found)")
                _ = try await door.result("agent.stop", ["agent_id": id])
                return try #require(results.first)
            }
            let first = try await run()
            #expect(first["content"] as? String == "the ship is late")
            try await door.fixture.succeed("down")
            try AgentDoor.configuration(
                door.fixture,
                """
                    - name: local
                      type: replay
                      recording: \(server.file).jsonl
                      models: [{ model: chat }]
                  memory: { embedder: local/e, dimensions: 3 }

                """)
            try await door.fixture.up()
            let second = try await run()
            #expect(second["content"] as? String == "the ship is late")
            #expect("\(second["relevance_score"] ?? "")" == "\(first["relevance_score"] ?? "-")")
            #expect(try Self.seen(server).count == 3)
            // It holds no more than that.
            let id = try await door.spawn(Self.keeper("keeper"))
            let more = try await door.invoke(id, "memory_query", ["query": "anything else"])
            #expect(AgentDoor.code(more) == "embedding-failed" && "\(more)".contains("has no such request"), "\(more)")
        }
    }
}
