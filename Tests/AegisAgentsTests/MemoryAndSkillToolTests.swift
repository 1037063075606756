import AegisAgents
import AegisAudit
import AegisAuditTestSupport
import AegisCapabilities
import AegisCore
import AegisJSON
import AegisMemory
import AegisSkills
import AegisStore
import AegisTestSupport
import AegisTools
import LinuxSys
import Synchronization
import Testing

/// Some agents behind one gate.
private struct Node: Sendable {
    let gate: ToolGate
    let book = GrantBook()
    let trail = MemoryTrail()
    private let calls = Counter()

    private final class Counter: Sendable {
        private let value = Atomic<Int>(0)
        func next() -> Int { value.add(1, ordering: .relaxed).newValue }
    }

    init(_ tools: [any Tool]) throws { gate = ToolGate(try ToolRegistry(tools)) }

    func grant(_ agent: String, _ grants: [String]) throws {
        try book.issue(grants.map { try GrantSpec(parsing: $0) }, to: HolderID(agent))
    }

    func call(_ agent: String, _ tool: String, _ input: JSONValue, parent: String? = nil) async -> ToolReply {
        let context = ToolContext(
            holder: HolderID(agent), agent: agent, name: agent, parent: parent, trace: "t", step: 1,
            callID: "c-\(calls.next())",
            grants: book, audit: trail)
        return await gate.call(tool, input: input, context)
    }
}

private func withMemory(_ test: (Node) async throws -> Void) async throws {
    try await withTemporaryDirectory { directory in
        let database = try Database.open(
            path: "\(directory)/memory.db", applicationID: 7, migrations: [MemoryStore.migration])
        defer { database.close() }
        let tools = MemoryTools(MemoryStore(database: database)) {
            MemoryPolicy(
                identity: $0.agent.hasPrefix("nobody") ? nil : $0.agent, records: 2,
                contentBytes: $0.agent == "terse" ? 10 : nil)
        }
        try await test(try Node(tools.all))
    }
}

@Suite struct MemoryToolTests {
    @Test func anAgentFindsWhatItHasStoredAndNobodyElseDoes() async throws {
        try await withMemory { node in
            for agent in ["ann", "ben"] { try node.grant(agent, ["tool: *", "memory: self"]) }
            let stored = await node.call(
                "ann", "memory_store",
                ["content": "The staging port is 5433", "category": "fact", "metadata": ["host": "db1"]])
            let id = try #require(stored.value["memory_id"]?.text)
            #expect(stored.value["status"] == "stored" && !stored.isError)
            let found = await node.call("ann", "memory_query", ["query": "port of staging"])
            let first = try #require(found.value["results"]?.elements?.first)
            #expect(first["memory_id"]?.text == id && first["metadata"]?["host"] == "db1")
            #expect(first["relevance_score"]?.double.map { (0.3...1).contains($0) } == true)
            let other = await node.call("ben", "memory_query", ["query": "port of staging"])
            #expect(other.value["count"] == 0)
            let foreign = await node.call("ben", "memory_delete", ["memory_id": .string(id)])
            #expect(foreign.value["existed"] == false)
            let replaced = await node.call(
                "ben", "memory_store", ["content": "x", "category": "fact", "replaces": .string(id)])
            #expect(replaced.code == "memory-not-found")
            for existed in [true, false] {
                let deleted = await node.call("ann", "memory_delete", ["memory_id": .string(id)])
                #expect(deleted.value["status"] == "deleted" && deleted.value["existed"] == .bool(existed))
            }
        }
    }

    @Test func scopesAreGranted() async throws {
        try await withMemory { node in
            try node.grant("ann", ["tool: *", "memory: self", "memory: team"])
            try node.grant("ben", ["tool: *", "memory: team"])
            try node.grant("cid", ["tool: *"])
            let note: JSONValue = ["content": "The team meets on monday", "category": "fact", "scope": "team"]
            let stored = await node.call("ann", "memory_store", note)
            #expect(!stored.isError)
            let query: JSONValue = ["query": "when does the team meet", "scope": "team"]
            let read = await node.call("ben", "memory_query", query)
            #expect(read.value["count"] == 1)
            let own = await node.call("ben", "memory_query", ["query": "team"])
            #expect(own.isError)
            let none = await node.call("cid", "memory_query", query)
            #expect(none.isError && node.trail.kinds.filter { $0 == "tool_refused" }.count == 2)
            // Reading is all that a shared scope gives of another's records.
            let id = read.value["results"]?.elements?.first?["memory_id"] ?? .null
            let deleted = await node.call("ben", "memory_delete", ["memory_id": id, "scope": "team"])
            #expect(deleted.value["existed"] == false)
        }
    }

    /// What a manifest says of its own memory: `episodic_max_records` and `episodic_max_content_bytes`.
    @Test func theLimitsOfAManifestHold() async throws {
        try await withMemory { node in
            for agent in ["ann", "terse"] { try node.grant(agent, ["tool: *", "memory: self", "memory: team"]) }
            for scope in ["self", "team"] {
                for number in 1...3 {
                    let note: JSONValue = [
                        "content": .string("Note number \(number)"), "category": "fact", "scope": .string(scope),
                    ]
                    #expect(await !node.call("ann", "memory_store", note).isError)
                }
                let found = await node.call("ann", "memory_query", ["query": "note number", "scope": .string(scope)])
                #expect(found.value["count"] == (scope == "self" ? 2 : 3))
            }
            let long = await node.call("terse", "memory_store", ["content": "12345678901", "category": "fact"])
            #expect(long.code == "memory-too-large")
            #expect(await !node.call("terse", "memory_store", ["content": "1234567890", "category": "fact"]).isError)
        }
    }

    /// What is stored counts with its text and its fields, and so does what is found; what is more than is left is neither stored
    /// nor told, and counts nothing.
    @Test func theBytesOfAGrantAreCounted() async throws {
        try await withMemory { node in
            try node.grant("ann", ["tool: *", "{grant: 'memory: self', max_bytes: 40}"])
            func store(_ text: String, _ metadata: JSONValue? = nil) async -> ToolReply {
                var fields: [JSONValue.Field] = [.init("content", .string(text)), .init("category", "fact")]
                if let metadata { fields.append(.init("metadata", metadata)) }
                return await node.call("ann", "memory_store", .object(fields))
            }
            func used() -> UInt64? { node.book.records(of: HolderID("ann")).last?.used.bytes }
            #expect(await store(String(repeating: "x", count: 41)).code == "limit-bytes-used-up")
            #expect(await !store("tides turn", ["a": 1]).isError)
            #expect(used() == 17)
            let found = await node.call("ann", "memory_query", ["query": "tides turn"])
            #expect(found.value["count"] == 1 && used() == 34)
            #expect(await node.call("ann", "memory_query", ["query": "tides turn"]).code == "limit-bytes-used-up")
            #expect(used() == 34)
            #expect(await store("seven b").code == "limit-bytes-used-up")
            #expect(await !store("six by").isError)
            #expect(await node.call("ann", "memory_query", ["query": "zebra"]).code == "limit-bytes-used-up")
        }
    }

    /// What fails counts nothing; what was found and is too long to be told was looked for.
    @Test func whatFailsGivesBackWhatItReserved() async throws {
        try await withMemory { node in
            try node.grant("ann", ["tool: *", "{grant: 'memory: self', max_calls: 2, max_bytes: 15}"])
            let note: JSONValue = ["content": "tides turn", "category": "fact"]
            let lost: JSONValue = ["content": "tides turn", "category": "fact", "replaces": "m-none"]
            for _ in 1...3 { #expect(await node.call("ann", "memory_store", lost).code == "memory-not-found") }
            func used() -> Amounts? { node.book.records(of: HolderID("ann")).last?.used }
            #expect(used() == Amounts())
            #expect(await !node.call("ann", "memory_store", note).isError)
            let query: JSONValue = ["query": "tides turn"]
            #expect(await node.call("ann", "memory_query", query).code == "limit-bytes-used-up")
            #expect(used()?.bytes == 10)
            #expect(await node.call("ann", "memory_query", query).code == "limit-calls-used-up")
        }
    }

    /// A child may look into a shared scope; what it knows is for who has spawned it, whatever its grants say.
    @Test func aChildStoresNothing() async throws {
        try await withMemory { node in
            try node.grant("nobody", ["tool: *", "memory: self", "memory: team"])
            let note: JSONValue = ["content": "The tide turns", "category": "fact", "scope": "team"]
            let refused = await node.call("nobody", "memory_store", note, parent: "ann")
            #expect(refused.code == "memory-needs-identity" && !node.trail.kinds.contains("memory_stored"))
            let query: JSONValue = ["query": "tide", "scope": "team"]
            #expect(await node.call("nobody", "memory_query", query, parent: "ann").value["count"] == 0)
            // Without a parent it is a person's agent of one task.
            #expect(await !node.call("nobody", "memory_store", note).isError)
            #expect(await node.call("nobody", "memory_query", query, parent: "ann").value["count"] == 1)
        }
    }

    @Test func anAgentWithoutIdentityHasNoMemory() async throws {
        try await withMemory { node in
            try node.grant("nobody", ["tool: *", "memory: self"])
            let reply = await node.call("nobody", "memory_store", ["content": "x", "category": "fact"])
            #expect(reply.code == "memory-no-identity" && reply.value["error"]?["hint"] != nil)
        }
    }

    @Test(arguments: [
        ("memory_store", #"{"content": "x"}"#), ("memory_store", #"{"content": "", "category": "fact"}"#),
        ("memory_store", #"{"content": "x", "category": "facts"}"#),
        ("memory_store", #"{"content": "x", "category": "fact", "agent_id": "ben"}"#),
        ("memory_query", "{}"), ("memory_query", #"{"query": "x", "limit": 21}"#),
        ("memory_query", #"{"query": "x", "limit": "3"}"#), ("memory_delete", #"{"id": "x"}"#),
    ])
    func inputThatDoesNotFitIsRefused(tool: String, input: String) async throws {
        try await withMemory { node in
            try node.grant("ann", ["tool: *", "memory: self"])
            let reply = await node.call("ann", tool, try JSONValue(parsing: input.utf8))
            #expect(reply.code == "arguments-invalid")
        }
    }
}

@Suite struct SkillReadToolTests {
    @Test func skillsAreReadThroughTheGate() async throws {
        try await withTemporaryDirectory { directory in
            let folder = "\(directory)/skills/sew"
            try Files.makeDirectories("\(folder)/references")
            try Files.writeAtomically(
                "\(folder)/SKILL.md", Array("---\nname: sew\ndescription: Sews.\n---\n# Sew\n".utf8))
            try Files.writeAtomically("\(folder)/references/thread.md", Array("red".utf8))
            let library = SkillLibrary(roots: [SkillRoot(.home, "\(directory)/skills")])
            let node = try Node([SkillReadTool { _ in library }])
            try node.grant("ann", ["tool: skill_read"])
            let text = await node.call("ann", "skill_read", ["skill_name": "sew"])
            #expect(
                text.value == [
                    "skill": "sew", "source": "home", "instructions": "# Sew\n",
                    "reference_files": ["references/thread.md"],
                ])
            let file = await node.call("ann", "skill_read", ["skill_name": "sew", "file": "references/thread.md"])
            #expect(file.value["content"] == "red")
            for (input, code) in [
                (["skill_name": "sow"], "skill-not-found"),
                (["skill_name": "sew", "file": "../../x"], "skill-file-not-found"),
                (["file": "x"], "arguments-invalid"),
            ] as [(JSONValue, String)] {
                let reply = await node.call("ann", "skill_read", input)
                #expect(reply.code == code)
            }
            let stranger = await node.call("ben", "skill_read", ["skill_name": "sew"])
            #expect(stranger.isError)
        }
    }
}
