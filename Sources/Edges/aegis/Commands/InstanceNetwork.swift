internal import AegisClient
internal import AegisCore
internal import AegisSandboxTypes
internal import AegisWire

/// `aegis instance network`
enum InstanceNetwork {
    static let command = Command(
        "instance network", "change what instances may reach, at once and for later starts",
        arguments: [Argument("X", .many, completion: .instances)],
        options: [
            Option(
                "network", .value("MODE"), "none (the default) or allow: every public address",
                completion: .words(["none", "allow"])),
            Option("allow", .values("HOST[:PORT]"), "a host, *.DOMAIN or block of addresses that it may connect to"),
        ],
        examples: [
            Example(
                "these places only", "aegis instance network worker --allow api.example.com --allow 10.20.0.0/16:5432"),
            Example("nothing any more", "aegis instance network worker"),
        ]
    ) { invocation, context in
        let request = try SandboxOptions.network(invocation)
        var body = [JSONValue.Field("mode", .string(request?.mode ?? "none"))]
        if let places = request?.allow { body.append(JSONValue.Field("allow", .array(places.map(JSONValue.string)))) }
        return try await InstanceActions.eachInstance(invocation, context, "changed") {
            [body] client, instance throws(AegisError) in
            try await client.call(.post, APIClient.Route("instances", instance, "network"), body: .object(body))
        }
    }
}
