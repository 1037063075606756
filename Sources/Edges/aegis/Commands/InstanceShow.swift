internal import AegisClient
internal import AegisSandboxTypes
internal import AegisWire

/// `aegis instance info`
enum InstanceShow {
    static let command = Command(
        "instance info", "tell everything about an instance",
        arguments: [Argument("X", completion: .instances)],
        examples: [
            Example("for people", "aegis instance info web"),
            Example("for programs", "aegis instance info web --output json"),
        ], run: run)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        let record = try await context.client().call(.get, APIClient.Route("instances", invocation.arguments[0]))
        try await context.show(record, invocation) { InstanceText.info(try record.decoded(InstanceInfo.self)) }
        return 0
    }
}
