import Foundation
import Testing

/// Searches that would take for ever, in a daemon that has others to serve.
@Suite struct AgentSearchTests {
    private static let endless = ["pattern": "(a+)+$", "path": "/workspace/f"]

    /// An agent with a file of which each line costs the pattern nearly all steps that a line may cost.
    private static func searcher(_ door: AgentDoor) async throws -> String {
        let id = try await door.spawn(
            "searcher", ["tool: file_write", "tool: grep", "file_read: /workspace/**", "file_write: /workspace/**"])
        let text = String(repeating: "aaaaaaaaaaaaaaaaaab\n", count: 50_000)
        let written = try await door.invoke(id, "file_write", ["path": "/workspace/f", "content": text])
        try #require(AgentDoor.value(written) != nil, "\(written)")
        return id
    }

    private static func calls(_ door: AgentDoor, _ id: String) async throws -> Int {
        let told = try await door.result("audit.tail", ["kinds": ["tool_invoked"], "agent": id])
        return (told["records"] as? [[String: Any]] ?? []).count {
            ($0["fields"] as? [String: Any])?["tool"] as? String == "grep"
        }
    }

    /// As many as the daemon has threads for what blocks: each ends with its time, and nobody else waits for that.
    @Test func nobodyWaitsForSearchesThatDoNotEnd() async throws {
        try await AgentDoor.with { door in
            let id = try await Self.searcher(door)
            let other = try await door.spawn(
                "other",
                ["tool: file_write", "tool: file_read", "file_read: /workspace/**", "file_write: /workspace/**"])
            try await withThrowingTaskGroup(of: [String?].self) { group in
                for _ in 0..<4 { group.addTask { [AgentDoor.code(try await door.invoke(id, "grep", Self.endless))] } }
                try await door.fixture.eventually("the searches have begun") { try await Self.calls(door, id) == 4 }
                _ = try await door.invoke(other, "file_write", ["path": "/workspace/x", "content": "tide"])
                let read = try await door.invoke(other, "file_read", ["path": "/workspace/x", "numbered": false])
                #expect(AgentDoor.value(read)?["content"] as? String == "tide\n", "\(read)")
                for try await codes in group { #expect(codes == ["interrupted"]) }
            }
        }
    }

    /// It ends with the leave to read the file, in the middle of it.
    @Test func aSearchEndsWithItsGrant() async throws {
        try await AgentDoor.with { door in
            let id = try await Self.searcher(door)
            async let call = door.invoke(id, "grep", Self.endless)
            try await door.fixture.eventually("the search has begun") { try await Self.calls(door, id) == 1 }
            _ = try await door.result("agent.revoke", ["agent_id": id, "capability": "file_read: /workspace/**"])
            let answer = try await call
            #expect(["capability-denied", "grant-revoked"].contains(AgentDoor.code(answer)), "\(answer)")
        }
    }

    /// The same with a text that nearly fits wherever it is looked for.
    @Test func anEditLooksAtEachByteOnce() async throws {
        try await AgentDoor.with { door in
            let id = try await door.spawn(
                "editor",
                ["tool: file_write", "tool: file_multi_edit", "file_read: /workspace/**", "file_write: /workspace/**"])
            let text = String(repeating: "a", count: 1 << 20)
            _ = try await door.invoke(id, "file_write", ["path": "/workspace/f", "content": text])
            let edit = ["old_string": String(repeating: "a", count: (1 << 16) - 1) + "b", "new_string": "c"]
            let answer = try await door.invoke(id, "file_multi_edit", ["path": "/workspace/f", "edits": [edit]])
            #expect(AgentDoor.code(answer) == "edit-not-found", "\(answer)")
        }
    }
}
