internal import AegisCore
internal import AegisSandboxTypes

/// What a kit and its user say together. What the user says wins; variables, ports, mounts, secrets, places and grants are added.
struct KitRequest {
    let kit: KitSpec
    let reference: String

    /// The request with everything that the kit says in it.
    ///
    /// - Parameters:
    ///   - request: what the user says.
    ///   - known: secrets that the store has.
    /// - Returns: the request.
    /// - Throws: `kit-secret-missing`, `invalid-argument` for ports in each other's way.
    func merged(into request: CreateInstance, secrets known: [String]) throws(AegisError) -> CreateInstance {
        var all = request
        all.kit = reference
        all.image = request.image ?? kit.image
        all.command = request.command ?? kit.command
        all.workdir = request.workdir ?? kit.workdir
        all.user = request.user ?? kit.user
        if let env = kit.env { all.env = env.merging(request.env ?? [:]) { $1 } }
        // Nobody has opened a port of an agent's sandbox, and what that reaches is what the agent was granted (decision D46).
        let isAgents = request.agent != nil
        // Something has to run for as long as the sandbox is to be there.
        if isAgents, all.command == nil, all.image ?? "base" == "base" { all.command = ["sleep", "infinity"] }
        all.expose = isAgents ? request.expose : try ports(request.expose)
        all.secrets = try secrets(request.secrets, known: known, besides: isAgents ? ofServers : [])
        all.limits = limits(request.limits)
        all.idle = idle(request)
        all.network = isAgents ? granted(request.network) : network(request.network)
        if let own = kit.grants { all.grants = own + (request.grants ?? []).filter { !own.contains($0) } }
        all.minIsolation = try grade(request.minIsolation)
        return all
    }

    /// A port of the user's takes the place of the kit's of the same number inside; that it is ready later stays so, unless the
    /// user says otherwise: it is the same server.
    private func ports(_ given: [String]?) throws(AegisError) -> [String]? {
        var specs = try ExposeSpec.list(kit.expose ?? [])
        if let path = kit.health?.path, let index = specs.firstIndex(where: { $0.portProtocol == .http }),
            specs[index].ready == .tcp
        {
            specs[index].ready = .http(path: path)
        }
        var own: [String] = []
        for text in given ?? [] {
            var spec = try ExposeSpec(parsing: text)
            let ready = specs.first { $0.guestPort == spec.guestPort && $0.portProtocol == spec.portProtocol }?.ready
            specs.removeAll { $0.guestPort == spec.guestPort }
            guard let ready, ready != .tcp, !text.contains(",ready=") else {
                own.append(text)
                continue
            }
            spec.ready = ready
            own.append(spec.description)
        }
        let all = specs.map(\.description) + own
        return all.isEmpty ? nil : all
    }

    /// Secrets that go to the kit's servers, each to those that name it, and to nothing else in an agent's sandbox.
    private var ofServers: Set<String> { Set((kit.tools ?? []).flatMap { $0.secrets ?? [] }) }

    private func secrets(
        _ given: [String]?, known: [String], besides others: Set<String>
    ) throws(AegisError) -> [String]? {
        guard given != ["*"] else { return given }
        // `NAME@HOST` is a use of NAME as well.
        let named = Set((given ?? []).map { String($0.prefix { $0 != "@" && $0 != "," }) })
        var all = given ?? []
        var missing: [KitSecret] = []
        for secret in kit.secrets ?? [] where !named.contains(secret.name) && !others.contains(secret.name) {
            if known.contains(secret.name) {
                all.append(secret.name)
            } else if !secret.optional {
                missing.append(secret)
            }
        }
        guard missing.isEmpty else {
            let list = missing.map { "'\($0.name)'" + ($0.description.map { " (\($0))" } ?? "") }
            throw .notFound(
                "kit-secret-missing", "kit \(reference) needs the secret \(list.joined(separator: " and "))",
                hint: missing.map { "aegis secret set \($0.name) -" }.joined(separator: "; "))
        }
        return all.isEmpty ? nil : all
    }

    private func limits(_ given: Limits?) -> Limits? {
        guard let own = kit.limits else { return given }
        return Limits(
            cpus: given?.cpus ?? own.cpus, memory: given?.memory ?? own.memory, disk: given?.disk ?? own.disk,
            pids: given?.pids ?? own.pids, timeout: given?.timeout ?? own.timeout, grace: given?.grace ?? own.grace)
    }

    private func idle(_ request: CreateInstance) -> IdlePolicy? {
        let given = request.idle
        guard let own = kit.idle else { return given }
        // Nothing wakes a run without a port, so it never sleeps.
        if request.ephemeral == true, (kit.expose ?? []).isEmpty, (request.expose ?? []).isEmpty { return given }
        // A run has no next start.
        let standby = request.ephemeral == true ? nil : own.standby
        return IdlePolicy(
            pause: given?.pause ?? own.pause, stop: given?.stop ?? own.stop, cpu: given?.cpu ?? own.cpu,
            reclaim: given?.reclaim ?? own.reclaim, standby: given?.standby ?? standby)
    }

    private func network(_ given: NetworkRequest?) -> NetworkRequest? {
        guard let own = kit.network else { return given }
        guard let given else {
            return NetworkRequest(group: own.group, allow: own.allow.isEmpty ? nil : own.allow)
        }
        // `--network none` alone closes what the kit opens.
        if given == NetworkRequest() { return given }
        var all = given
        // A mode that is neither is the name of a group.
        if ["none", "allow"].contains(given.mode), given.group == nil { all.group = own.group }
        let places = own.allow + (given.allow ?? []).filter { !own.allow.contains($0) }
        all.allow = places.isEmpty ? nil : places
        return all
    }

    /// What an agent's sandbox reaches; a kit's group is seen, and refused, where that is decided.
    private func granted(_ given: NetworkRequest?) -> NetworkRequest? {
        guard let group = kit.network?.group else { return given }
        var all = given ?? NetworkRequest()
        all.group = group
        return all
    }

    /// The stronger of both: neither can take back what the other asks for.
    private func grade(_ given: String?) throws(AegisError) -> String? {
        guard let own = try kit.minIsolation.map({ text throws(AegisError) in try Grade(parsing: text) }) else {
            return given
        }
        guard let given = try given.map({ text throws(AegisError) in try Grade(parsing: text) }) else {
            return own.rawValue
        }
        return max(own, given).rawValue
    }
}
