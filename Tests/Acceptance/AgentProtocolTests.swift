import Foundation
import Testing

/// What the standard of JSON-RPC says of batches and notifications, on the daemon's `agentd.sock`.
@Suite struct AgentProtocolTests {
    private static func lines(_ door: AgentDoor, _ said: String...) async throws -> [Any] {
        let heard = try await door.raw(Array((said.joined(separator: "\n") + "\n").utf8))
        try #require(heard.code == 0, "\(heard)")
        return try heard.out.split(separator: "\n").map { try JSONSerialization.jsonObject(with: Data($0.utf8)) }
    }

    private static func code(_ answer: [String: Any]) -> String {
        answer["result"] != nil ? "result" : AgentDoor.code(answer) ?? "?"
    }

    @Test func aBatchIsAnsweredInItsOrderWithoutWhatIsNoQuestion() async throws {
        try await AgentDoor.with { door in
            let list = #"{"jsonrpc":"2.0","id":"first","method":"agent.list"}"#
            let members = [
                list, "1", #""text""#, "null", "[]", "{}", #"{"jsonrpc":"2.0","method":"agent.list"}"#,
                #"{"jsonrpc":"1.0","id":1,"method":"agent.list"}"#, #"{"jsonrpc":"2.0","id":2,"method":"agent.lst"}"#,
                #"{"jsonrpc":"2.0","id":3,"method":"agent.list","more":1}"#,
                #"{"jsonrpc":"2.0","id":4,"method":"agent.list","params":"all"}"#,
                #"{"jsonrpc":"2.0","id":{},"method":"agent.list"}"#,
                #"{"jsonrpc":"2.0","id":7,"method":"agent.status","params":{"agent_id":"nobody"}}"#,
                #"{"jsonrpc":"2.0","id":8,"method":"audit.head"}"#,
            ]
            let answers = try await Self.lines(door, "[\(members.joined(separator: ","))]")
            try #require(answers.count == 1, "\(answers)")
            let batch = try #require(answers.first as? [[String: Any]], "\(answers)")
            #expect(
                batch.map(Self.code) == [
                    "result", "invalid-request", "invalid-request", "invalid-request", "invalid-request",
                    "invalid-request", "invalid-request", "unknown-method", "invalid-request", "invalid-request",
                    "invalid-request", "agent-not-found", "result",
                ], "\(batch)")
            #expect(batch.first?["id"] as? String == "first" && batch.last?["id"] as? Int == 8)
            #expect(batch[1]["id"] is NSNull, "\(batch[1])")
        }
    }

    @Test func whatIsNoBatchIsRefusedAndTheNextLineIsServed() async throws {
        try await AgentDoor.with { door in
            let list = #"{"jsonrpc":"2.0","id":1,"method":"agent.list"}"#
            let twice = #"{"jsonrpc":"2.0","id":5,"id":6,"method":"agent.list"}"#
            let many = "[\(Array(repeating: list, count: 101).joined(separator: ","))]"
            for (said, code) in [
                ("[]", "invalid-request"), (many, "invalid-request"), ("[\(list),", "parse-error"),
                ("[\(twice),\(list)]", "parse-error"),
            ] {
                let answers = try await Self.lines(door, said, list)
                // Answers come as they end.
                let codes = answers.compactMap { ($0 as? [String: Any]).map(Self.code) }
                #expect(codes.sorted() == [code, "result"].sorted(), "\(said.prefix(20)): \(answers)")
            }
            let hundred = try await Self.lines(
                door, "[\(Array(repeating: list, count: 100).joined(separator: ","))]")
            #expect((hundred.first as? [Any])?.count == 100)
        }
    }

    /// Notifications are done and not answered, alone and in a batch; what is wrong in one is nobody's business either.
    @Test func notificationsAreDoneAndNotAnswered() async throws {
        try await AgentDoor.with { door in
            let spawn =
                #"{"jsonrpc":"2.0","method":"agent.spawn","params":{"manifest":"name: NAME\nmodel: default\nlifecycle: persistent"}}"#
            func named(_ name: String) -> String { spawn.replacing("NAME", with: name) }
            let wrong = #"{"jsonrpc":"2.0","method":"agent.spwn","params":{}}"#
            let answers = try await Self.lines(
                door, named("one"), "[\(named("two")),\(wrong),\(named("three"))]", wrong)
            #expect(answers.isEmpty, "\(answers)")
            try await door.fixture.eventually("all are there") {
                let agents = try await door.result("agent.list")["agents"] as? [[String: Any]]
                return Set(agents?.compactMap { $0["name"] as? String } ?? []) == ["one", "two", "three"]
            }
        }
    }

    /// The number of a tool's failure is that of its family: a program need not know every word.
    @Test func failuresOfToolsHaveTheNumbersOfTheirFamilies() async throws {
        try await AgentDoor.with { door in
            let id = try await door.spawn(
                """
                name: worker
                model: default
                lifecycle: persistent
                capabilities: ["tool: file_read", "tool: file_write", "file_read: /workspace/*", "file_write: /workspace/*"]
                """)
            for (tool, input, code, number) in [
                ("file_read", ["path": "/workspace/none"], "path-not-found", -32004),
                ("file_read", ["path": "/etc/passwd"], "capability-denied", -32003),
                ("file_read", ["pth": "/workspace/none"], "arguments-invalid", -32602),
                ("echo", ["message": "x"], "capability-denied", -32003),
                ("ecko", ["message": "x"], "tool-unknown", -32004),
                (
                    "file_write", ["path": "/workspace/a", "content": String(repeating: "x", count: 1_048_577)],
                    "content-too-large", -32013
                ),
            ] as [(String, [String: String], String, Int)] {
                let answer = try await door.invoke(id, tool, input)
                #expect(AgentDoor.code(answer) == code, "\(tool): \(answer)")
                #expect((answer["error"] as? [String: Any])?["code"] as? Int == number, "\(tool): \(answer)")
            }
            let wrong = try await door.fixture.aegis("tool", "invoke", "--agent", id, "file_read", #"{"pth": "x"}"#)
            let none = try await door.fixture.aegis(
                "tool", "invoke", "--agent", id, "file_read", #"{"path": "/workspace/none"}"#)
            #expect(wrong.code == 2 && none.code == 4, "\(wrong) \(none)")
        }
    }
}
