internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisSandboxTypes
internal import AegisWire

/// `aegis events`
enum EventsCommand {
    static let command = Command(
        "events", "print what happened to instances of late",
        details: """
            What their networks refused, above all: instance, place, reason, and how often. The daemon keeps the last 4096
            events; they are in the logs of the instances, too.
            """,
        options: [
            Option("follow", "f", .flag, "go on with what comes"),
            Option("instance", .value("X"), "only that one's", completion: .instances),
        ],
        examples: [
            Example("of all instances", "aegis events"),
            Example("of one, as it happens", "aegis events --follow --instance worker"),
            Example("for programs", "aegis events --follow --output json"),
        ], run: run)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        var query: [(String, String)] = []
        if invocation.has("follow") { query.append(("follow", "1")) }
        if let instance = invocation["instance"] { query.append(("instance", instance)) }
        let response = try await context.client().stream(.get, APIClient.Route("events", query: query))
        var lines = LineReader(response)
        while let json = try await lines.next() {
            if let error = json["error"], error != .null { throw StreamJSON.error(error) }
            switch invocation.output {
            case .json: try await context.console.print(json.compact + [10])
            case .yaml: try await context.console.print("---\n" + json.yaml)
            case .text: try await context.console.print(NetworkText.event(try json.decoded(EventRecord.self)))
            }
        }
        return 0
    }
}
