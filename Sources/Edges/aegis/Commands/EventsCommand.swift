internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisSandboxTypes
internal import AegisWire

/// `aegis events`
enum EventsCommand {
    static let command = Command(
        "events", "print what happened of late",
        details: """
            Without --types what happened to instances: what their networks refused, above all. The daemon keeps the last 4096 of
            these; they are in the logs of the instances, too. With --types, --agent or --tail what the ledger tells of your agents
            and instances: agents, goals, tools, approvals, grants. A type is a kind ('tool_invoked') or its first word ('tool').
            """,
        options: [
            Option("follow", "f", .flag, "go on with what comes"),
            Option("instance", .value("X"), "only that one's", completion: .instances),
            Option("types", .value("T,T"), "only these kinds, or kinds that begin so"),
            Option("agent", .value("X"), "only what is about this agent or instance, by its name or id"),
            Option("tail", .value("N"), "look back over so many records of the ledger (default 1000)"),
        ],
        examples: [
            Example("of all instances", "aegis events"),
            Example("of one, as it happens", "aegis events --follow --instance worker"),
            Example("of agents", "aegis events --follow --types agent,tool,human_approval"),
            Example("for programs", "aegis events --follow --output json"),
        ], run: run)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        var query: [(String, String)] = []
        if invocation.has("follow") { query.append(("follow", "1")) }
        for name in ["instance", "types", "agent"] {
            if let value = invocation[name] { query.append((name, value)) }
        }
        let isLedger = ["types", "agent", "tail"].contains { invocation[$0] != nil }
        if isLedger { query.append(("tail", invocation["tail"] ?? "1000")) }
        let response = try await context.client().stream(.get, APIClient.Route("events", query: query))
        var lines = LineReader(response)
        while let json = try await lines.next() {
            if json["kind"] == nil, let error = json["error"], error != .null { throw StreamJSON.error(error) }
            switch invocation.output {
            case .json: try await context.console.print(json.compact + [10])
            case .yaml: try await context.console.print("---\n" + json.yaml)
            case .text where isLedger: try await context.console.print(AuditText.record(json))
            case .text: try await context.console.print(NetworkText.event(try json.decoded(EventRecord.self)))
            }
        }
        return 0
    }
}
