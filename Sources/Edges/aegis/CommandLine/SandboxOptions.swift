package import AegisCore
package import AegisSandboxTypes

/// The options that `run`, `instance start` and `instance create` share, and what they mean.
package enum SandboxOptions {
    /// Isolations that `--isolation` takes.
    static let isolations = ["auto", "runsc", "runc", "crun", "qemu", "firecracker", "docker"]
    static let pullPolicies = ["always", "if-not-present", "never"]

    /// What to run, and how.
    package static let process: [Option] = [
        Option("name", .value("NAME"), "a name to use instead of the id", section: "Sandbox"),
        Option(
            "image", .value("REF"), "'base' (the default) or an OCI image, as python:3.12-alpine", section: "Sandbox",
            completion: .images),
        Option(
            "kit", .value("NAME[@VERSION]"), "all that a kit says; the other options win, or are added",
            section: "Sandbox", completion: .kits),
        Option(
            "pull", .value("WHEN"), "always, if-not-present (the default) or never", section: "Sandbox",
            completion: .words(pullPolicies)),
        RegistryLogin.option,
        Option("env", "e", .values("K=V"), "a variable; K alone takes the caller's", section: "Process"),
        Option(
            "secret", .values("NAME"), "a stored secret as a variable; '*' = all; NAME@HOST: a placeholder",
            section: "Process",
            completion: .secrets),
        Option("workdir", "w", .value("DIR"), "where the command starts", section: "Process"),
        Option("user", "u", .value("USER"), "who runs it: a name or uid[:gid] of the image", section: "Process"),
        Option("label", .values("K=V"), "a label of the record", section: "Sandbox"),
    ]
    /// What it sees of the caller's files.
    package static let files: [Option] = [
        Option(
            "workspace", .value("NAME|PATH"), "what /workspace is: a named one, or a folder of yours (./x)",
            section: "Files",
            completion: .directories),
        Option(
            "mount", .values("SRC:DST[:rw]"), "a folder or file of yours, read-only unless :rw", section: "Files",
            completion: .files),
    ]
    /// What it may reach.
    package static let network: [Option] = [
        Option(
            "network", .value("MODE|GROUP"), "none (the default), allow: every public address, or a group",
            section: "Network", completion: .words(["none", "allow"])),
        Option(
            "group", .value("GROUP"), "instances of the same group reach each other by name", section: "Network",
            completion: .groups),
        Option(
            "allow", .values("HOST[:PORT]"), "a host, *.DOMAIN or block of addresses that it may connect to",
            section: "Network"),
    ]
    /// How strongly it is isolated, and what it may use.
    package static let bounds: [Option] =
        network + [
            Option(
                "isolation", .value("BACKEND"), "auto (the strongest proved here), runsc, runc, ...",
                section: "Isolation",
                completion: .words(isolations)),
            Option(
                "min-isolation", .value("GRADE"), "refuse anything weaker", section: "Isolation",
                completion: .words(Grade.allCases.reversed().map(\.rawValue))),
            Option(
                "guest-api", .value("PORT|off"), "where programs inside reach Aegis, on their loopback (7777)",
                section: "Isolation"),
            Option(
                "grant", .values("CAPABILITY"), "what programs inside may ask of Aegis, as 'spawn: *'",
                section: "Isolation"),
            Option(
                "allow-setuid", .flag, "setuid and setgid bits, in folders of yours that it may write in, too",
                section: "Isolation"),
            Option("cpus", .value("N"), "processors, as 1.5", section: "Limits"),
            Option("memory", .value("SIZE"), "memory with its tmpfs, as 512Mi", section: "Limits"),
            Option("disk", .value("SIZE"), "the writable layer and an automatic workspace, as 1Gi", section: "Limits"),
            Option("pids", .value("N"), "processes and threads", section: "Limits"),
            Option(
                "timeout", .value("TIME"),
                "stop the command after this, as 300s (exit code 124); fetching the image is not counted",
                section: "Limits"
            ),
            Option(
                "grace", .value("TIME"), "how long a stop waits after SIGTERM before SIGKILL (5s; at most 2m)",
                section: "Limits"),
        ]
    /// Which ports are served, and when it sleeps.
    package static let serving: [Option] =
        [
            Option(
                "expose", .values("[PUBLIC:]GUEST[:PROTO]"),
                "serve a port: http (the default), tcp, grpc or ws; see docs/serve.md",
                section: "Serving")
        ] + sleeping
    /// When it sleeps.
    package static let sleeping: [Option] = [
        Option(
            "idle-pause", .value("TIME"), "pause when unused that long (60s where a port wakes it; 0s = never)",
            section: "Serving"),
        Option("idle-stop", .value("TIME"), "stop when unused that long (20m; 0s = never)", section: "Serving"),
        Option(
            "reclaim", .word("any", alone: "safe"),
            "push memory out after a pause; =any also to swap that is neither zram nor encrypted", section: "Serving"),
        Option("idle-cpu", .value("PERCENT"), "above that much of a processor it counts as used", section: "Serving"),
        Option(
            "idle-standby", .word("off", alone: "on"),
            "after such a stop make a sandbox ready for the next start; =off ends that", section: "Serving"),
    ]

    /// The body of the request that makes the instance.
    ///
    /// - Throws: `invalid-argument` naming the option and its right form.
    package static func request(_ invocation: Invocation, _ caller: Caller) throws(AegisError) -> CreateInstance {
        var body = CreateInstance(command: invocation.trailing.isEmpty ? nil : invocation.trailing)
        if let name = invocation["name"] {
            try Names.validate(name, what: "instance")
            body.name = name
        }
        body.image = try nonEmpty(invocation, "image")
        body.kit = try nonEmpty(invocation, "kit")
        body.pull = try oneOf(pullPolicies, invocation, "pull", "a pull policy")
        body.isolation = try oneOf(isolations, invocation, "isolation", "an isolation")
        if let grade = invocation["min-isolation"] { body.minIsolation = try Grade(parsing: grade).rawValue }
        body.workdir = try nonEmpty(invocation, "workdir")
        body.user = try nonEmpty(invocation, "user")
        body.env = try environment(invocation.all("env"), caller)
        body.labels = try labels(invocation.all("label"))
        let secrets = invocation.all("secret")
        guard !secrets.contains("") else { throw .usage("--secret needs a name", hint: "see 'aegis secret list'") }
        if !secrets.isEmpty { body.secrets = secrets }
        if let workspace = try nonEmpty(invocation, "workspace") { body.workspace = caller.workspace(workspace) }
        body.mounts = try mounts(invocation.all("mount"), caller)
        body.limits = try limits(invocation)
        body.idle = try idle(invocation)
        body.network = try network(invocation)
        let expose = invocation.all("expose")
        _ = try ExposeSpec.list(expose)
        if !expose.isEmpty { body.expose = expose }
        if invocation.has("allow-setuid") { body.allowSetuid = true }
        let grants = invocation.all("grant")
        if !grants.isEmpty { body.grants = grants }
        body.guestAPI = try parsed(invocation, "guest-api", GuestAPISetting.init(parsing:))
        return body
    }

    /// What may be reached; nil where nothing is said of it.
    ///
    /// - Returns: what `--network` and `--allow` say.
    /// - Throws: `invalid-argument` for empty ones.
    static func network(_ invocation: Invocation) throws(AegisError) -> NetworkRequest? {
        let allow = invocation.all("allow")
        guard !allow.contains("") else { throw .usage("--allow is empty", hint: "write --allow HOST[:PORT]") }
        let given = try nonEmpty(invocation, "network")
        let group = try nonEmpty(invocation, "group")
        guard given != nil || group != nil || !allow.isEmpty else { return nil }
        let mode = given.flatMap { ["none", "allow"].contains($0) ? $0 : nil }
        if let given, let group, given != "allow", given != group {
            throw .usage(
                "--network \(given) and --group \(group) are two networks",
                hint: "give one of them; an instance has one group")
        }
        return NetworkRequest(
            mode: mode ?? "none", group: group ?? (mode == nil ? given : nil), allow: allow.isEmpty ? nil : allow)
    }

    private static func nonEmpty(_ invocation: Invocation, _ name: String) throws(AegisError) -> String? {
        guard let value = invocation[name] else { return nil }
        guard !value.isEmpty else { throw .usage("--\(name) is empty", hint: "give a value, or leave it out") }
        return value
    }

    private static func oneOf(
        _ known: [String], _ invocation: Invocation, _ name: String, _ what: String
    ) throws(AegisError) -> String? {
        guard let value = invocation[name] else { return nil }
        guard known.contains(value) else {
            throw .usage(
                "'\(value)' is not \(what)",
                hint: nearest(value, in: known).map { "did you mean '\($0)'?" }
                    ?? "use one of: \(known.joined(separator: ", "))")
        }
        return value
    }

    /// `K=V`, or `K` for the caller's own value.
    package static func environment(_ words: [String], _ caller: Caller) throws(AegisError) -> [String: String]? {
        var all: [String: String] = [:]
        for word in words {
            let (key, given) = split(word)
            guard !key.isEmpty, !key.contains(where: \.isWhitespace) else {
                throw .usage(
                    "'\(word)' is not a variable", hint: "write --env NAME=VALUE, or --env NAME to hand yours on")
            }
            all[key] = if let given { given } else { try own(key, caller) }
        }
        return all.isEmpty ? nil : all
    }

    /// A variable of the caller's, exactly as it is.
    private static func own(_ key: String, _ caller: Caller) throws(AegisError) -> String {
        guard let bytes = caller.variableBytes(key) else {
            throw .usage("'\(key)' is not set in your environment", hint: "write --env \(key)=VALUE")
        }
        guard let value = String(validating: bytes, as: UTF8.self) else {
            throw .usage(
                "the value of '\(key)' in your environment is not UTF-8: '\(Words.shown(bytes))'",
                hint: "variables are text; hand other bytes on in a file or on standard input")
        }
        return value
    }

    private static func labels(_ words: [String]) throws(AegisError) -> [String: String]? {
        var all: [String: String] = [:]
        for word in words {
            let (key, value) = split(word)
            guard !key.isEmpty else {
                throw .usage("'\(word)' is not a label", hint: "write --label NAME=VALUE")
            }
            all[key] = value ?? ""
        }
        return all.isEmpty ? nil : all
    }

    private static func split(_ word: String) -> (key: String, value: String?) {
        guard let equals = word.utf8.firstIndex(of: UInt8(ascii: "=")) else { return (word, nil) }
        return (String(word[..<equals]), String(word[word.utf8.index(after: equals)...]))
    }

    private static func mounts(_ words: [String], _ caller: Caller) throws(AegisError) -> [MountSpec]? {
        var all: [MountSpec] = []
        for word in words {
            var mount = try MountSpec(parsing: word)
            mount.source = caller.absolute(mount.source)
            try mount.validateTarget()
            all.append(mount)
        }
        return all.isEmpty ? nil : all
    }

    private static func limits(_ invocation: Invocation) throws(AegisError) -> Limits? {
        var limits = Limits()
        if let text = invocation["cpus"] {
            guard let cpus = Double(text), cpus.isFinite else {
                throw .usage("'\(text)' is not a number of processors", hint: "write --cpus 2 or --cpus 0.5")
            }
            limits.cpus = cpus
        }
        limits.memory = try parsed(invocation, "memory", ByteSize.init(parsing:))
        limits.disk = try parsed(invocation, "disk", ByteSize.init(parsing:))
        if let text = invocation["pids"] {
            guard let pids = Int(text) else {
                throw .usage("'\(text)' is not a number of processes", hint: "write --pids 256")
            }
            limits.pids = pids
        }
        limits.timeout = try parsed(invocation, "timeout", TimeSpan.init(parsing:))
        limits.grace = try parsed(invocation, "grace", TimeSpan.init(parsing:))
        try limits.validate()
        return limits == Limits() ? nil : limits
    }

    static func idle(_ invocation: Invocation) throws(AegisError) -> IdlePolicy? {
        let idle = IdlePolicy(
            pause: try parsed(invocation, "idle-pause", TimeSpan.init(parsing:)),
            stop: try parsed(invocation, "idle-stop", TimeSpan.init(parsing:)),
            cpu: try parsed(invocation, "idle-cpu") { text throws(AegisError) in
                guard let percent = Double(text.hasSuffix("%") ? String(text.dropLast()) : text), percent.isFinite
                else {
                    throw .usage("'\(text)' is not a percentage", hint: "for example --idle-cpu 5")
                }
                return percent
            },
            reclaim: try parsed(invocation, "reclaim", IdlePolicy.Reclaim.init(parsing:)),
            standby: try parsed(invocation, "idle-standby") { text throws(AegisError) in
                guard ["on", "off"].contains(text) else {
                    throw .usage("'\(text)' is neither on nor off", hint: "write --idle-standby or --idle-standby=off")
                }
                return text == "on"
            })
        try idle.validate()
        return idle == IdlePolicy() ? nil : idle
    }

    /// The value of an option; a malformed one is reported with the option's name.
    static func parsed<T>(
        _ invocation: Invocation, _ name: String, _ parse: (String) throws(AegisError) -> T
    ) throws(AegisError) -> T? {
        guard let text = invocation[name] else { return nil }
        do throws(AegisError) { return try parse(text) } catch {
            throw AegisError(error.kind, error.code, "--\(name): \(error.message)", hint: error.hint)
        }
    }
}
