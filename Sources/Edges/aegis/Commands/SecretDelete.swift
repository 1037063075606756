internal import AegisClient
internal import AegisCore
internal import AegisWire

/// `aegis secret delete`
enum SecretDelete {
    static let command = Command(
        "secret delete", "remove secrets", details: "Instances that run keep the value until they stop.",
        arguments: [Argument("NAME", .many, completion: .secrets)],
        examples: [Example("one", "aegis secret delete API_KEY")]
    ) { invocation, context in
        try await InstanceActions.eachInstance(invocation, context, "deleted") { client, name throws(AegisError) in
            try await client.call(.delete, APIClient.Route("secrets", name))
        }
    }
}
