import Foundation
import Testing

/// An agent goes on whatever its conversation has come to.
@Suite struct AgentRoomTests {
    /// A small model that calls a tool with a long text, or writes one, when it is asked to.
    private static func with(_ body: @escaping @Sendable (AgentDoor, _ record: String) async throws -> Void)
        async throws
    {
        try await DaemonFixture.with(config: nil) { f in
            let (scenario, record) = (f.path("room.yaml"), f.path("room.jsonl"))
            try """
            apiVersion: aegis/v1
            kind: ModelScenario
            rules:
              - when: { system: "You write summaries" }
                reply: { text: "much was read" }
              - when: { message: "study" }
                times: 10
                reply: { tools: [{ name: file_read, input: { path: /workspace/book } }] }
              - when: { message: "study" }
                reply: { text: "studied" }
              - when: { tool: file_read }
                reply: { text: "read it" }
              - when: { message: "read" }
                reply: { tools: [{ name: file_read, input: { path: /workspace/long } }] }
              - when: { message: "dense" }
                times: 1
                fail: { error: context_too_long }
              - when: { message: "never" }
                times: 1
                fail: { error: context_too_long }
              - reply: { text: "noted" }
            """.write(toFile: scenario, atomically: true, encoding: .utf8)
            try await f.succeed("down")
            try AgentDoor.configuration(
                f,
                """
                    - name: small
                      type: scripted
                      scenario: \(scenario)
                      record: \(record)
                      models: [{ alias: small, model: small, context_window: 4096, max_output_tokens: 1024 }]
                  llm_selection: { max_retries: 0 }

                """)
            try await f.up()
            try await body(AgentDoor(fixture: f), record)
        }
    }

    private static let manifest = """
        name: talker
        model: small
        lifecycle: persistent
        capabilities: ["tool: file_read", "tool: file_write", "file_read: /workspace/*", "file_write: /workspace/*"]
        """

    private static func ask(_ door: AgentDoor, _ id: String, _ message: String) async throws -> (
        stop: String?, text: String?
    ) {
        let reply = try await door.result("agent.run", ["agent_id": id, "message": message])
        return (reply["stop_reason"] as? String, reply["response"] as? String)
    }

    /// Neither a message nor an answer that is larger than the window is the end of an agent.
    @Test func whatIsLargerThanTheWindowDoesNotStayInTheWay() async throws {
        try await Self.with { door, record in
            let id = try await door.spawn(Self.manifest)
            let long = try await door.result(
                "agent.run", ["agent_id": id, "message": String(repeating: "sand ", count: 8000)])
            #expect((long["error"] as? [String: Any])?["code"] as? String == "context-too-long", "\(long)")
            var (stop, text) = try await Self.ask(door, id, "and now?")
            #expect(stop == "complete" && text == "noted")
            // A call and its result are never left out, and this one is far larger than all that there is.
            let lines = String(repeating: String(repeating: "tide ", count: 10) + "\n", count: 1500)
            _ = try await door.invoke(id, "file_write", ["path": "/workspace/long", "content": lines])
            (stop, text) = try await Self.ask(door, id, "read")
            #expect(stop == "complete" && text == "read it")
            let told = try await door.result("audit.tail", ["kinds": ["context_shortened"], "agent": id])
            #expect((told["records"] as? [Any])?.count == 2, "\(told)")
            let asked = try String(contentsOfFile: record, encoding: .utf8).split(separator: "\n")
            #expect(asked.last?.contains("bytes left out") == true)
            // The steps are the same for the next daemon.
            try await door.fixture.succeed("down")
            try await door.fixture.up()
            (stop, text) = try await Self.ask(door, id, "still there?")
            #expect(stop == "complete" && text == "noted")
        }
    }

    /// A provider that counts more tokens than we do is asked again with less, and what never fits does not spoil later turns.
    @Test func whatAProviderRefusesAsTooLongIsMadeSmaller() async throws {
        try await Self.with { door, record in
            let id = try await door.spawn(Self.manifest)
            for number in 1...3 {
                let words = "part \(number): " + String(repeating: "tide ", count: 300)
                #expect(try await Self.ask(door, id, words).text == "noted")
            }
            #expect(try await Self.ask(door, id, "dense").text == "noted")
            let asked = try String(contentsOfFile: record, encoding: .utf8).split(separator: "\n")
            #expect(asked.first { $0.contains("part 1: ") } != nil)
            #expect(asked.last?.contains("part 1: ") == false && asked.last?.contains("dense") == true)
            let never = try await door.result("agent.run", ["agent_id": id, "message": "never"])
            #expect((never["error"] as? [String: Any])?["code"] as? String == "context-too-long", "\(never)")
            #expect(try await Self.ask(door, id, "and now?").text == "noted")
        }
    }

    /// One turn may read far more than its model's window holds: it is summarised on its way, and what it is about stays.
    @Test func aLongTurnIsSummarisedOnItsWay() async throws {
        try await Self.with { door, record in
            let id = try await door.spawn(Self.manifest)
            let lines = String(repeating: String(repeating: "tide ", count: 10) + "\n", count: 60)
            _ = try await door.invoke(id, "file_write", ["path": "/workspace/book", "content": lines])
            let (stop, text) = try await Self.ask(door, id, "study the book to its end")
            #expect(stop == "complete" && text == "studied")
            let told = try await door.result("audit.tail", ["kinds": ["context_summarized"], "agent": id])
            #expect((told["records"] as? [Any])?.count ?? 0 >= 2, "\(told)")
            let asked = try String(contentsOfFile: record, encoding: .utf8).split(separator: "\n")
                .filter { !$0.contains("You write summaries") }
            #expect(asked.allSatisfy { $0.contains("study the book to its end") }, "\(asked.count)")
            #expect(asked.last?.contains("much was read") == true)
        }
    }
}
