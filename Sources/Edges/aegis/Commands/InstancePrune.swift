internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisWire

/// `aegis instance prune`
enum InstancePrune {
    static let command = Command(
        "instance prune", "remove instances that have been stopped for long",
        options: [Option("stopped-older-than", .value("TIME"), "how long, as 7d (the default) or 12h")],
        examples: [
            Example("a week", "aegis instance prune"), Example("a day", "aegis instance prune --stopped-older-than 1d"),
        ], run: run)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        let span =
            try SandboxOptions.parsed(invocation, "stopped-older-than", TimeSpan.init(parsing:)) ?? .seconds(7 * 86_400)
        let answer = try await context.client().call(
            .post, APIClient.Route("instances", "prune"), body: ["stopped_older_than": .string(span.description)])
        let deleted = (answer["deleted"]?.elements ?? []).compactMap(\.text)
        try await context.show(answer, invocation) {
            if invocation.quiet { return deleted.map { $0 + "\n" }.joined() }
            return "Removed \(deleted.count) stopped \(deleted.count == 1 ? "instance" : "instances")\n"
        }
        return 0
    }
}
