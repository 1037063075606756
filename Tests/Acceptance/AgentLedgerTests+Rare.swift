import Foundation
import Testing

/// Records of what seldom happens: each is provoked, and read back as people read them.
extension AgentLedgerTests {
    private static let rare = [
        "agent_sandbox_waits", "denial_repeated", "inference_refused", "model_call_retried", "model_fell_back",
    ]

    /// A registry that has no image.
    private static let registry = """
        class Handler(Base):
            def do_GET(self): self.answer(404, "application/json", b'{"errors": []}')
            do_HEAD = do_GET
        serve(Handler)
        """

    /// How many times a model wants a file in one answer that it may not read.
    private static let wanted = 60

    private static let stubborn =
        "  - when: { agent: stubborn, tool: file_read }\n    reply: { text: given up }\n"
        + "  - when: { agent: stubborn }\n    reply:\n      tools:\n"
        + String(repeating: "        - { name: file_read, input: { path: /workspace/none/of/yours } }\n", count: wanted)

    /// Models of which one fails once, one always, and one has used up its rate for a day with its first answer.
    private static func config(_ door: AgentDoor) throws -> String {
        let provider = { (name: String, rules: String, more: String) throws in
            """
                - name: \(name)
                  type: scripted
                  scenario: \(try door.scenario(rules))
                  \(more)
                  models: [{ alias: \(name), model: m }]

            """
        }
        return try provider(
            "shaky", "  - { times: 1, fail: { status: 503 } }\n  - reply: { text: whole }\n", "enabled: true")
            + provider("locked", "  - fail: { status: 401 }\n", "enabled: true")
            + provider(
                "spent", "  - reply: { text: much, usage: { input: 2000000, output: 1 } }\n", "tokens_per_minute: 1000")
            + "  llm_selection: { fallback: { locked: [default] }, max_retries: 1, retry_delay: 20ms }\n"
    }

    /// The records of some kinds, as `aegis audit tail` prints them for programs.
    private static func tail(_ f: DaemonFixture, _ kinds: [String]) async throws -> [[String: Any]] {
        let told = try await f.succeed(
            "audit", "tail", "--tail", "10000", "--kinds", kinds.joined(separator: ","), "--output", "json")
        return try told.out.split(separator: "\n").map { line in
            try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any], "\(line)")
        }
    }

    /// Does what there is to be told of.
    ///
    /// - Returns: who did it, by kind.
    private static func provoke(_ door: AgentDoor) async throws -> [String: String] {
        func run(_ model: String) async throws -> (id: String, result: [String: Any]) {
            let id = try await door.spawn("name: user-of-\(model)\nmodel: \(model)\nlifecycle: persistent")
            return (id, try await door.result("agent.run", ["agent_id": id, "message": "go"]))
        }
        var agents: [String: String] = [:]
        let shaky = try await run("shaky")
        #expect(shaky.result["response"] as? String == "whole", "\(shaky)")
        agents["model_call_retried"] = shaky.id
        let locked = try await run("locked")
        #expect(locked.result["response"] as? String == "x", "\(locked)")
        agents["model_fell_back"] = locked.id
        let spent = try await run("spent")
        #expect(spent.result["response"] as? String == "much", "\(spent)")
        let late = try await run("spent")
        let problem = late.result["error"] as? [String: Any]
        #expect(problem?["code"] as? String == "inference-deadline", "\(late)")
        agents["inference_refused"] = late.id
        try await LocalServer.with(door.fixture, registry) { server in
            let id = try await door.spawn(
                "name: waiting\nmodel: default\nlifecycle: persistent\ncapabilities: ['tool: exec', 'exec: *']\n"
                    + "sandbox: {image: \"127.0.0.1:\(server.port)/not/there:1\"}")
            let refused = try await door.invoke(id, "exec", ["argv": ["true"]])
            #expect(AgentDoor.code(refused) != nil, "\(refused)")
            agents["agent_sandbox_waits"] = id
        }
        return agents
    }

    @Test func whatSeldomHappensIsOnRecordToo() async throws {
        try await DaemonFixture.with(config: nil) { f in
            let door = AgentDoor(fixture: f)
            try await f.succeed("down")
            try AgentDoor.configuration(f, try Self.config(door), rules: Self.stubborn)
            try await f.up()
            var agents = try await Self.provoke(door)
            // So many in a second that they are counted: on a machine that is busy not at the first go.
            try await f.eventually("refusals are counted") {
                let manifest =
                    "name: stubborn\nmodel: default\ncapabilities: ['tool: file_read', 'file_read: /workspace/mine']"
                _ = try await door.result("agent.spawn_and_run", ["manifest": manifest, "message": "go"])
                // Of the file, and of the call that wanted it.
                let told = try await Self.tail(f, ["denial_repeated"]).compactMap { record in
                    (record["fields"] as? [String: Any])?["of"] as? String == "tool_refused"
                        ? record["agent"] as? String : nil
                }
                agents["denial_repeated"] = told.last
                return agents["denial_repeated"] != nil
            }
            let records = try await Self.tail(f, Self.rare)
            let pages = try Self.documented()
            for kind in Self.rare {
                let own = records.filter { $0["kind"] as? String == kind }
                let record = try #require(own.last { $0["agent"] as? String == agents[kind] }, "\(kind): \(own)")
                let known = try #require(pages[kind]).union(
                    kind.hasPrefix("model_") || kind == "inference_refused"
                        ? ["name", "tree", "provider", "model", "attempt"] : [])
                let fields = try #require(record["fields"] as? [String: Any])
                #expect(Set(fields.keys).isSubset(of: known), "\(record)")
            }
            try Self.check(records, agents)
            for kind in ["capability_denied", "tool_refused"] {
                try await Self.checkCount(f, try #require(agents["denial_repeated"]), of: kind)
            }
            // An auditor's copy has them, byte for byte as they were told.
            let copy = f.path("copy")
            try await f.succeed("audit", "export", copy)
            let exported = try await f.run("/bin/sh", ["-c", "cat '\(copy)'/*.jsonl"])
            for record in records {
                let hash = try #require(record["hash"] as? String, "\(record)")
                #expect(exported.out.contains(hash), "\(record)")
            }
            #expect(try await f.aegis("audit", "verify").code == 0)
        }
    }

    /// What the records of each kind say.
    private static func check(_ records: [[String: Any]], _ agents: [String: String]) throws {
        func fields(_ kind: String) throws -> [String: Any] {
            let record = records.last { $0["kind"] as? String == kind && $0["agent"] as? String == agents[kind] }
            return try #require(record?["fields"] as? [String: Any], "\(kind)")
        }
        let retried = try fields("model_call_retried")
        #expect(retried["error"] as? String == "overloaded" && retried["after_ms"] is Int, "\(retried)")
        #expect(retried["attempt"] as? Int == 1 && retried["provider"] as? String == "shaky", "\(retried)")
        let fellBack = try fields("model_fell_back")
        #expect(fellBack["from"] as? String == "locked/m" && fellBack["error"] as? String == "auth", "\(fellBack)")
        #expect(fellBack["provider"] as? String == "demo", "\(fellBack)")
        let refused = try fields("inference_refused")
        #expect(refused["error"] as? String == "inference-deadline" && refused["owner"] == nil, "\(refused)")
        #expect(refused["provider"] as? String == "spent", "\(refused)")
        let waits = try fields("agent_sandbox_waits")
        #expect((waits["text"] as? String)?.hasPrefix("fetching the image '127.0.0.1:") == true, "\(waits)")
    }

    /// What was counted belongs to the turn that it was counted in, and is all that was not written.
    private static func checkCount(_ f: DaemonFixture, _ agent: String, of kind: String) async throws {
        var (written, told): ([[String: Any]], [[String: Any]]) = ([], [])
        // The last of them are told when their second is over.
        try await f.eventually("all are written or told") {
            let records = try await tail(f, [kind, "denial_repeated"]).filter { $0["agent"] as? String == agent }
            told = records.filter { ($0["fields"] as? [String: Any])?["of"] as? String == kind }
            written = records.filter { $0["kind"] as? String == kind }
            let counts = told.compactMap { ($0["fields"] as? [String: Any])?["times"] as? Int }
            return written.count + counts.reduce(0, +) == wanted
        }
        let first = try #require(written.first)
        for record in told {
            #expect(record["trace"] is String && record["trace"] as? String == first["trace"] as? String, "\(record)")
            #expect(record["step"] is Int && record["step"] as? Int == first["step"] as? Int, "\(record)")
            let what = (record["fields"] as? [String: Any])?["what"] as? [String: Any]
            let same = kind == "tool_refused" ? "input_hash" : "action"
            #expect(what?[same] as? String == (first["fields"] as? [String: Any])?[same] as? String)
            #expect(what?["call_id"] == nil, "\(record)")
        }
    }
}
