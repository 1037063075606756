internal import AegisBackends
internal import AegisCore
internal import AegisImages
internal import AegisNetwork
internal import AegisSandboxTypes
internal import AegisSecrets
internal import LinuxSys

/// Turns a request into a record, or says what is wrong with it before anything is made.
struct CreateRules {
    let services: InstanceServices
    let caller: Caller
    /// User and group ids of one sandbox begin at 0; so many there are.
    private static let ids = 65_536

    /// Checks every field of a request and fills in the node's defaults.
    ///
    /// - Throws: an error that names the field, the value and the right form.
    func check(_ request: CreateInstance, _ kit: KitPlan? = nil) throws -> StoredInstance {
        guard request.kit == kit?.reference else {
            throw AegisError.usage(
                "kit '\(request.kit ?? "")' cannot be used here", hint: "name it where instances are made")
        }
        if request.agent != nil { try checkOfAgent(request) }
        var random = SystemRandomNumberGenerator()
        let id = Identifiers.instance(using: &random)
        if let name = request.name { try Names.validate(name, what: "instance") }
        let image = request.image ?? "base"
        let reference = try ImageReference(parsing: image, defaultRegistry: services.defaultRegistry)
        let command = try command(request, image)
        let limits = try limits(request.limits)
        try isolation(request.isolation)
        // The node's minimum is its owner's word: a request can raise it, not lower it.
        let wanted = try request.minIsolation.map { try Grade(parsing: $0) } ?? services.defaults.minIsolation
        let minimum = max(wanted, services.defaults.minIsolation)

        var info = InstanceInfo(
            id: id, name: request.name, state: .stopped, image: reference.description, command: command,
            owner: caller.uid,
            node: services.node, createdAt: .now())
        info.limits = limits
        info.mounts = try mounts(request.mounts ?? [])
        info.secrets = try secrets(request.secrets ?? [])
        info.labels = try labels(request.labels ?? [:])
        info.ephemeral = request.ephemeral ?? false
        let policy = try NetworkPolicy(request.network, secrets: brokered(info.secrets))
        info.network = policy.mode.rawValue
        info.allow = policy.mode == .listed ? policy.places : nil
        info.group = policy.group
        info.expose = try ExposeSpec.list(request.expose ?? []).map(ExposedPort.init)
        info.idle = try idle(request)
        info.grants = try grants(request.grants ?? [])
        let (kind, source) = try workspace(request.workspace, id: id, agent: request.agent)
        info.workspace = kind == .automatic ? nil : source
        info.agent = request.agent?.agent
        var stored = StoredInstance(
            info: info, env: try environment(request.env ?? [:]), workdir: try directory(request.workdir),
            user: try user(request.user),
            userCommand: command, workspaceKind: kind, workspaceSource: source,
            isolation: request.isolation ?? services.defaults.isolation, minIsolation: minimum.rawValue,
            pull: try pull(request.pull), stdin: request.stdin ?? false, tty: request.tty ?? false,
            lingers: try lingers(request), ownerGroup: caller.gid)
        stored.allowsSetID = request.allowSetuid
        stored.guestAPI = try guestAPI(request.guestAPI, besides: info.expose)
        stored.network = policy.isClosed ? nil : request.network
        stored.agent = request.agent
        stored.kit = kit
        stored.info.kit = kit?.reference
        // From the beginning: a daemon that dies before the start leaves the next one to make up for it.
        if request.start ?? true { stored.intent = .init(.start) }
        return stored
    }

    private func command(_ request: CreateInstance, _ image: String) throws(AegisError) -> [String] {
        let command = request.command ?? []
        guard !command.isEmpty || image != "base" else {
            throw .usage(
                "a command is missing: the image 'base' has none of its own"
                    + (request.name.map { ", and there is no stopped instance '\($0)'" } ?? ""),
                hint: "write it after --, as in: aegis run -- python3 -V")
        }
        guard command.first != "", !command.contains(where: { $0.utf8.contains(0) }) else {
            throw .usage(
                "the command has an empty name or a NUL byte", hint: "write the program first, then its arguments")
        }
        return command
    }

    private func guestAPI(
        _ wanted: GuestAPISetting?, besides expose: [ExposedPort]
    ) throws(AegisError) -> GuestAPISetting? {
        let port = (wanted ?? .standard).port
        guard expose.contains(where: { $0.guestPort == port }) else { return wanted }
        // Only who asked for both is told: the standard port gives way to a server.
        guard wanted != nil else { return .off }
        throw .usage(
            "port \(port ?? 0) cannot be exposed and be the guest API's",
            hint: "choose another with --guest-api PORT, or --guest-api off")
    }

    private func idle(_ request: CreateInstance) throws(AegisError) -> IdlePolicy? {
        guard let idle = request.idle, idle != IdlePolicy() else { return nil }
        try idle.validate()
        try Instance.checkReclaim(idle)
        try Instance.checkStandby(idle, isEphemeral: request.ephemeral ?? false)
        guard !(request.ephemeral ?? false) || !(request.expose ?? []).isEmpty else {
            throw .usage(
                "a run without an exposed port never sleeps",
                hint: "leave the idle options out, or expose a port with --expose")
        }
        return idle
    }

    /// Only what is removed with its client may stay for it: nobody else would ever let the sandbox go.
    private func lingers(_ request: CreateInstance) throws(AegisError) -> Bool? {
        guard request.linger == true else { return nil }
        guard request.ephemeral == true, request.start == false else {
            throw .usage(
                "'linger' is for ephemeral instances that their client starts",
                hint: "set 'ephemeral' and 'start': false, and start it by attaching with ?start=1")
        }
        return true
    }

    private func isolation(_ given: String?) throws(AegisError) {
        let known = services.backends.names + BackendSet.otherReleases.map(\.name)
        guard let given, !known.contains(given) else { return }
        throw .usage(
            "'\(given)' is not an isolation",
            hint: nearest(given, in: known).map { "did you mean '\($0)'?" }
                ?? "isolations: \(services.backends.names.joined(separator: ", "))")
    }

    private func limits(_ given: Limits?) throws(AegisError) -> Limits {
        var limits = given ?? Limits()
        try limits.validate()
        limits.memory = limits.memory ?? services.defaults.limits.memory
        limits.cpus = limits.cpus ?? services.defaults.limits.cpus
        limits.pids = limits.pids ?? services.defaults.limits.pids
        limits.disk = limits.disk ?? services.defaults.limits.disk
        return limits
    }

    private func environment(_ env: [String: String]) throws(AegisError) -> [String: String] {
        for (name, value) in env {
            try EnvironmentNames.validate(name)
            guard !value.utf8.contains(0) else {
                throw .usage("the value of environment variable '\(name)' holds a NUL byte")
            }
        }
        return env
    }

    private func directory(_ path: String?) throws(AegisError) -> String? {
        guard let path else { return nil }
        guard path.hasPrefix("/"), !path.utf8.contains(0) else {
            throw .usage(
                "working directory '\(path)' is not an absolute path", hint: "for example --workdir /workspace")
        }
        return path
    }

    private func user(_ user: String?) throws(AegisError) -> String? {
        guard let user else { return nil }
        let parts = user.split(separator: ":", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count),
            parts.allSatisfy({ !$0.isEmpty && $0.utf8.count <= 64 && !$0.utf8.contains(0) })
        else {
            throw .usage("'\(user)' is not a user", hint: "write uid, name, uid:gid or name:group")
        }
        for part in parts where part.allSatisfy({ $0.isASCII && $0.isNumber }) && (Int(part) ?? .max) >= Self.ids {
            throw .usage(
                "user or group \(part) of '\(user)' is outside the sandbox's ids", hint: "use an id below \(Self.ids)")
        }
        return user
    }

    private func mounts(_ mounts: [MountSpec]) throws(AegisError) -> [MountSpec] {
        guard mounts.count <= 64 else {
            throw .usage("\(mounts.count) mounts are too many", hint: "an instance has at most 64")
        }
        var targets: Set<String> = ["/workspace"]
        for mount in mounts {
            try mount.validateTarget()
            guard mount.source.hasPrefix("/") else {
                throw .usage("mount source '\(mount.source)' is not an absolute path")
            }
            guard targets.insert(mount.target).inserted else {
                throw .usage(
                    "two mounts have the target '\(mount.target)'",
                    hint: mount.target == "/workspace"
                        ? "mount /workspace with --workspace" : "give each its own target")
            }
        }
        return mounts
    }

    private func labels(_ labels: [String: String]) throws(AegisError) -> [String: String] {
        guard labels.count <= 64,
            labels.allSatisfy({ !$0.key.isEmpty && $0.key.utf8.count <= 128 && $0.value.utf8.count <= 1024 })
        else { throw .usage("labels are out of bounds", hint: "at most 64, keys up to 128 bytes, values up to 1024") }
        return labels
    }

    private func workspace(_ given: String?, id: String, agent: AgentPlaces?) throws -> (WorkspaceKind, String) {
        if let agent { return (.agent, agent.folder ?? "agents/\(agent.tree)/workspace") }
        guard let given else { return (.automatic, "auto-\(id)") }
        if given.hasPrefix("/") { return (.host, given) }
        try Names.validate(given, what: "workspace")
        return (.named, given)
    }

    private func pull(_ policy: String?) throws(AegisError) -> String {
        let known = ["always", "if-not-present", "never"]
        let policy = policy ?? services.defaults.pull
        guard known.contains(policy) else {
            throw .usage(
                "'\(policy)' is not a pull policy",
                hint: nearest(policy, in: known).map { "did you mean '\($0)'?" }
                    ?? "use always, if-not-present or never")
        }
        return policy
    }
}

/// The rule for names of environment variables.
enum EnvironmentNames {
    static func validate(_ name: String) throws(AegisError) {
        let s = Array(name.utf8)
        let letter: (UInt8) -> Bool = { (65...90).contains($0) || (97...122).contains($0) || $0 == 95 }
        guard let first = s.first, letter(first), s.allSatisfy({ letter($0) || (48...57).contains($0) }) else {
            throw .usage(
                "'\(name)' is not a name of an environment variable",
                hint: "write NAME=VALUE with letters, digits and _")
        }
    }
}
