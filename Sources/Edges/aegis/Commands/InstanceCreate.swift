internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisSandboxTypes
internal import AegisWire

/// `aegis instance create`
enum InstanceCreate {
    static let command = Command(
        "instance create", "make an instance without starting it",
        options: SandboxOptions.process + processOptions + SandboxOptions.files + SandboxOptions.bounds
            + SandboxOptions.serving,
        trailing: .optional,
        examples: [
            Example("to be started later", "aegis instance create --name web --workspace . -- python -m http.server")
        ], run: run)

    /// What an instance that others attach to needs to know beforehand.
    static let processOptions: [Option] = [
        Option("interactive", "i", .flag, "keep standard input open for attach", section: "Process"),
        Option("tty", "t", .flag, "give the command a terminal", section: "Process"),
    ]

    /// The body for a new instance, with the options that only an instance with a life of its own takes.
    static func body(_ invocation: Invocation, _ context: Context, start: Bool) async throws -> JSONValue {
        var request = try SandboxOptions.request(invocation, context.caller)
        await context.noteDoubts(invocation)
        if invocation.has("interactive") { request.stdin = true }
        if invocation.has("tty") { request.tty = true }
        request.start = start
        let own = try await RegistryLogin.find(
            image: request.image, authfile: invocation["authfile"], context.caller, on: context.loop)
        // One that is made for later fetches nothing now, and keeps nobody's credentials.
        if start { request.credentials = own }
        return try JSONValue(encoding: request)
    }

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        guard !invocation.trailing.isEmpty || invocation["image"] != nil || invocation["kit"] != nil else {
            throw AegisError(
                .usage, "missing-command", "no command was given",
                hint: "write it after '--', or name an image with one")
        }
        let body = try await body(invocation, context, start: false)
        let record = try await context.client().call(.post, APIClient.Route("instances"), body: body)
        try await context.show(record, invocation) { (record["id"]?.text ?? "") + "\n" }
        return 0
    }
}
