internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisSandboxTypes
internal import AegisWire

/// `aegis instance expose`
enum InstanceExpose {
    static let command = Command(
        "instance expose", "serve a port of an instance, or change how it is served",
        details: """
            SPEC is [ADDR:][PUBLIC:]GUEST[:http|tcp|grpc|ws], then any of
            ,ui ,wake=connect|http|never ,cooldown=TIME ,wait=TIME ,ready=tcp|/PATH.
            Without PUBLIC, or with 0, any free port is taken and kept for the instance's life.
            """,
        arguments: [Argument("X", completion: .instances), Argument("SPEC", .many)],
        examples: [
            Example("any free port", "aegis instance expose web 80"),
            Example("a page, on a port of your choice", "aegis instance expose web 8000:80:http,ui"),
            Example("a database", "aegis instance expose db 5432:5432:tcp"),
        ]
    ) { invocation, context in
        let specs = Array(invocation.arguments.dropFirst())
        _ = try ExposeSpec.list(specs)
        let client = try await context.client()
        var record = JSONValue.null
        for spec in specs {
            record = try await client.call(
                .post, APIClient.Route("instances", invocation.arguments[0], "expose"), body: ["spec": .string(spec)])
        }
        let ports = try specs.map { try ExposeSpec(parsing: $0).guestPort }
        try await context.show(record, invocation) {
            let shown = try record.exposedPorts.filter { ports.contains($0.guestPort) }
            return invocation.quiet ? "" : ServiceText.serving(shown).joined()
        }
        return 0
    }
}

/// `aegis instance unexpose`
enum InstanceUnexpose {
    static let command = Command(
        "instance unexpose", "serve ports of an instance no longer",
        details: "PORT is the guest's. Connections that are open end.",
        arguments: [Argument("X", completion: .instances), Argument("PORT", .many)],
        examples: [Example("one", "aegis instance unexpose web 80")]
    ) { invocation, context in
        let client = try await context.client()
        var record = JSONValue.null
        for text in invocation.arguments.dropFirst() {
            guard let port = UInt16(text), port > 0 else {
                throw AegisError.usage("'\(text)' is not a port", hint: "name the guest's port, 1 to 65535")
            }
            record = try await client.call(
                .delete, APIClient.Route("instances", invocation.arguments[0], "expose", String(port)))
            if invocation.output == .text, !invocation.quiet {
                try await context.console.print("Port \(port) is not served any more\n")
            }
        }
        if invocation.output != .text { try await context.show(record, invocation) { "" } }
        return 0
    }
}

/// `aegis instance idle`
enum InstanceIdle {
    static let command = Command(
        "instance idle", "change when an instance sleeps",
        details: "What is not given stays as it is.",
        arguments: [Argument("X", completion: .instances)],
        options: SandboxOptions.sleeping,
        examples: [
            Example("sooner", "aegis instance idle web --idle-pause 10s --idle-stop 5m"),
            Example("never", "aegis instance idle web --idle-pause 0s --idle-stop 0s"),
            Example("wake from a stop faster", "aegis instance idle web --idle-stop 5m --idle-standby"),
        ]
    ) { invocation, context in
        guard let policy = try SandboxOptions.idle(invocation) else {
            throw AegisError.usage(
                "nothing to change", hint: "give --idle-pause, --idle-stop, --idle-cpu or --idle-standby")
        }
        let record = try await context.client().call(
            .post, APIClient.Route("instances", invocation.arguments[0], "idle"), body: try JSONValue(encoding: policy))
        try await context.show(record, invocation) {
            invocation.quiet ? "" : "\(Plain.text(invocation.arguments[0])) changed\n"
        }
        return 0
    }
}

/// `aegis instance keepalive`
enum InstanceKeepalive {
    static let command = Command(
        "instance keepalive", "keep an instance awake for a time",
        details: "A paused one is resumed. A later call takes the place of an earlier one; 0s ends it.",
        arguments: [Argument("X", completion: .instances)],
        options: [Option("ttl", .value("TIME"), "how long from now on (5m)")],
        examples: [Example("for ten minutes", "aegis instance keepalive web --ttl 10m")]
    ) { invocation, context in
        let ttl = try SandboxOptions.parsed(invocation, "ttl", TimeSpan.init(parsing:)) ?? .seconds(300)
        let answer = try await context.client().call(
            .post, APIClient.Route("instances", invocation.arguments[0], "keepalive"),
            body: ["ttl": .string(ttl.description)])
        try await context.show(answer, invocation) {
            guard !invocation.quiet else { return "" }
            let name = Plain.text(invocation.arguments[0])
            return name + (answer["expires_at"]?.text.map { " stays awake until \($0)\n" } ?? " may sleep again\n")
        }
        return 0
    }
}

extension JSONValue {
    /// The exposed ports of an instance's record.
    var exposedPorts: [ExposedPort] {
        get throws { try (self["expose"]?.elements ?? []).map { try $0.decoded(ExposedPort.self) } }
    }
}
