internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisSandboxTypes
internal import AegisWire

/// `aegis instance network`
enum InstanceNetwork {
    static let command = Command(
        "instance network", "change what instances may reach, at once and for later starts",
        arguments: [Argument("X", .many, completion: .instances)],
        options: SandboxOptions.network,
        examples: [
            Example(
                "these places only", "aegis instance network worker --allow api.example.com --allow 10.20.0.0/16:5432"),
            Example("its group, and one place", "aegis instance network worker --group shop --allow api.example.com"),
            Example("nothing any more", "aegis instance network worker"),
        ]
    ) { invocation, context in
        let request = try SandboxOptions.network(invocation)
        var body = [JSONValue.Field("mode", .string(request?.mode ?? "none"))]
        if let group = request?.group { body.append(JSONValue.Field("group", .string(group))) }
        if let places = request?.allow { body.append(JSONValue.Field("allow", .array(places.map(JSONValue.string)))) }
        return try await InstanceActions.eachInstance(invocation, context, "changed") {
            [body] client, instance throws(AegisError) in
            try await client.call(.post, APIClient.Route("instances", instance, "network"), body: .object(body))
        }
    }
}
