import Foundation
import Testing

/// How much agents remember, and what they share, through their tools in a real daemon.
@Suite struct AgentMemoryTests {
    private static func spawn(
        _ door: AgentDoor, _ name: String, scopes: String = "", memory: String = "{}"
    ) async throws -> String {
        try await door.spawn(
            """
            name: \(name)
            model: default
            lifecycle: persistent
            capabilities: ["tool: memory_store", "tool: memory_query", "tool: memory_delete"\(scopes)]
            memory: \(memory)
            """)
    }

    private static func store(
        _ door: AgentDoor, _ agent: String, _ text: String, _ more: [String: Any] = [:]
    ) async throws -> [String: Any] {
        try await door.invoke(
            agent, "memory_store", ["content": text, "category": "fact"].merging(more) { $1 })
    }

    private static func found(
        _ door: AgentDoor, _ agent: String, _ query: String, _ more: [String: Any] = [:]
    ) async throws -> [String] {
        let answer = try await door.invoke(
            agent, "memory_query", ["query": query, "limit": 20].merging(more) { $1 })
        let results = try #require(AgentDoor.value(answer)?["results"] as? [[String: Any]], "\(answer)")
        return results.compactMap { $0["content"] as? String }
    }

    /// The longest unused record makes room; what is too long is refused with its limit; both hold for the next daemon.
    @Test func aMemoryHasItsBounds() async throws {
        try await AgentDoor.with { door in
            let id = try await Self.spawn(
                door, "keeper", memory: "{ episodic_max_records: 3, episodic_max_content_bytes: 40 }")
            for text in ["the anchor is red", "the buoy is green", "the compass is brass"] {
                #expect(AgentDoor.value(try await Self.store(door, id, text)) != nil)
            }
            // To be found is to be used: the buoy is the longest unused now.
            for query in ["anchor", "compass"] {
                let answer = try await door.invoke(id, "memory_query", ["query": "the \(query)", "limit": 1])
                let first = (AgentDoor.value(answer)?["results"] as? [[String: Any]])?.first?["content"] as? String
                #expect(first?.contains(query) == true, "\(answer)")
            }
            #expect(AgentDoor.value(try await Self.store(door, id, "the dinghy is blue")) != nil)
            let left = ["the anchor is red", "the compass is brass", "the dinghy is blue"]
            #expect(try await Self.found(door, id, "the colour of things").sorted() == left)
            let long = try await Self.store(door, id, String(repeating: "x", count: 41))
            #expect(AgentDoor.code(long) == "memory-too-large", "\(long)")
            #expect("\(long)".contains("40"), "\(long)")
            try await door.fixture.crash()
            try await door.fixture.up()
            #expect(try await Self.found(door, id, "the colour of things").sorted() == left)
            // What replaces a record takes its place.
            let answer = try await door.invoke(id, "memory_query", ["query": "dinghy", "limit": 1])
            let dinghy = (AgentDoor.value(answer)?["results"] as? [[String: Any]])?.first?["memory_id"] as? String
            let replaced = try await Self.store(door, id, "the dinghy is gone", ["replaces": try #require(dinghy)])
            #expect(AgentDoor.value(replaced) != nil, "\(replaced)")
            #expect(
                try await Self.found(door, id, "the colour of things").sorted() == left.dropLast() + [
                    "the dinghy is gone"
                ])
            #expect(
                AgentDoor.code(try await Self.store(door, id, "x", ["replaces": dinghy ?? ""])) == "memory-not-found")
        }
    }

    /// A scope is for those who were granted it: all read it, each changes what is its own, and nobody sees what is private.
    @Test func aScopeIsSharedByThoseWhoHoldIt() async throws {
        try await AgentDoor.with { door in
            let one = try await Self.spawn(door, "one", scopes: ", 'memory: crew'")
            let two = try await Self.spawn(door, "two", scopes: ", 'memory: crew'")
            let other = try await Self.spawn(door, "other")
            let crew: [String: Any] = ["scope": "crew"]
            let stored = try await Self.store(door, one, "the tide turns at noon", crew)
            let record = try #require(AgentDoor.value(stored)?["memory_id"] as? String, "\(stored)")
            _ = try await Self.store(door, one, "the tide is my own business")
            #expect(try await Self.found(door, two, "the tide", crew) == ["the tide turns at noon"])
            #expect(try await Self.found(door, two, "the tide").isEmpty)
            #expect(try await Self.found(door, one, "the tide") == ["the tide is my own business"])
            // Who reads it does not change it, nor does who may not even read it.
            let change = try await Self.store(
                door, two, "the tide turns at one", crew.merging(["replaces": record]) { $1 })
            #expect(AgentDoor.code(change) == "memory-not-found", "\(change)")
            let deleted = try await door.invoke(two, "memory_delete", crew.merging(["memory_id": record]) { $1 })
            #expect(AgentDoor.value(deleted)?["existed"] as? Bool != true, "\(deleted)")
            for (tool, input) in [
                ("memory_store", ["content": "x", "category": "fact"]), ("memory_query", ["query": "tide"]),
                ("memory_delete", ["memory_id": record]),
            ] {
                let refused = try await door.invoke(other, tool, crew.merging(input) { $1 })
                #expect(AgentDoor.code(refused) == "capability-denied", "\(tool): \(refused)")
            }
            #expect(try await Self.found(door, two, "the tide", crew) == ["the tide turns at noon"])
            // The scope outlives who has written into it, and the daemon.
            _ = try await door.result("agent.stop", ["agent_id": one])
            try await door.fixture.crash()
            try await door.fixture.up()
            #expect(try await Self.found(door, two, "the tide", crew) == ["the tide turns at noon"])
            _ = try await door.result("agent.revoke", ["agent_id": two, "capability": "memory: crew"])
            let revoked = try await door.invoke(two, "memory_query", crew.merging(["query": "tide"]) { $1 })
            #expect(AgentDoor.code(revoked) == "grant-revoked", "\(revoked)")
        }
    }

    /// Who has no memory of its own still works with a scope that it was granted: that is what scopes are for.
    @Test func whoHasNoMemoryOfItsOwnUsesTheScopeThatItWasGranted() async throws {
        let rules = """
              - when: { agent: helper, turn: 1 }
                reply:
                  tools:
                    - { name: memory_query, input: { query: the whale, scope: crew } }
                    - { name: memory_query, input: { query: the whale } }
              - when: { agent: helper }
                reply: { text: "{{result}}" }

            """
        try await AgentDoor.with(rules: rules) { door in
            let captain = try await door.spawn(
                """
                name: captain
                model: default
                lifecycle: persistent
                capabilities: ['tool: spawn_agent', 'spawn: [helper]', 'tool: memory_store', 'tool: memory_query', 'memory: crew']
                """)
            let mate = try await door.spawn(
                """
                name: mate
                model: default
                capabilities: ['tool: memory_store', 'tool: memory_query', 'memory: crew']
                """)
            let crew: [String: Any] = ["scope": "crew"]
            _ = try await Self.store(door, captain, "the whale is white", crew)
            let stored = try await Self.store(door, mate, "the whale came at noon", crew)
            #expect(AgentDoor.value(stored)?["status"] as? String == "stored", "\(stored)")
            #expect(AgentDoor.code(try await Self.store(door, mate, "mine")) == "memory-no-identity")
            #expect(
                try await Self.found(door, captain, "the whale", crew).sorted() == [
                    "the whale came at noon", "the whale is white",
                ])
            let child = "name: helper\nmodel: default\ncapabilities: ['tool: memory_query', 'memory: crew']\n"
            let spawned = try await door.invoke(captain, "spawn_agent", ["manifest": child, "message": "look out"])
            let response = AgentDoor.value(spawned)?["response"] as? String ?? ""
            #expect(response.contains("came at noon") && response.contains("memory-no-identity"), "\(spawned)")
        }
    }
}
