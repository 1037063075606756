import Foundation
import Testing

/// Fields of a manifest, through `agentd.sock`: each changes what the agent's model is asked, or what becomes of the turn.
@Suite struct AgentFieldTests {
    private struct Question {
        let agent: String
        let model: String
        let system: String
        let most: Int?
        let tools: [String]
    }

    /// Two models with large windows; what they are asked is on record.
    private static func with(_ body: @escaping @Sendable (AgentDoor, _ record: String) async throws -> Void)
        async throws
    {
        try await DaemonFixture.with(config: nil) { f in
            let (scenario, record) = (f.path("fields.yaml"), f.path("fields.jsonl"))
            try """
            apiVersion: aegis/v1
            kind: ModelScenario
            rules:
              - when: { system: "You write summaries" }
                reply: { text: "they spoke of tides" }
              - when: { message: "for ever" }
                reply: { tools: [{ name: echo, input: { message: x } }] }
              - reply: { text: noted }
            """.write(toFile: scenario, atomically: true, encoding: .utf8)
            try await f.succeed("down")
            try AgentDoor.configuration(
                f,
                """
                    - name: recorded
                      type: scripted
                      scenario: \(scenario)
                      record: \(record)
                      models:
                        - { alias: large, model: large, context_window: 200000 }
                        - { alias: brief, model: brief, context_window: 200000 }

                """)
            try await f.up()
            try await body(AgentDoor(fixture: f), record)
        }
    }

    private static func questions(_ record: String) throws -> [Question] {
        try String(contentsOfFile: record, encoding: .utf8).split(separator: "\n").map { line in
            let value = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            let request = try #require(value["request"] as? [String: Any])
            return Question(
                agent: request["agent"] as? String ?? "", model: request["model"] as? String ?? "",
                system: request["system"] as? String ?? "", most: request["max_output_tokens"] as? Int,
                tools: (request["tools"] as? [[String: Any]] ?? []).compactMap { $0["name"] as? String })
        }
    }

    /// How much of a conversation is kept, and who writes what stands for the rest.
    @Test func theFieldsOfMemoryCount() async throws {
        try await Self.with { door, record in
            // About 400 tokens with each message: 4,000 in all.
            func summaries(_ name: String, _ memory: String) async throws -> Int {
                let id = try await door.spawn(
                    "name: \(name)\nmodel: large\nlifecycle: persistent\ncapabilities: ['model: brief']\n\(memory)")
                for _ in 0..<2 { #expect(try await door.talk(with: id).allSatisfy { $0 == "noted" }) }
                let told = try await door.result(
                    "audit.tail", ["kinds": ["context_summarized"], "agent": id, "count": 100])
                return (told["records"] as? [Any])?.count ?? 0
            }
            #expect(try await summaries("usual", "") == 0)
            #expect(try await summaries("window", "memory: { context_window: 3k, summarization_model: brief }") > 0)
            #expect(try await summaries("messages", "memory: { max_history_messages: 4 }") > 0)
            #expect(try await summaries("late", "memory: { context_window: 8k, summarization_threshold: 0.95 }") == 0)
            #expect(try await summaries("early", "memory: { context_window: 8k, summarization_threshold: 0.1 }") > 0)
            let asked = try Self.questions(record).filter { $0.system.hasPrefix("You write summaries") }
            func writers(_ name: String) -> Set<String> { Set(asked.filter { $0.agent == name }.map(\.model)) }
            #expect(writers("window") == ["brief"] && writers("messages") == ["large"] && writers("early") == ["large"])
        }
    }

    /// What its model is told, offered and allowed, and how often it is asked.
    @Test func theFieldsOfATurnCount() async throws {
        try await Self.with { door, record in
            func run(_ name: String, _ more: String, _ message: String = "go") async throws -> [String: Any] {
                let manifest =
                    "name: \(name)\nmodel: large\ncapabilities: ['tool: echo', 'tool: memory_query']\n\(more)"
                return try await door.result("agent.spawn_and_run", ["manifest": manifest, "message": message])
            }
            _ = try await run("usual", "")
            _ = try await run("told", "system_prompt: You count tides.\nmax_output_tokens: 77")
            _ = try await run("bare", "memory: { episodic_enabled: false }")
            let cut = try await run("cut", "max_iterations: 3", "for ever")
            #expect(cut["stop_reason"] as? String == "max_iterations" && cut["iterations"] as? Int == 3, "\(cut)")
            let asked = try Self.questions(record)
            func question(_ name: String) throws -> Question {
                try #require(asked.first { $0.agent == name }, "\(name)")
            }
            #expect(try question("told").system.hasPrefix("You count tides.") && question("told").most == 77)
            #expect(try question("usual").most == 16_384 && question("usual").tools == ["echo", "memory_query"])
            #expect(try question("bare").tools == ["echo"])
            #expect(asked.count { $0.agent == "cut" } == 3)

            // What is only for people is shown to them.
            let file = door.fixture.path("labelled.yaml")
            try "name: labelled\nmodel: large\nmetadata: { team: research }\n".write(
                toFile: file, atomically: true, encoding: .utf8)
            try await door.fixture.succeed("agent", "deploy", file)
            let shown = try await door.fixture.succeed("agent", "show", "labelled", "--output", "json")
            #expect(shown.out.contains(#""team": "research""#), "\(shown)")
        }
    }
}
