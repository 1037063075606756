import Foundation
import Testing

/// Kinds of records of the original runtime that tell of memory and of sessions.
@Suite struct AgentKindsTests {
    private static func fields(_ door: AgentDoor, _ kind: String) async throws -> [[String: Any]] {
        let told = try await door.result("audit.tail", ["kinds": [kind], "count": 100])
        return (told["records"] as? [[String: Any]] ?? []).map { record in
            var fields = record["fields"] as? [String: Any] ?? [:]
            fields["agent"] = record["agent"]
            fields["seq"] = record["seq"]
            return fields
        }
    }

    @Test func whatIsRememberedAndLookedForIsOnRecordWithoutItsText() async throws {
        try await AgentDoor.with { door in
            let id = try await door.spawn("keeper", ["tool: memory_store", "tool: memory_query", "memory: team"])
            let text = "The staging pört is 5433"
            func store(_ input: [String: Any]) async throws -> String? {
                AgentDoor.value(try await door.invoke(id, "memory_store", input))?["memory_id"] as? String
            }
            let first = try #require(try await store(["content": text, "category": "fact"]))
            let second = try #require(
                try await store(["content": text, "category": "decision", "replaces": first]))
            _ = try await store(["content": text, "category": "fact", "scope": "team"])
            // What is refused was not stored.
            #expect(try await store(["content": text, "category": "fact", "scope": "others"]) == nil)
            _ = try await door.invoke(id, "memory_query", ["query": "stäging", "category": "decision"])
            _ = try await door.result("memory.query", ["agent_id": id, "query": "port"])

            let stored = try await Self.fields(door, "memory_stored")
            #expect(stored.map { $0["agent"] as? String } == [id, id, id], "\(stored)")
            #expect(stored.map { $0["memory_id"] as? String }.prefix(2) == [first, second])
            #expect(stored.map { $0["category"] as? String } == ["fact", "decision", "fact"])
            #expect(stored.map { $0["place"] as? String } == ["self of \(id)", "self of \(id)", "team"])
            #expect(stored.allSatisfy { $0["bytes"] as? Int == text.utf8.count && $0["model"] is String })
            #expect(stored[1]["replaced"] as? String == first)
            let queried = try await Self.fields(door, "memory_queried")
            #expect(queried.map { $0["results"] as? Int } == [1, 1], "\(queried)")
            #expect(queried[0]["query_bytes"] as? Int == "stäging".utf8.count)
            #expect(queried[0]["category"] as? String == "decision" && queried[0]["agent"] as? String == id)
            #expect(queried[1]["uid"] as? Int == 0 && queried[1]["agent"] == nil)
            #expect(!"\(stored)\(queried)".contains("rt is 5433"))
            // Each belongs to a call, and stands between its beginning and its end.
            let (invoked, ended) = (
                try await Self.fields(door, "tool_invoked"), try await Self.fields(door, "tool_result")
            )
            for record in stored + [queried[0]] {
                let call = record["call_id"] as? String
                let around = [invoked, ended].map { $0.first { $0["call_id"] as? String == call }?["seq"] as? Int }
                let seq = try #require(record["seq"] as? Int)
                #expect(around[0].map { $0 < seq } == true && around[1].map { $0 > seq } == true, "\(record)")
            }
            #expect(try await door.fixture.aegis("audit", "verify").code == 0)
        }
    }

    /// The database takes no step: the agent stands still, the ledger says why, and it goes on when there is room again.
    @Test func aSessionThatCannotBeSavedIsOnRecord() async throws {
        let change = """
            import sqlite3, sys
            with sqlite3.connect(sys.argv[1], timeout=60) as db: db.execute(sys.argv[2])
            """
        try await AgentDoor.with { door in
            func sql(_ text: String) async throws {
                let result = try await door.fixture.run(
                    "/usr/bin/python3", ["-c", change, "\(door.fixture.home)/aegis.db", text])
                try #require(result.code == 0, "\(result)")
            }
            let id = try await door.spawn("name: worker\nmodel: default\nlifecycle: persistent")
            func full(_ table: String) -> String {
                "CREATE TRIGGER full BEFORE INSERT ON \(table) BEGIN SELECT RAISE(ABORT, 'no room'); END"
            }
            try await sql(full("agent_steps"))
            let failed = try await door.result("agent.run", ["agent_id": id, "message": "go"])
            #expect(failed["stop_reason"] as? String == "error", "\(failed)")
            var told = try await Self.fields(door, "session_store_error")
            #expect(told.count == 1 && told[0]["agent"] as? String == id, "\(told)")
            #expect((told[0]["message"] as? String)?.contains("no room") == true && told[0]["times"] as? Int == 1)
            #expect((told[0]["code"] as? String)?.isEmpty == false)
            // The same again in the same minute is counted; a message that is not kept is not taken.
            try await sql("DROP TRIGGER full")
            try await sql(full("agent_mail"))
            #expect(try await door.problem("agent.run", ["agent_id": id, "message": "go"]) != nil)
            told = try await Self.fields(door, "session_store_error")
            #expect(told.count == 1)
            try await sql("DROP TRIGGER full")
            let result = try await door.result("agent.run", ["agent_id": id, "message": "go"])
            #expect(result["stop_reason"] as? String == "complete", "\(result)")
        }
    }
}
