internal import AegisClient
internal import AegisCore
internal import AegisWire

/// `aegis instance delete`
enum InstanceDelete {
    static let command = Command(
        "instance delete", "stop and remove instances with their logs",
        details: "Workspaces that Aegis made for them go too; named ones and your own folders never do.",
        arguments: [Argument("X", .many, completion: .instances)],
        examples: [
            Example("one", "aegis instance delete web"),
            Example("all that are stopped", "aegis instance delete $(aegis instance list --state stopped --quiet)"),
        ]
    ) { invocation, context in
        try await InstanceActions.eachInstance(invocation, context, "deleted") { client, instance throws(AegisError) in
            try await client.call(.delete, APIClient.Route("instances", instance))
        }
    }
}
