internal import AegisCapabilities
package import AegisCore
internal import AegisLogs
package import AegisSandboxTypes

/// Instances that a program inside another has started: they have no right that their parent has not, and end with it.
extension InstanceDirectory {
    /// The most that one instance may have at a time.
    private static var most: Int { 16 }
    /// How many generations there may be below an instance that a person has started.
    private static var depth: Int { 5 }

    /// Makes and starts a child.
    ///
    /// - Throws: `denied` with the nearest grant when the parent may not; `too-wide` for what the parent has not itself;
    ///   `too-many-children`; as `create`.
    package func spawn(_ request: CreateInstance, from parent: Instance) async throws -> Instance {
        let own = await parent.stored
        let admission: Admission
        do throws(Denial) {
            admission = try services.grants.admit(Request(.spawn(agent: "instance")), by: HolderID(parent.id))
        } catch { throw error.asAegisError }
        do {
            let narrowed = try narrow(request, to: own)
            guard try generation(of: own.info) < Self.depth else {
                throw AegisError.conflict("too-many-generations", "there are \(Self.depth) generations of instances")
            }
            guard await children(of: parent.id).count < Self.most else {
                throw AegisError.conflict(
                    "too-many-children", "\(parent.id) has \(Self.most) instances, the most it may have",
                    hint: "remove one first")
            }
            let caller = Caller(uid: own.info.owner, gid: own.ownerGroup)
            let child = try await create(narrowed, for: caller, parent: parent.id)
            do { _ = try await child.started() } catch {
                await child.delete()
                throw error
            }
            // The parent may have ended while its child was being made.
            guard await parent.isUp else {
                await child.delete()
                throw AegisError.conflict("instance-stopped", "\(parent.id) has ended")
            }
            admission.settle()
            return child
        } catch {
            admission.refund()
            throw error
        }
    }

    /// The instances that one has started, the oldest first.
    package func children(of parent: String) async -> [InstanceInfo] {
        var found: [InstanceInfo] = []
        for instance in all where instance.parent == parent { found.append(await instance.info) }
        return found.sorted { ($0.createdAt, $0.id) < ($1.createdAt, $1.id) }
    }

    /// One child by id or name.
    ///
    /// - Throws: `instance-not-found` for whoever is not this one's child.
    package func child(_ text: String, of parent: String) throws(AegisError) -> Instance {
        guard let found = try? find(text, for: Caller(uid: 0, gid: 0)), found.parent == parent else {
            throw .notFound("instance-not-found", "'\(text)' is not an instance that this one has started")
        }
        return found
    }

    /// Ends what an instance has started.
    func removeChildren(of parent: String) async {
        await withDiscardingTaskGroup { group in
            for child in all where child.parent == parent { group.addTask { await child.delete() } }
        }
    }

    private func generation(of info: InstanceInfo) throws -> Int {
        var count = 0
        var next = info.parent
        while let id = next, count <= Self.depth {
            count += 1
            next = try? instance(id).parent
        }
        return count
    }

    /// The request as the parent may make it: what it leaves open is the parent's, what is wider is refused.
    private func narrow(_ request: CreateInstance, to parent: StoredInstance) throws(AegisError) -> CreateInstance {
        var request = request
        func refuse(_ what: String) -> AegisError {
            AegisError(
                .denied, "too-wide", "\(what) is more than this instance has itself",
                hint: "a child has at most its parent's rights")
        }
        for (name, given) in [
            ("workspace", request.workspace != nil), ("mounts", request.mounts?.isEmpty == false),
            ("expose", request.expose?.isEmpty == false), ("idle", request.idle != nil),
            ("credentials", request.credentials != nil), ("ephemeral", request.ephemeral == true),
            ("linger", request.linger == true), ("allow_setuid", request.allowSetuid == true),
        ] where given {
            throw AegisError(
                .denied, "not-for-children", "'\(name)' is the host's side: a program inside cannot ask for it",
                hint: "leave it out; a child has a workspace of its own")
        }
        // What is fetched for it would go through the host's network, with a name of the program's choice.
        guard ["never", nil].contains(request.pull) else { throw refuse("pull '\(request.pull ?? "")'") }
        request.pull = "never"
        guard request.start ?? true else { throw .usage("a child is started at once", hint: "leave 'start' out") }
        if let secret = (request.secrets ?? []).first(where: { name in
            !parent.info.secrets.contains(name) && parent.info.secrets != ["*"]
        }) {
            throw refuse("secret '\(secret)'")
        }
        request.limits = try narrow(request.limits ?? AegisSandboxTypes.Limits(), to: parent.info.limits, refuse)
        // As strongly isolated as the parent, at least.
        request.isolation = request.isolation ?? parent.isolation
        let floor = parent.info.grade ?? Grade(rawValue: parent.minIsolation) ?? .namespaces
        let wanted = try request.minIsolation.map { text throws(AegisError) in try Grade(parsing: text) }
        request.minIsolation = max(floor, wanted ?? floor).rawValue
        try narrowNetwork(request.network, to: parent, refuse)
        return request
    }

    private func narrow(
        _ wanted: AegisSandboxTypes.Limits, to own: AegisSandboxTypes.Limits, _ refuse: (String) -> AegisError
    ) throws(AegisError) -> AegisSandboxTypes.Limits {
        var limits = wanted
        func bound<T: Comparable>(_ name: String, _ path: WritableKeyPath<AegisSandboxTypes.Limits, T?>)
            throws(AegisError)
        {
            guard let most = own[keyPath: path] else { return }
            guard let value = limits[keyPath: path] else { return limits[keyPath: path] = most }
            if value > most { throw refuse("\(name) \(value)") }
        }
        try bound("memory", \.memory)
        try bound("cpus", \.cpus)
        try bound("pids", \.pids)
        try bound("disk", \.disk)
        return limits
    }

    /// Hosts are handed on by the book of grants, when the child is linked; a group is the parent's or none.
    private func narrowNetwork(
        _ wanted: NetworkRequest?, to parent: StoredInstance, _ refuse: (String) -> AegisError
    ) throws(AegisError) {
        guard let wanted else { return }
        if wanted.mode == "allow", parent.info.network != "allow" { throw refuse("network 'allow'") }
        let group = wanted.group ?? (["none", "allow"].contains(wanted.mode) ? nil : wanted.mode)
        if let group, group != parent.info.group { throw refuse("group '\(group)'") }
        guard parent.info.network != "allow" else { return }
        let own = (parent.grantSpecs + parent.networkSpecs).map(\.capability)
        for place in wanted.allow ?? [] {
            let capability: Capability
            do { capability = try Capability(parsing: "network: \(place)") } catch { throw error.asAegisError }
            guard own.contains(where: { $0.covers(capability) }) else { throw refuse("'\(place)'") }
        }
    }
}

extension StoredInstance {
    /// What the instance was granted by name, beside its network.
    var grantSpecs: [GrantSpec] { (info.grants ?? []).compactMap { try? GrantSpec(parsing: $0) } }

    /// The places that its network reaches, as grants.
    var networkSpecs: [GrantSpec] { (info.allow ?? []).compactMap { try? GrantSpec(parsing: "network: \($0)") } }
}

extension Instance {
    /// Gives the instance what it was granted, once its sandbox is there; a child's grants are derived from its parent's.
    func issueGrants() {
        let specs = stored.grantSpecs
        guard !specs.isEmpty else { return }
        do {
            if let parent = stored.info.parent {
                try services.grants.delegate(specs, from: HolderID(parent), to: HolderID(id))
            } else {
                try services.grants.issue(specs, to: HolderID(id))
            }
        } catch {
            services.logger.warning("grants are not given", ("instance", id), ("error", "\(error)"))
            note(log.note("without its grants: \(Instance.explain(error).message)"))
        }
    }

    /// Takes everything back.
    func retireGrants() { _ = try? services.grants.retire(HolderID(id), reason: "the instance has ended") }

    /// Whether there is a sandbox, or will be one at once.
    var isUp: Bool { [.running, .paused, .starting].contains(machine.state) }
}
