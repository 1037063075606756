import AegisIO
import Foundation
import LinuxSys
import Testing

/// What agents use of the world, as the configuration names it: a model for embeddings, a search service.
@Suite struct AgentServicesTests {
    /// Vectors that know that a car is an automobile, which the built-in embedder cannot.
    private static let embeddings = """
        import base64, struct
        MEANINGS = {"car": 0, "automobile": 0, "vehicle": 0, "port": 1, "harbour": 1, "tea": 2}
        asked = 0
        class Handler(Base):
            def do_POST(self):
                global asked
                asked += 1
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                # What is overloaded for a moment is asked again.
                if asked == 1: return self.answer(503, "application/json", b'{"error": {"message": "busy"}}')
                if asked == 2: return self.answer(429, "application/json", b'{"error": {"message": "slowly"}}')
                if self.path != "/v1/embeddings" or self.headers["Authorization"] != "Bearer key-1":
                    return self.answer(401, "application/json", b'{"error": {"message": "bad key"}}')
                size = {"small": 4, "large": 6}.get(body["model"])
                if size is None:
                    return self.answer(404, "application/json", b'{"error": {"message": "no such model"}}')
                data = []
                for index, text in enumerate(body["input"]):
                    vector = [0.01] * size
                    for word in text.lower().replace(".", " ").split():
                        if word in MEANINGS: vector[MEANINGS[word]] += 1.0
                    data.append({"index": index, "embedding": vector})
                if body.get("encoding_format") == "base64" and body["model"] == "large":
                    for one in data: one["embedding"] = base64.b64encode(struct.pack("<%df" % size, *one["embedding"])).decode()
                data.reverse()
                self.answer(200, "application/json", json.dumps({"data": data, "model": body["model"]}).encode())
        serve(Handler)
        """

    private static func config(_ port: Int, _ model: String, _ dimensions: Int) -> String {
        """
            - name: local
              type: openai-compatible
              endpoint: http://127.0.0.1:\(port)/v1
              api_key: key-1
              models: [{ model: chat }]
          memory: { embedder: local/\(model), dimensions: \(dimensions) }

        """
    }

    private static let manifest = """
        name: thinker
        model: default
        lifecycle: persistent
        capabilities: ["tool: memory_store", "tool: memory_query"]
        memory: { persistent: true }
        """

    /// A change of the model is seen: what the old one has embedded is embedded again, and nothing is compared across.
    @Test func aProvidersModelMakesTheVectors() async throws {
        try await DaemonFixture.with(config: nil) { f in
            try await LocalServer.with(f, Self.embeddings) { server in
                let door = AgentDoor(fixture: f)
                func restart(_ model: String, _ dimensions: Int) async throws {
                    try await f.succeed("down")
                    try AgentDoor.configuration(f, Self.config(server.port, model, dimensions))
                    try await f.up()
                }
                func query(_ text: String) async throws -> [String: Any] {
                    try await door.result("memory.query", ["agent_id": "thinker", "query": text, "limit": 1])
                }
                func best(_ text: String) async throws -> [String: Any] {
                    try #require((try await query(text)["results"] as? [[String: Any]])?.first)
                }
                try await restart("small", 4)
                let id = try await door.spawn(Self.manifest)
                for text in ["The car is red.", "The harbour is deep."] {
                    let stored = try await door.invoke(id, "memory_store", ["content": text, "category": "fact"])
                    #expect(AgentDoor.value(stored) != nil, "\(stored)")
                }
                let found = try await best("automobile")
                #expect(found["content"] as? String == "The car is red.")
                #expect(found["model"] as? String == "local/small")
                // Another model, with vectors of another length.
                try await restart("large", 6)
                let again = try await best("vehicle")
                #expect(again["content"] as? String == "The car is red." && again["model"] as? String == "local/large")
                let log = try String(contentsOfFile: "\(f.home)/aegisd.log", encoding: .utf8)
                #expect(log.contains("memories of another model are embedded again") && log.contains("records=2"))
                // What cannot be is said: another length than is configured, no such model, nobody there.
                for (model, dimensions, code) in [("large", 5, "embedding-invalid"), ("none", 6, "embedding-failed")] {
                    try await restart(model, dimensions)
                    let refused = try await door.invoke(id, "memory_query", ["query": "vehicle"])
                    #expect(AgentDoor.code(refused) == code, "\(refused)")
                }
                // And with what is built in they are found by their words.
                try await f.succeed("down")
                try AgentDoor.configuration(f, "")
                try await f.up()
                #expect(try await best("the red car")["model"] as? String == "aegis-hash-1")
            }
        }
    }

    private static let bootstrapID = "0b6e7c1a-52f3-4d0e-9a57-3f1c2d4e5f60"

    /// The agent that takes goals remembers only where the configuration says so, and forgets where it says that.
    @Test func whoTakesGoalsKeepsItsMemoryIfToldTo() async throws {
        try await DaemonFixture.with(config: nil) { f in
            let door = AgentDoor(fixture: f)
            let rules = """
                  - name: learn
                    when: { agent: bootstrap, turn: 1 }
                    reply: { tools: [{ name: memory_store, input: { content: "Short goals work", category: fact } }] }

                """
            for (more, count) in [
                ("", 0), ("  agents: { persistent_memory: true }\n", 1), ("  agents: { persistent_memory: true }\n", 2),
                ("  agents: { persistent_memory: true, bootstrap_id: \(Self.bootstrapID) }\n", 1),
                ("  agents: { persistent_memory: true, bootstrap_id: \(Self.bootstrapID) }\n", 2),
                ("  agents: { persistent_memory: true }\n", 3),
                ("  agents: { persistent_memory: true, reset_memory: true }\n", 1),
            ] {
                try await f.succeed("down")
                try AgentDoor.configuration(f, more, rules: rules)
                try await f.up()
                try await f.succeed("goal", "learn something")
                let places = try await door.result("memory.list")["places"] as? [[String: Any]]
                // The place that was used last stands first: each id has its own.
                let name = more.contains("bootstrap_id") ? "bootstrap#\(Self.bootstrapID)" : "bootstrap"
                #expect(places?.first?["records"] as? Int ?? 0 == count, "\(more)")
                #expect(count == 0 || places?.first?["agent_id"] as? String == name, "\(more): \(places ?? [])")
            }
        }
    }

    /// The tool is there only where a service is configured; that one may be on this host, which no grant can name.
    @Test func aSearchServiceOfTheOperatorIsAsked() async throws {
        try await DaemonFixture.with(config: nil) { f in
            let program = """
                class Handler(Base):
                    def do_GET(self):
                        where = urllib.parse.urlsplit(self.path); query = urllib.parse.parse_qs(where.query)
                        if where.path != "/search" or query.get("format") != ["json"] or self.headers["X-Key"] != "k-1":
                            return self.answer(403, "text/plain", b"no")
                        found = [{"title": "About " + query["q"][0], "url": "https://a.example/", "content": "C"}] * 3
                        self.answer(200, "application/json", json.dumps({"results": found}).encode())
                serve(Handler)
                """
            try await LocalServer.with(f, program) { server in
                let door = AgentDoor(fixture: f)
                let tools = try await door.result("tool.list")["tools"] as? [[String: Any]]
                #expect(tools?.contains { $0["name"] as? String == "web_search" } == false)
                try await f.succeed("down")
                try AgentDoor.configuration(
                    f,
                    """
                      web_search: { type: searxng, endpoint: "http://127.0.0.1:\(server.port)/", api_key: k-1, key_header: X-Key }

                    """)
                try await f.up()
                let granted = try await door.spawn(
                    "name: finder\nmodel: default\ncapabilities: ['tool: web_search', 'tool: web_fetch', web_search]")
                let found = try await door.invoke(granted, "web_search", ["query": "tides & moons", "count": 2])
                let results = AgentDoor.value(found)?["results"] as? [[String: Any]]
                #expect(results?.count == 2 && results?.first?["title"] as? String == "About tides & moons", "\(found)")
                // The service is the operator's choice; an address that a model chooses is not.
                let fetched = try await door.invoke(
                    granted, "web_fetch", ["url": "http://127.0.0.1:\(server.port)/search?q=x&format=json"])
                #expect(fetched["error"] != nil, "\(fetched)")
                let other = try await door.spawn(
                    "name: other\nmodel: default\ncapabilities: ['tool: web_search', 'network: a.example']")
                let refused = try await door.invoke(other, "web_search", ["query": "x"])
                #expect(AgentDoor.code(refused) == "capability-denied", "\(refused)")
                // Whoever reads the configuration does not see the key.
                #expect(try await f.succeed("config", "show").out.contains("k-1") == false)
            }
        }
    }

    /// A page is read as text; every host on the way to it is asked for, and none leads to where the public internet does not.
    @Test func pagesOfTheWebAreFetched() async throws {
        try await OutsideWorld.with { f in
            let door = AgentDoor(fixture: f)
            try await f.succeed("down")
            try AgentDoor.configuration(f, "")
            try await f.up()
            let hosts = ["web", "private", "loop", "meta"].map { "'network: \($0).example'" }
            let id = try await door.spawn(
                "name: reader\nmodel: default\ncapabilities: ['tool: web_fetch', \(hosts.joined(separator: ", "))]")
            func fetch(_ url: String) async throws -> [String: Any] {
                try await door.invoke(id, "web_fetch", ["url": url])
            }
            let answer = try await fetch("http://web.example/page")
            let page = try #require(AgentDoor.value(answer), "\(answer)")
            let text = page["body"] as? String ?? ""
            #expect(page["title"] as? String == "Tides" && page["extracted"] as? Bool == true, "\(page)")
            #expect(text.contains("# High") && text.contains("Twice a day.") && !text.contains("bad()"), "\(page)")
            let plain = AgentDoor.value(try await fetch("http://web.example/to?/x"))
            #expect(plain?["body"] as? String == "web web.example /x" && plain?["redirects"] as? Int == 1)
            for (url, code) in [
                ("http://other.example/", "capability-denied"),
                ("http://web.example/to?http://other.example/", "capability-denied"),
                ("https://web.example/page", "certificate-invalid"), ("file:///etc/passwd", "url-invalid"),
            ] {
                let refused = try await fetch(url)
                #expect(AgentDoor.code(refused) == code, "\(url): \(refused)")
            }
            for host in ["private", "loop", "meta"] {
                let refused = try await fetch("http://\(host).example/")
                #expect("\(refused)".contains("not on the public internet"), "\(refused)")
            }
        }
    }
}
