package import AegisCore
internal import AegisFiles
internal import AegisIO
package import AegisImages
package import AegisInstances
package import AegisSandboxTypes
internal import LinuxSys
internal import Synchronization

/// The kits of a node, and instances made from them.
///
/// A kit only says what an instance shall be: it becomes a request as a user could write it, and a plan of what the
/// instance does at its starts. Nothing of it runs on the host.
package final class Kits: Sendable {
    private let store: KitStore
    private let directory: InstanceDirectory
    private let source: KitImport
    private struct State {
        /// Kits of instances that are being made: they are in use before there is an instance.
        var making: [String: Int] = [:]
        /// Kits that are being removed.
        var leaving: Set<String> = []
    }
    private let state = Mutex(State())

    /// Opens the kits of a home. Blocks on the disk.
    ///
    /// - Parameters:
    ///   - home: `AEGIS_HOME`.
    ///   - directory: makes the instances.
    ///   - inflater: unpacks archives.
    /// - Throws: `kits-unusable`.
    package init(home: String, directory: InstanceDirectory, inflater: Inflater) throws(AegisError) {
        store = try KitStore(home: home)
        self.directory = directory
        source = KitImport(inflater: inflater)
    }

    // MARK: Kits

    /// Installs a kit from a folder or archive that the caller may read.
    ///
    /// - Returns: the kit, and whether it was not there before.
    /// - Throws: what is wrong with it; `kit-exists`.
    package func install(_ path: String, for caller: Caller) async throws -> (KitInfo, isNew: Bool) {
        let opened = try await directory.open(path, as: "kit", for: caller)
        let store = store
        let staging = try await BlockingPool.shared.run { try store.staging() }
        do {
            let identity =
                caller.uid == CurrentProcess.effectiveUser ? nil : FileIdentity(user: caller.uid, group: caller.gid)
            try await source.fill(store.files(in: staging), from: opened, as: identity)
            let (kit, isNew) = try await BlockingPool.shared.run { try store.place(staging) }
            return (await info(kit, whole: true, for: caller), isNew)
        } catch {
            _ = try? await BlockingPool.shared.run { store.discard(staging) }
            throw error
        }
    }

    /// Every version of every kit.
    package func list(for caller: Caller) async throws -> [KitInfo] {
        let store = store
        var infos: [KitInfo] = []
        for kit in try await BlockingPool.shared.run({ try store.all() }) {
            infos.append(await info(kit, whole: false, for: caller))
        }
        return infos
    }

    /// A kit with all that it says; its files are compared with what was installed.
    ///
    /// - Throws: `kit-not-found`.
    package func show(_ reference: String, for caller: Caller) async throws -> KitInfo {
        var kit = try await find(reference)
        let store = store
        let found = kit
        do { try await BlockingPool.shared.run { try store.verify(found) } } catch let error as AegisError {
            kit.manifest = .failure(error)
        }
        return await info(kit, whole: true, for: caller)
    }

    /// Removes a version that no instance uses.
    ///
    /// - Returns: what it was.
    /// - Throws: `kit-not-found`, `kit-in-use` naming the instances, `invalid-argument` where it has several versions.
    package func uninstall(_ reference: String, for caller: Caller) async throws -> KitInfo {
        let wanted = try KitReference(parsing: reference)
        let store = store
        let kit = try await find(reference)
        if wanted.version == nil {
            let versions = try await BlockingPool.shared.run { try store.all() }.filter { $0.name == wanted.name }
            guard versions.count == 1 else {
                throw AegisError.usage(
                    "kit '\(wanted.name)' is installed in \(versions.count) versions",
                    hint: "name one: \(versions.map(\.reference).joined(separator: ", "))")
            }
        }
        let isMade = state.withLock { state in
            if state.making[kit.reference] == nil { state.leaving.insert(kit.reference) }
            return state.making[kit.reference] != nil
        }
        defer { if !isMade { state.withLock { _ = $0.leaving.remove(kit.reference) } } }
        await directory.seeOff()
        let last = await info(kit, whole: false, for: caller)
        guard last.usedBy.isEmpty, !isMade else {
            let users = last.usedBy.isEmpty ? "an instance that is being made" : last.usedBy.joined(separator: ", ")
            throw AegisError.conflict(
                "kit-in-use", "kit \(kit.reference) is used by \(users)", hint: "delete these instances first")
        }
        try await BlockingPool.shared.run { try store.remove(kit) }
        return last
    }

    /// The MCP servers that a kit brings, and which of its secrets they can do without.
    ///
    /// - Returns: the kit as `NAME@VERSION`, its servers, and the names of optional secrets.
    /// - Throws: `kit-not-found`, `kit-broken`.
    package func servers(of reference: String) async throws -> (kit: String, servers: [KitTool], optional: Set<String>)
    {
        let kit = try await find(reference)
        let spec = try kit.manifest.get().spec
        let optional = (spec.secrets ?? []).filter(\.optional).map(\.name)
        return (kit.reference, spec.tools ?? [], Set(optional))
    }

    private func find(_ text: String) async throws -> KitStore.Installed {
        let reference = try KitReference(parsing: text)
        let store = store
        return try await BlockingPool.shared.run { try store.find(reference) }
    }

    private func info(_ kit: KitStore.Installed, whole: Bool, for caller: Caller) async -> KitInfo {
        var info = KitInfo(
            name: kit.name, version: kit.version.description, digest: kit.record.digest, size: kit.record.size,
            installedAt: kit.record.installedAt)
        switch kit.manifest {
        case .success(let manifest):
            info.description = manifest.description
            if whole { info.spec = manifest.spec }
        case .failure(let error):
            info.status = "broken"
            info.problem = error.message
        }
        info.usedBy = await directory.kitsInUse(for: caller).filter { $0.kit == kit.reference }.map(\.instance)
        return info
    }

    // MARK: Instances

    /// Makes an instance as `InstanceDirectory.createOrRestart` does, with what its kit says.
    ///
    /// - Returns: the record, and whether the instance is new.
    /// - Throws: `kit-not-found`, `kit-broken`, `kit-secret-missing`, and what the directory throws.
    package func createOrRestart(_ request: CreateInstance, for caller: Caller) async throws -> (InstanceInfo, Bool) {
        guard let wanted = request.kit else { return try await directory.createOrRestart(request, for: caller) }
        let kit = try await find(wanted)
        let reference = kit.reference
        let isLeaving = state.withLock { state in
            state.making[reference, default: 0] += 1
            return state.leaving.contains(reference)
        }
        defer {
            state.withLock { state in
                let left = (state.making[reference] ?? 1) - 1
                state.making[reference] = left == 0 ? nil : left
            }
        }
        guard !isLeaving else { throw AegisError.notFound("kit-not-found", "kit \(reference) is being removed") }
        // It may have gone while nobody held it.
        let manifest = try await find(reference).manifest.get()
        let merged = try KitRequest(kit: manifest.spec, reference: reference)
            .merged(into: request, secrets: try directory.secretNames())
        var plan = KitPlan(reference: reference, root: kit.root, spec: manifest.spec)
        let taken = Set((request.mounts ?? []).map(\.target))
        plan.files.removeAll { taken.contains($0.to) }
        return try await directory.createOrRestart(merged, kit: plan, for: caller)
    }
}
