internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisSandboxTypes
internal import AegisWire

/// `aegis instance start`
enum InstanceStart {
    static let command = Command(
        "instance start", "start an instance: a stopped one, or a new one",
        details: """
            With X, or with --name of one that exists and is stopped, that instance starts again with what it was made with.
            Otherwise a new one is made and started.
            """,
        arguments: [Argument("X", .optional, completion: .instances)],
        options: SandboxOptions.process + InstanceCreate.processOptions + SandboxOptions.files + SandboxOptions.bounds
            + SandboxOptions.serving,
        trailing: .optional,
        examples: [
            Example("a new one", "aegis instance start --name web --workspace . -- python -m http.server"),
            Example(
                "a service that sleeps", "aegis instance start --name api --expose 8000:80 -- python3 -m http.server 80"
            ),
            Example("again, as it was", "aegis instance start web"),
        ], run: run)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        let client: APIClient
        let record: JSONValue
        var before: JSONValue?
        if let instance = invocation.arguments.first {
            guard invocation.trailing.isEmpty else {
                throw AegisError.usage(
                    "'\(instance)' stands before '--'", hint: "a new instance is named with --name: --name \(instance)")
            }
            let given = invocation.values.keys.filter { $0 != "output" }.sorted()
            if let option = given.first {
                throw AegisError.usage(
                    "--\(option) is for a new instance, and '\(instance)' names one that exists",
                    hint: "to make a new one write the command after '--', and its name with --name")
            }
            client = try await context.client()
            before = try await client.call(.get, APIClient.Route("instances", instance))
            record = try await client.call(.post, APIClient.Route("instances", instance, "start"))
        } else {
            guard
                !invocation.trailing.isEmpty || invocation["image"] != nil || invocation["name"] != nil
                    || invocation["kit"] != nil
            else {
                throw AegisError(
                    .usage, "missing-command", "nothing to start",
                    hint: "name an instance, or write a command after '--'")
            }
            let body = try await InstanceCreate.body(invocation, context, start: true)
            client = try await context.client()
            record = try await client.call(.post, APIClient.Route("instances"), body: body)
        }
        let id = record["id"]?.text ?? ""
        try await context.show(record, invocation) {
            if invocation.quiet { return id + "\n" }
            let done = outcome(before, record)
            let line = Plain.text(record["name"]?.text.map { "\($0) \(done) (\(id))" } ?? "\(id) \(done)") + "\n"
            return line + ServiceText.serving(try record.exposedPorts).joined()
        }
        if !invocation.quiet, invocation["idle-pause"] == nil, before == nil {
            await context.console.say(try sleepNotice(record))
        }
        return 0
    }

    /// What has to be said of a member of a group that sleeps; empty for others.
    private static func sleepNotice(_ record: JSONValue) throws -> String {
        guard let group = record["group"]?.text, let pause = record["idle"]?["pause"]?.text, pause != "0s",
            try record.exposedPorts.contains(where: { $0.spec.wake != .never })
        else { return "" }
        return Plain.text(
            "aegis: it pauses \(pause) after the last use of its ports or of its group, and members of '\(group)' "
                + "do not wake it; --idle-pause 0s keeps it awake") + "\n"
    }

    /// What a start has done to an instance that was there before.
    static func outcome(_ before: JSONValue?, _ after: JSONValue) -> String {
        guard let state = before?["state"]?.text, before?["started_at"] == after["started_at"] else { return "started" }
        switch state {
        case "running": return "is already running"
        case "paused": return "resumed"
        default: return "started"
        }
    }
}
