import Foundation
import Testing

/// What agents were in the middle of when their daemon ended, with leave to go or without.
@Suite struct AgentRestartTests {
    private static func pending(_ door: AgentDoor) async throws -> [String] {
        let list = try await door.result("approval.list")["pending"] as? [[String: Any]]
        return try #require(list).compactMap { $0["id"] as? String }
    }

    /// What only asks is asked again by the next daemon, also when the last one ended in order: no model reads of an end that is none.
    @Test func whatOnlyReadsIsDoneAgain() async throws {
        let rules = """
              - when: { agent: finder, tool: web_search }
                reply: { text: "{{result:web_search.results}}" }
              - when: { agent: finder }
                reply: { tools: [{ name: web_search, input: { query: tides } }] }

            """
        try await DaemonFixture.with(config: nil) { f in
            // The first question is never answered.
            let program = """
                asked = [0]
                class Handler(Base):
                    def do_GET(self):
                        asked[0] += 1
                        if asked[0] == 1:
                            open(sys.argv[1] + ".asked", "w").close()
                            return threading.Event().wait()
                        found = [{"title": "the second time", "url": "https://a.example/", "content": "C"}]
                        self.answer(200, "application/json", json.dumps({"results": found}).encode())
                serve(Handler)
                """
            try await LocalServer.with(f, program) { server in
                let door = AgentDoor(fixture: f)
                try await f.succeed("down")
                let search = "  web_search: { type: searxng, endpoint: \"http://127.0.0.1:\(server.port)/\" }\n"
                try AgentDoor.configuration(f, search, rules: rules)
                try await f.up()
                let id = try await door.spawn(
                    "name: finder\nmodel: default\nlifecycle: persistent\ncapabilities: ['tool: web_search', web_search]"
                )
                let sent = try await door.result("agent.run", ["agent_id": id, "message": "go", "wait": false])
                try await f.eventually("it is asked") { FileManager.default.fileExists(atPath: server.file + ".asked") }
                try await f.succeed("down")
                try await f.up()
                let reply = try await door.result(
                    "agent.reply", ["agent_id": id, "trace_id": sent["trace_id"] ?? "", "wait": true])
                #expect((reply["response"] as? String)?.contains("the second time") == true, "\(reply)")
            }
        }
    }

    /// Nobody can use an answer to a call whose caller went with the daemon: it does not wait for one any more.
    @Test func callersThatAreGoneWaitForNobody() async throws {
        try await AgentDoor.with { door in
            let f = door.fixture
            let id = try await door.spawn(
                "name: worker\nmodel: default\nlifecycle: persistent\ncapabilities: ['tool: echo']\n"
                    + "approval_required: [echo]")
            async let call = door.send(
                "tool.invoke", ["agent_id": id, "tool": "echo", "input": ["message": "x"]])
            try await f.eventually("it asks") { try await Self.pending(door).count == 1 }
            let approval = try #require(try await Self.pending(door).first)
            try await f.crash()
            _ = try await call
            try await f.up()
            #expect(try await Self.pending(door).isEmpty)
            let answer = ["id": approval, "decision": "approve"]
            #expect(try await door.problem("approval.respond", answer) == "approval-closed")
        }
    }

    /// However often its daemon ends: of an agent's scheduled calls one waits at most.
    @Test func scheduledCallsDoNotPileUp() async throws {
        let rules = """
              - when: { agent: timer }
                latency: 10m
                reply: { text: never }
              - when: { agent: beat, tool: file_write }
                reply: { text: done }
              - when: { agent: beat }
                reply: { tools: [{ name: file_write, input: { path: /workspace/log, content: "x", append: true } }] }

            """
        try await AgentDoor.with(rules: rules) { door in
            let f = door.fixture
            // Another one that works at once shows that calls have been due meanwhile.
            let beat = try await door.spawn(
                "name: beat\nmodel: default\nlifecycle: scheduled\nschedule: '@every 1s'\n"
                    + "capabilities: ['tool: file_write', 'file_write: /workspace/**']")
            let log = "\(f.home)/agents/\(beat)/workspace/log"
            func beats() -> Int { FileManager.default.contents(atPath: log)?.count ?? 0 }
            let id = try await door.spawn("name: timer\nmodel: default\nlifecycle: scheduled\nschedule: '@every 1s'")
            func mail() async throws -> Int {
                let list = try await door.result("agent.list")["agents"] as? [[String: Any]]
                let own = try #require(list?.first { $0["id"] as? String == id }, "\(list ?? [])")
                return try #require(own["mail"] as? Int, "\(own)")
            }
            try await f.eventually("one call waits while one is under way") { try await mail() == 1 }
            for _ in 1...2 {
                try await f.crash()
                let before = beats()
                try await f.up()
                // Turns that were cut may make one of them, and a call that waited another.
                try await f.eventually("several calls were due") { beats() >= before + 4 }
                #expect(try await mail() == 1)
            }
        }
    }
}
