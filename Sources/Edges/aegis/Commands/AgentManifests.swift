internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisWire
internal import LinuxSys

/// The verbs for manifests of agents that are kept by name.
enum AgentManifests {
    static let commands = [deploy, validate, list, show, delete]

    private static let deploy = Command(
        "agent deploy", "keep an agent's manifest under its name",
        details:
            "Its file and that of its prompt are read now, with your rights; a later change of them changes nothing.",
        arguments: [Argument("FILE", completion: .files)],
        examples: [Example("a manifest", "aegis agent deploy researcher.yaml")]
    ) { invocation, context in
        let answer = try await send(invocation, context, query: [])
        try await context.show(answer, invocation) {
            invocation.quiet
                ? Plain.text(answer["name"]?.text ?? "") + "\n"
                : AgentText.manifest(answer, done: answer["replaced"]?.flag == true ? "replaced" : "deployed")
        }
        return 0
    }

    private static let validate = Command(
        "agent validate", "check an agent's manifest, and keep nothing",
        arguments: [Argument("FILE", completion: .files)],
        examples: [Example("before it is deployed", "aegis agent validate researcher.yaml")]
    ) { invocation, context in
        let answer = try await send(invocation, context, query: [("validate", "1")])
        try await context.show(answer, invocation) { AgentText.manifest(answer, done: "valid") }
        return 0
    }

    private static func send(
        _ invocation: Invocation, _ context: Context, query: [(String, String)]
    ) async throws -> JSONValue {
        let path = context.caller.absolute(invocation.arguments[0])
        return try await context.client().call(
            .post, APIClient.Route("agents", query: query), body: .object(source(path)))
    }

    /// A manifest's file as the daemon takes it.
    ///
    /// It is read here, with the rights of whoever runs this: what they can read, messages may show. Of a file that the daemon reads
    /// they show nothing. What cannot be read here is for the daemon to say.
    ///
    /// - Parameter path: absolute.
    /// - Returns: fields of a request.
    static func source(_ path: String) -> [JSONValue.Field] {
        let place = JSONValue.Field("manifest_path", .string(path))
        guard let bytes = try? Files.read(path, limit: limit), let text = String(validating: bytes, as: UTF8.self)
        else { return [place] }
        return [JSONValue.Field("manifest", .string(text)), place]
    }
    /// As much as a request can hold; the daemon says what is too long for a manifest.
    private static let limit = 400 << 10

    private static let list = Command(
        "agent list", "list deployed manifests",
        details: "Those that live are listed by 'aegis agent ps'.",
        examples: [Example("names only", "aegis agent list --quiet")]
    ) { invocation, context in
        let items = try await context.client().list(APIClient.Route("agents"))
        try await context.showValues(items, invocation, quiet: { $0["name"]?.text ?? "" }) { AgentText.deployed($0) }
        return 0
    }

    private static let show = Command(
        "agent show", "show a deployed manifest",
        arguments: [Argument("NAME")], examples: [Example("as it was written", "aegis agent show researcher")]
    ) { invocation, context in
        let answer = try await context.client().call(.get, APIClient.Route("agents", invocation.arguments[0]))
        try await context.show(answer, invocation) { Plain.block(answer["manifest"]?.text ?? "") }
        return 0
    }

    private static let delete = Command(
        "agent delete", "forget deployed manifests; agents that live go on",
        arguments: [Argument("NAME", .many)], examples: [Example("one", "aegis agent delete researcher")]
    ) { invocation, context in
        try await InstanceActions.eachInstance(invocation, context, "deleted") { client, name throws(AegisError) in
            try await client.call(.delete, APIClient.Route("agents", name))
        }
    }
}
