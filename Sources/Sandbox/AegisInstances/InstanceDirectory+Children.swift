internal import AegisCapabilities
package import AegisCore
internal import AegisImages
internal import AegisLogs
internal import AegisNetwork
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
        let (own, attempt) = await (parent.stored, parent.attempt)
        let admission: Admission
        do throws(Denial) {
            admission = try services.grants.admit(Request(.spawn(agent: "instance")), by: HolderID(parent.id))
        } catch { throw error.asAegisError }
        var counted: [Instance] = []
        do {
            guard try generation(of: own.info) < Self.depth else {
                throw AegisError.conflict("too-many-generations", "there are \(Self.depth) generations of instances")
            }
            // Before there is a child: one that the next daemon knew nothing of would be one too many.
            for instance in line(from: parent) {
                try await instance.countSpawned()
                counted.append(instance)
            }
            let child = try await make(request, from: parent, own)
            do { _ = try await child.started() } catch {
                await child.delete()
                throw error
            }
            // The parent may have ended while its child was being made.
            guard await parent.isUp, await parent.attempt == attempt else {
                await child.delete()
                throw AegisError.conflict("instance-stopped", "\(parent.id) has ended")
            }
            admission.settle()
            return child
        } catch {
            for instance in counted { await instance.uncountSpawned() }
            admission.refund()
            throw error
        }
    }

    /// An instance and all above it: a grant is used at all that it was derived from.
    private func line(from instance: Instance) -> [Instance] {
        var line = [instance]
        while line.count <= Self.depth, let above = line.last?.parent, let next = try? self.instance(above) {
            line.append(next)
        }
        return line
    }

    /// One at a time for each family, so that what is left is not given away twice.
    private func make(
        _ request: CreateInstance, from parent: Instance, _ own: StoredInstance
    ) async throws -> Instance {
        let root = root(of: parent)
        await families.enter(root)
        defer { families.leave(root) }
        let family = await family(of: root)
        guard family.count < Self.most else {
            throw AegisError.conflict(
                "too-many-children", "there are \(Self.most) instances below \(root), the most there may be",
                hint: "remove one first")
        }
        let narrowed = try narrow(request, to: own, beside: family, below: try await instance(root).stored)
        let caller = Caller(uid: own.info.owner, gid: own.ownerGroup)
        return try await create(narrowed, for: caller, parent: own)
    }

    private func root(of instance: Instance) -> String {
        var (id, next) = (instance.id, instance.parent)
        for _ in 0...Self.depth {
            guard let parent = next else { break }
            (id, next) = (parent, (try? self.instance(parent))?.parent)
        }
        return id
    }

    /// The limits of all instances below one.
    private func family(of root: String) async -> [AegisSandboxTypes.Limits] {
        var found: [AegisSandboxTypes.Limits] = []
        for instance in all where instance.parent != nil && self.root(of: instance) == root {
            found.append(await instance.stored.info.limits)
        }
        return found
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
    private func narrow(
        _ request: CreateInstance, to parent: StoredInstance, beside family: [AegisSandboxTypes.Limits],
        below root: StoredInstance
    ) throws(AegisError) -> CreateInstance {
        var request = request
        let asked = request.limits
        func refuse(_ what: String) -> AegisError {
            AegisError(
                .denied, "too-wide", "\(what) is more than this instance has itself",
                hint: "a child has at most its parent's rights")
        }
        for (name, given) in [
            ("name", request.name != nil), ("kit", request.kit != nil), ("workspace", request.workspace != nil),
            ("mounts", request.mounts?.isEmpty == false),
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
        // A file of the host would be opened with its owner's rights.
        if let image = request.image, image != parent.info.image,
            case .local = try ImageReference(parsing: image, defaultRegistry: services.defaultRegistry)
        {
            throw refuse("image '\(image)'")
        }
        guard request.start ?? true else { throw .usage("a child is started at once", hint: "leave 'start' out") }
        if let secret = (request.secrets ?? []).first(where: { name in
            !parent.info.secrets.contains(name) && parent.info.secrets != ["*"]
        }) {
            throw refuse("secret '\(secret)'")
        }
        let limits = try narrow(request.limits ?? AegisSandboxTypes.Limits(), to: parent.info.limits, refuse)
        request.limits = try share(limits, beside: family, below: root.info.limits, asked: asked)
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
        // The end of the parent waits for that of its children.
        let longest = own.grace ?? AegisSandboxTypes.Limits.usualGrace
        if let grace = limits.grace, grace.milliseconds > longest.milliseconds { throw refuse("grace \(grace)") }
        limits.grace = limits.grace ?? own.grace
        return limits
    }

    /// All that is below an instance together has at most the memory, processors, disk and processes of that instance.
    private func share(
        _ wanted: AegisSandboxTypes.Limits, beside family: [AegisSandboxTypes.Limits],
        below root: AegisSandboxTypes.Limits, asked: AegisSandboxTypes.Limits?
    ) throws(AegisError) -> AegisSandboxTypes.Limits {
        var limits = wanted
        func tooMuch(_ what: String, _ all: String) -> AegisError {
            AegisError(
                .denied, "too-wide", "the children would have more \(what) together than \(all)",
                hint: "give smaller limits, or remove children")
        }
        if let all = root.memory {
            let left = all.bytes - min(all.bytes, family.reduce(0) { $0 + ($1.memory?.bytes ?? 0) })
            // A share, unless it says how much: another may be wanted.
            if asked?.memory == nil { limits.memory = ByteSize(min(left, wanted.memory?.bytes ?? left, 512 << 20)) }
            guard let own = limits.memory, own.bytes <= left, own.bytes >= 16 << 20 else {
                throw tooMuch("memory", "\(all)")
            }
        }
        if let all = root.cpus {
            let left = all - min(all, family.reduce(0) { $0 + ($1.cpus ?? 0) })
            if asked?.cpus == nil { limits.cpus = min(left, max(0.05, all / 8)) }
            // Sums of parts of a processor are not exact.
            guard let own = limits.cpus, own <= left + 0.000_001, own >= 0.01 else {
                throw tooMuch("processors", "\(all)")
            }
        }
        if let all = root.pids {
            let left = all - min(all, family.reduce(0) { $0 + ($1.pids ?? 0) })
            if asked?.pids == nil { limits.pids = min(left, wanted.pids ?? left, max(16, all / 8)) }
            guard let own = limits.pids, own <= left, own >= 1 else { throw tooMuch("processes", "\(all)") }
        }
        if let all = root.disk {
            let left = all.bytes - min(all.bytes, family.reduce(0) { $0 + ($1.disk?.bytes ?? 0) })
            if asked?.disk == nil { limits.disk = ByteSize(min(left, max(64 << 20, all.bytes / 8))) }
            guard let own = limits.disk, own.bytes <= left, own.bytes > 0 else { throw tooMuch("disk", "\(all)") }
        }
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

    /// The places that its network was opened to, as grants. What is open for brokered secrets only, is for their requests:
    /// to hand it on would make more of it.
    var networkSpecs: [GrantSpec] {
        guard let policy = try? NetworkPolicy(network, secrets: brokeredSecrets) else { return [] }
        return policy.grants.filter { !policy.implied.contains($0) }
    }
}

extension Instance {
    /// Gives the instance what it was granted, once its sandbox is there; a child's grants are derived from its parent's.
    func issueGrants() {
        let specs = stored.grantSpecs
        guard !specs.isEmpty else { return }
        let (grants, holder) = (services.grants, HolderID(id))
        do {
            let start = try grantsStart(specs)
            let given =
                if let parent = stored.info.parent {
                    try grants.delegate(living(specs, of: parent), from: HolderID(parent), to: holder, since: start)
                } else { try grants.issue(specs, to: holder, since: start) }
            // What it has started already it has started, whichever daemon and whichever run that was.
            do { try grants.recall(stored.spawned ?? 0, of: .spawn(agent: "instance"), by: holder) } catch {
                for one in given { _ = try? grants.revoke(one.id, reason: "not counted") }
                throw error
            }
        } catch {
            services.logger.warning("grants are not given", ("instance", id), ("error", "\(error)"))
            note(log.note("without its grants: \(Instance.explain(error).message)"))
        }
    }

    /// When the grants were first given: a lifetime counts from there, whichever daemon and whichever run it is.
    private func grantsStart(_ specs: [GrantSpec]) throws -> Timestamp? {
        guard specs.contains(where: { $0.lifetime != nil }) else { return nil }
        if let start = stored.granted { return start }
        stored.granted = .now()
        guard !save(), let failure = saveFailure else { return stored.granted }
        // One that the next daemon knew nothing of would begin anew.
        stored.granted = nil
        throw failure
    }

    /// Those that the parent can still hand on: what has expired there has expired here, and takes nothing else with it.
    private func living(_ specs: [GrantSpec], of parent: String) -> [GrantSpec] {
        let (held, now) = (services.grants.records(of: HolderID(parent)).map(\.terms), Timestamp.now())
        return specs.filter { spec in
            let covering = held.filter { $0.capability.covers(spec.capability) }
            return covering.isEmpty || covering.contains { $0.expires.map { $0 > now } ?? true }
        }
    }

    /// Notes that a child is about to be made.
    ///
    /// - Throws: when that cannot be saved; then it is not noted.
    func countSpawned() throws {
        stored.spawned = (stored.spawned ?? 0) + 1
        save()
        guard let failure = saveFailure else { return }
        uncountSpawned()
        throw failure
    }

    /// Takes that back: there is no child.
    func uncountSpawned() {
        stored.spawned = stored.spawned.map { $0 - min(1, $0) }
        save()
    }

    /// Takes everything back.
    func retireGrants() { _ = try? services.grants.retire(HolderID(id), reason: "the instance has ended") }

    /// The number of the run.
    var attempt: UInt64 { machine.attempt }

    /// Whether there is a sandbox, or will be one at once.
    var isUp: Bool { [.running, .paused, .starting].contains(machine.state) }
}
