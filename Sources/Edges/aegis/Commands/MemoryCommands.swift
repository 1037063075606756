internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisWire

/// `aegis memory list`, `query`, `delete` and `reset`
enum MemoryCommands {
    static let commands = [list, query, delete, reset]

    private static let agent = Option(
        "agent", .value("ID|NAME"), "whose memory; also one that is gone and keeps it")
    private static let scope = Option("scope", .value("S"), "a memory that agents share, by its name")
    private static let category = Option("category", .value("C"), "only fact, observation, decision or preference")

    private static func fields(_ invocation: Invocation, _ names: [String]) -> [(String, String)] {
        names.compactMap { name in
            invocation[name].map { (name == "agent" ? "agent_id" : name, $0) }
        }
    }

    private static let list = Command(
        "memory list", "list whose memory there is, or what an agent remembers",
        options: [
            agent, scope, category, Option("limit", .value("N"), "at most so many records; 100"),
            Option("before", .value("ID"), "those that are older than this one"),
        ],
        examples: [
            Example("whose there is", "aegis memory list"),
            Example("of one agent", "aegis memory list --agent researcher"),
        ]
    ) { invocation, context in
        let query = fields(invocation, ["agent", "scope", "category", "limit", "before"])
        let answer = try await context.client().call(.get, APIClient.Route("memory", query: query))
        if let places = answer["places"]?.elements {
            try await context.showValues(places, invocation, quiet: { $0["agent_id"]?.text ?? $0["scope"]?.text ?? "" })
            {
                MemoryText.places($0)
            }
        } else {
            try await context.showValues(
                answer["memories"]?.elements ?? [], invocation, quiet: { $0["memory_id"]?.text ?? "" }
            ) { MemoryText.records($0) }
        }
        return 0
    }

    private static let query = Command(
        "memory query", "search what an agent remembers", arguments: [Argument("TEXT")],
        options: [agent, scope, category, Option("limit", .value("N"), "at most so many, 1 to 20; 5")],
        examples: [Example("of one agent", "aegis memory query --agent researcher 'port of the staging server'")]
    ) { invocation, context in
        var body = fields(invocation, ["agent", "scope", "category"]).map { JSONValue.Field($0.0, .string($0.1)) }
        body.append(.init("query", .string(invocation.arguments[0])))
        if let limit = invocation["limit"] {
            guard let number = Int(limit) else {
                throw AegisError.usage("'\(limit)' is not a number", hint: "give 1 to 20")
            }
            body.append(.init("limit", .number(number)))
        }
        let answer = try await context.client().call(.post, APIClient.Route("memory", "query"), body: .object(body))
        try await context.showValues(
            answer["results"]?.elements ?? [], invocation, quiet: { $0["memory_id"]?.text ?? "" }
        ) { MemoryText.records($0) }
        if let skipped = answer["not_compared"]?.unsigned, invocation.output == .text {
            await context.console.say(
                "aegis: \(skipped) records are still being prepared for search; ask again for them\n")
        }
        return 0
    }

    private static let delete = Command(
        "memory delete", "forget one record", arguments: [Argument("ID")], options: [agent, scope],
        examples: [Example("one", "aegis memory delete m-0123456789abcdef --agent researcher")]
    ) { invocation, context in
        let answer = try await context.client().call(
            .delete,
            APIClient.Route("memory", invocation.arguments[0], query: fields(invocation, ["agent", "scope"])))
        try await context.show(answer, invocation) {
            answer["existed"]?.flag == true ? "Forgotten\n" : "There was no such record\n"
        }
        return 0
    }

    private static let reset = Command(
        "memory reset", "forget all that an agent has for itself",
        details: "What it has put into memories that agents share stays there.", arguments: [Argument("ID|NAME")],
        examples: [Example("of an agent that keeps its memory", "aegis memory reset researcher")]
    ) { invocation, context in
        let answer = try await context.client().call(
            .post, APIClient.Route("memory", "reset"), body: ["agent_id": .string(invocation.arguments[0])])
        try await context.show(answer, invocation) {
            "\(Plain.text(answer["name"]?.text ?? "")): \(answer["deleted"]?.unsigned ?? 0) records were forgotten\n"
        }
        return 0
    }
}
