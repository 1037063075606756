internal import AegisAudit
internal import AegisBackends
package import AegisCore
package import AegisFiles
internal import AegisIO
package import AegisImages
internal import AegisLogs
package import AegisSandboxTypes
internal import AegisSecrets
internal import AegisSessions
internal import Synchronization

/// Every instance of this node, by id and by name.
package final class InstanceDirectory: Sendable {
    private struct State {
        var byID: [String: Instance] = [:]
        var byName: [String: String] = [:]
        /// Instances whose end has been told to their clients: nobody sees them any more, what is left of them goes.
        var leaving: [String: Instance] = [:]
        /// Instances that are being made: they count for the node's bound.
        var coming = 0
    }
    private let state = Mutex(State())
    let services: InstanceServices
    /// Of instances that programs inside start.
    let families = Turnstile()
    private let logLimits: LogLimits
    /// Sandboxes that are kept ready.
    package let warm: WarmPool

    /// Makes an empty directory; `recover` fills it.
    package init(services: InstanceServices) {
        self.services = services
        logLimits = LogLimits(totalBytes: services.defaults.logLimit)
        warm = WarmPool(services: services)
    }

    // MARK: Looking up

    /// Finds an instance by id or name; another user's is not found.
    ///
    /// - Throws: `instance-not-found` naming the nearest name.
    package func find(_ key: String, for caller: Caller) throws(AegisError) -> Instance {
        let (found, names) = state.withLock { state in
            // Only the caller's own are named: what others have is nobody else's business.
            let known = state.byID.values.filter { caller.maySee(owner: $0.owner) }.map(\.id)
            let own = Set(known)
            return (
                state.byID[key] ?? state.byName[key].flatMap { state.byID[$0] },
                state.byName.filter { own.contains($0.value) }.map(\.key) + known
            )
        }
        guard let found, caller.maySee(owner: found.owner) else {
            throw .notFound(
                "instance-not-found", "no instance '\(key)'",
                hint: nearest(key, in: names).map { "did you mean '\($0)'?" } ?? "see 'aegis instance list'")
        }
        return found
    }

    /// The caller's instances, oldest first.
    package func list(for caller: Caller, state wanted: InstanceState? = nil) async -> [InstanceInfo] {
        var infos: [InstanceInfo] = []
        for instance in state.withLock({ Array($0.byID.values) }) where caller.maySee(owner: instance.owner) {
            let info = await instance.info
            if wanted == nil || info.state == wanted { infos.append(info) }
        }
        return infos.sorted { ($0.createdAt, $0.id) < ($1.createdAt, $1.id) }
    }

    /// Reads an image's name as instances do.
    package func reference(_ text: String) throws(AegisError) -> ImageReference {
        try ImageReference(parsing: text, defaultRegistry: services.defaultRegistry)
    }

    /// Instances by state, for status.
    package func counts() async -> [String: Int] {
        var counts: [String: Int] = [:]
        for instance in state.withLock({ Array($0.byID.values) }) {
            counts[await instance.info.state.rawValue, default: 0] += 1
        }
        return counts
    }

    /// What sleeping instances have ready for their next starts; nil when none wishes that.
    package var standbys: StandbyReport? { services.standbys.report }

    /// Every instance that can be found.
    var all: [Instance] { state.withLock { Array($0.byID.values) } }

    /// The instance of an id, whoever asks.
    func instance(_ id: String) throws(AegisError) -> Instance {
        guard let found = state.withLock({ $0.byID[id] }) else {
            throw .notFound("instance-not-found", "no instance '\(id)'", hint: "see 'aegis instance list'")
        }
        return found
    }

    /// The instance that a program inside it asks for.
    ///
    /// - Throws: `instance-not-found` once it is on its way out.
    package func guest(_ id: String) throws(AegisError) -> Instance { try instance(id) }

    /// Who answers programs inside instances.
    package var guests: GuestBoard { services.guests }

    /// What happens to instances.
    package var events: EventRing { services.events }

    /// Every id.
    package func ids() async -> Set<String> { state.withLock { Set($0.byID.keys) } }

    /// Stops everything, each with its grace, for the end of the daemon; ephemeral instances are removed.
    package func stopAll() async {
        services.gate.close()
        await warm.close()
        await withDiscardingTaskGroup { group in
            for instance in state.withLock({ Array($0.byID.values) + Array($0.leaving.values) }) {
                group.addTask {
                    if await instance.info.ephemeral {
                        await instance.delete()
                    } else {
                        _ = try? await instance.stop()
                    }
                }
            }
        }
    }

    /// Leaves everything as it is, for the end of the daemon: the next one takes it over. Streams of clients are cut; they
    /// come back to that one.
    package func leaveAlone() async {
        services.gate.leaveAlone()
        await warm.close()
    }

    /// Removes those whose clients have their end already. Nobody sees them any more: what they used is to be free, and a
    /// daemon after this one would wait for clients that do not come.
    ///
    /// - Parameter limit: how long that is waited for; what takes longer goes on.
    package func seeOff(within limit: Duration = .seconds(10)) async {
        let leaving = state.withLock { Array($0.leaving.values) }
        try? await withDeadline(limit, clock: services.clock) {
            await withDiscardingTaskGroup { group in
                for instance in leaving { group.addTask { await instance.delete() } }
            }
        }
    }

    /// - Throws: `daemon-stopping` once the daemon goes, whatever becomes of its instances.
    package func checkStays() throws(AegisError) { try services.gate.checkStays() }

    /// Ends the looking at channels, for the end of the daemon.
    package func endWatching() {
        for instance in state.withLock({ Array($0.byID.values) + Array($0.leaving.values) }) { instance.tap.end() }
    }

    /// Digests of images that some instance needs.
    package func imagesInUse() async -> Set<String> {
        var digests: Set<String> = []
        for instance in state.withLock({ Array($0.byID.values) + Array($0.leaving.values) }) {
            if let digest = await instance.stored.image?.digest { digests.insert(digest) }
        }
        return digests
    }

    /// The kits that instances were made with: the kit, and who uses it. A caller sees its own by name.
    package func kitsInUse(for caller: Caller) async -> [(kit: String, instance: String)] {
        await users(for: caller) { $0.info.kit }.map { (kit: $0.thing, instance: $0.instance) }
    }

    /// The things that instances need, which must stay as long as they do: each with who needs it.
    func users(
        for caller: Caller, of needed: (StoredInstance) -> String?
    ) async -> [(thing: String, instance: String)] {
        var all: [(thing: String, instance: String)] = []
        for instance in state.withLock({ Array($0.byID.values) + Array($0.leaving.values) }) {
            let stored = await instance.stored
            guard let thing = needed(stored) else { continue }
            let info = stored.info
            all.append((thing, caller.maySee(owner: info.owner) ? info.name ?? info.id : "an instance of another user"))
        }
        return all.sorted { ($0.thing, $0.instance) < ($1.thing, $1.instance) }
    }

    /// Opens a path with the rights of who names it (decision D15).
    ///
    /// - Parameters:
    ///   - path: absolute.
    ///   - what: the word in messages.
    ///   - isFolder: whether it must be a folder.
    ///   - caller: who names it.
    /// - Returns: the file or folder.
    /// - Throws: `path-not-found`, `path-denied`, `path-refused`, `not-a-directory`.
    package func open(
        _ path: String, as what: String, isFolder: Bool = false, for caller: Caller
    ) async throws -> OpenedPath {
        try await services.opener.open(
            path, for: UserView.Purpose(what, needsDirectory: isFolder, writes: false),
            as: PathCaller(user: caller.uid, group: caller.gid))
    }

    /// Names of secrets that the store has.
    package func secretNames() throws -> [String] { try services.secrets.list().map(\.name) }

    // MARK: Making and removing

    /// Makes an instance and, unless told otherwise, starts it.
    ///
    /// - Parameters:
    ///   - request: what it shall be, with what its kit says already in it.
    ///   - kit: what it needs of its kit.
    ///   - caller: who asks.
    ///   - parent: the instance that asked for it, and whose end is its own.
    /// - Returns: the instance.
    /// - Throws: what is wrong with the request, before anything is made; `name-in-use`.
    package func create(
        _ request: CreateInstance, kit: KitPlan? = nil, for caller: Caller, parent: StoredInstance? = nil
    ) async throws -> Instance {
        try services.gate.check()
        let starts = request.start ?? true
        var wanted = try CreateRules(services: services, caller: caller).check(request, kit)
        wanted.info.parent = parent?.info.id
        // The parent's own image is the one that it runs, whatever its name stands for by now, and whoever may have that.
        if let parent, parent.info.image == wanted.info.image { wanted.image = parent.image }
        if let own = request.credentials { try check(own, for: request.image ?? "base") }
        try await checkFree(wanted.info.expose.map(\.spec), except: nil, for: caller)
        try reserveRoom(wanted)
        defer { state.withLock { $0.coming -= 1 } }
        let claim = await warm.claim(for: wanted)
        let stored = claim.map(wanted.taking) ?? wanted
        let instance: Instance
        do {
            // What the caller names must be there and the caller's to use, before there is an instance. An automatic
            // workspace is named by nobody: the first start makes it.
            if stored.workspaceKind != .automatic || !stored.info.mounts.isEmpty || stored.kit != nil {
                _ = try await HostPlaces(services: services, stored: stored).open()
            }
            if stored.info.ephemeral {
                try services.store.insert(stored, synced: false)
            } else {
                let store = services.store
                try await BlockingPool.shared.run { try store.insert(stored, synced: true) }
            }
            services.audit.note(stored.info.id, ownedBy: stored.info.owner)
            try services.audit.record(.created(stored, by: caller))
            instance = try open(stored, claim)
            if let claim { warm.unmark(claim.warm.id) }
        } catch {
            if let claim { await warm.disposeAll([claim.warm]) }
            forget(stored.info.id)
            try? services.store.delete(stored.info.id, synced: false)
            if stored.workspaceKind == .automatic || stored.workspaceKind == .agent {
                try? await services.workspaces.removeAutomatic(instance: stored.info.id)
                await services.disk.remove(stored.info.id, wasLimited: stored.info.limits.disk != nil)
            }
            throw error
        }
        try await bindNew(instance)
        // The client may be gone before it attaches.
        if stored.info.ephemeral { await instance.awaitClient() }
        // Whoever makes one for later is not there when it starts.
        if starts || stored.info.ephemeral { instance.credentials.withLock { $0 = request.credentials } }
        if starts {
            do { try await instance.beginStart() } catch {
                await instance.delete()
                throw error
            }
        }
        return instance
    }

    /// Refuses credentials that are not for the registry of an image.
    ///
    /// - Throws: `invalid-argument`.
    package func check(_ own: RegistryCredentials, for image: String) throws(AegisError) {
        guard case .registry(let name) = try reference(image), name.registry == own.registry else {
            throw .usage("the credentials are for '\(own.registry)', and '\(image)' is not from there")
        }
    }

    /// Makes an instance and starts it, or starts the stopped one that has the name, with what that was made with.
    ///
    /// - Returns: the record, and whether the instance is new.
    /// - Throws: as `create`; why the start failed: nothing is left of a new instance then.
    package func createOrRestart(
        _ request: CreateInstance, kit: KitPlan? = nil, for caller: Caller
    ) async throws -> (InstanceInfo, Bool) {
        if request.start ?? true, !(request.ephemeral ?? false), let name = request.name,
            let old = try? find(name, for: caller)
        {
            if let own = request.credentials { try check(own, for: request.image ?? "base") }
            old.credentials.withLock { $0 = request.credentials }
            defer { old.credentials.withLock { $0 = nil } }
            if let info = try await old.restart(asIn: request) { return (info, false) }
            throw await old.nameInUse()
        }
        let instance = try await create(request, kit: kit, for: caller)
        guard request.start ?? true else { return (await instance.info, true) }
        do { return (try await instance.started(), true) } catch {
            // What somebody stopped meanwhile is theirs to keep.
            if (error as? AegisError)?.code != "start-cancelled" { await instance.delete() }
            throw error
        }
    }

    /// Takes the name and a place under the node's bound, in one step.
    private func reserveRoom(_ stored: StoredInstance) throws(AegisError) {
        let limit = services.defaults.maxInstances
        let result = state.withLock { state -> AegisError? in
            guard state.byID.count + state.leaving.count + state.coming < limit else {
                return AegisError(
                    .unavailable, "too-many-instances", "this node has \(state.byID.count) instances, its limit",
                    hint: "remove some with 'aegis instance prune', or raise instances.max in the configuration")
            }
            if let name = stored.info.name {
                if let taken = state.byName[name] {
                    let (own, other) = (stored.info.owner, state.byID[taken]?.owner)
                    return InstanceStore.nameInUse(name, isForeign: own != 0 && other != nil && other != own)
                }
                state.byName[name] = stored.info.id
            }
            state.coming += 1
            return nil
        }
        if let result { throw result }
    }

    private func open(_ stored: StoredInstance, _ claim: WarmClaim? = nil) throws -> Instance {
        let log = try claim?.warm.log ?? InstanceLog(path: "\(services.home)/logs/\(stored.info.id)", limits: logLimits)
        let instance = Instance(
            stored, log: log, services: services, warm: claim, onLeaving: { [weak self] id in self?.hide(id) },
            onEnded: { [weak self] id in await self?.removeChildren(of: id) },
            onDeleted: { [weak self] id in self?.forget(id) })
        services.audit.note(stored.info.id, ownedBy: stored.info.owner)
        state.withLock { state in
            state.byID[stored.info.id] = instance
            if let name = stored.info.name { state.byName[name] = stored.info.id }
        }
        return instance
    }

    /// From now on nobody finds the instance, and its name is free.
    private func hide(_ id: String) {
        state.withLock { state in
            state.leaving[id] = state.byID.removeValue(forKey: id)
            for (name, owner) in state.byName where owner == id { state.byName[name] = nil }
        }
    }

    private func forget(_ id: String) {
        services.audit.note(id, ownedBy: nil)
        state.withLock { state in
            state.byID[id] = nil
            state.leaving[id] = nil
            for (name, owner) in state.byName where owner == id { state.byName[name] = nil }
        }
    }

    /// Removes the caller's instances that were stopped before a time.
    ///
    /// - Returns: their ids.
    package func prune(stoppedBefore limit: Timestamp, for caller: Caller) async -> [String] {
        var pruned: [String] = []
        for info in await list(for: caller, state: .stopped) where (info.stoppedAt ?? info.createdAt) <= limit {
            guard let instance = try? find(info.id, for: caller) else { continue }
            if await instance.deleteIfStopped() { pruned.append(info.id) }
        }
        return pruned
    }

    // MARK: After a restart of the daemon

    /// Reads every record, takes over the sandboxes that are alive and settles the others.
    package func recover() async throws {
        let logger = services.logger
        let all = try services.store.all { id, error in
            logger.error("a record cannot be read; it is left alone", ("instance", id), ("error", "\(error)"))
        }
        var opened: [Instance] = []
        for var stored in all {
            // A record of a backup may have been made on another node.
            stored.info.node = services.node
            do { opened.append(try open(stored)) } catch {
                services.logger.error(
                    "an instance cannot be opened", ("instance", stored.info.id), ("error", "\(error)"))
            }
        }
        // Before anything is started: addresses that are in use must be nobody else's.
        for instance in opened { await instance.recallNetwork() }
        await withDiscardingTaskGroup { group in
            for instance in opened where instance.parent == nil { group.addTask { await instance.recover() } }
        }
        // After their parents, from whom they have their rights; the list is in the order in which they were made.
        for child in opened where child.parent != nil {
            await child.recover()
            if let parent = child.parent, await (try? instance(parent))?.isUp != true { await child.delete() }
        }
    }
}
