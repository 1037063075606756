import Foundation
import Testing

/// Lists stay readable, whatever is in them.
@Suite struct GoalListTests {
    /// Goals of almost a megabyte each, given up at once, and one more.
    private static let client = """
        text = "grow " * 200000
        for number in range(70):
            goal = call("goal.submit", goal="%d: %s" % (number, text))
            call("goal.cancel", goal_id=goal["id"])
        print(goal["text"] == "69: " + text, call("goal.show", goal_id=goal["id"])["text"] == "69: " + text)
        first = call("goal.list")
        print(len(first["goals"]), first["next"], max(len(g["text"]) for g in first["goals"]), "response" in first["goals"][0])
        """

    @Test func largeGoalsOfOneUserDoNotEndTheListsOfOthers() async throws {
        try await AgentDoor.with { door in
            let f = door.fixture
            try await door.openToAll()
            let said = try await f.run(
                "/usr/bin/setpriv",
                ["--reuid", "65534", "--regid", "65534", "--clear-groups", "/usr/bin/python3", "-c"]
                    + [ForeignClients.ofStreams + Self.client, f.home])
            #expect(said.out == "True True\n70 None 1024 False\n", "\(said)")
            let list = try await f.succeed("goal", "list")
            #expect(list.out.split(separator: "\n").count == 71, "\(list.out.prefix(2000))")
            #expect(list.out.contains("69: grow grow"), "\(list.out.suffix(2000))")
            let ids = try await f.succeed("goal", "list", "--quiet").out.split(separator: "\n")
            #expect(Set(ids).count == 70)
            try await f.succeed("top", "--once")
            let shown = try await f.succeed("goal", "show", String(try #require(ids.last)))
            #expect(shown.out.utf8.count > 1_000_000)
        }
    }

    /// What waits for a person is listed in parts, and the parts are the whole.
    @Test func longListsComeInParts() async throws {
        let rules = """
              - when: { agent: writer, turn: 1 }
                reply: { tools: [{ name: file_write, input: { path: /workspace/x, content: "{{message}}" } }] }

            """
        try await AgentDoor.with("  agents: { max_live: 60 }\n", rules: rules) { door in
            let f = door.fixture
            let text = String(repeating: "tide ", count: 11_000)
            for number in 0..<45 {
                let id = try await door.spawn(
                    """
                    name: writer
                    model: default
                    lifecycle: persistent
                    capabilities: ["tool: file_write", "file_write: /workspace/**"]
                    approval_required: [file_write]
                    """)
                _ = try await door.result(
                    "agent.run", ["agent_id": id, "message": "\(number): " + text, "wait": false])
            }
            var ids: [String] = []
            func parts() async throws -> [Int] {
                ids = []
                var sizes: [Int] = []
                var cursor: String?
                repeat {
                    let part = try await door.result("approval.list", cursor.map { ["cursor": $0] } ?? [:])
                    let items = try #require(part["pending"] as? [[String: Any]], "\(part)")
                    ids += items.compactMap { $0["id"] as? String }
                    sizes.append(items.count)
                    cursor = part["next"] as? String
                } while cursor != nil
                return sizes
            }
            try await f.eventually("all wait") { try await parts().reduce(0, +) == 45 }
            #expect(try await parts().count > 1)
            #expect(Set(ids).count == 45)
            // One that is answered between two parts is no loss to the others.
            let first = try await door.result("approval.list")
            let cursor = try #require(first["next"] as? String)
            let before = try #require(first["pending"] as? [[String: Any]])
            try await door.answer(try #require(before.last), "deny")
            let rest = try await door.result("approval.list", ["cursor": cursor])["pending"] as? [[String: Any]]
            #expect((rest ?? []).prefix(1).compactMap { $0["id"] as? String } == [ids[before.count]])
            let listed = try await f.succeed("approval", "list", "--quiet").out.split(separator: "\n").map(String.init)
            #expect(Set(listed) == Set(ids).subtracting([ids[before.count - 1]]))
            #expect(try await door.problem("approval.list", ["cursor": "tomorrow"]) == "invalid-argument")
        }
    }
}
