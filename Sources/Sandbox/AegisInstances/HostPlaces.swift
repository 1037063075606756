internal import AegisBackends
internal import AegisCore
internal import AegisFiles
internal import AegisIO
internal import AegisSandboxTypes
internal import LinuxSys

/// Where things of an instance lie.
enum InstancePlaces {
    /// Its writable layer, unless that has a limit.
    static func writable(_ id: String, home: String) -> String { "\(home)/instances/\(id)" }
}

/// The folders and files of the host that an instance sees, opened with the rights of its owner (decision D15).
struct HostPlaces {
    /// One of them.
    struct Place {
        var target: String
        var opened: OpenedPath
        var readOnly: Bool
        /// Whom the files belong to on the host; nil for what Aegis itself keeps.
        var owner: (user: UInt32, group: UInt32)?
        /// Whom inside a workspace of Aegis's was given to; nil before the first start.
        var givenTo: FileIdentity?
    }

    let services: InstanceServices
    let stored: StoredInstance

    /// Opens the workspace and every mount; a workspace of Aegis's is made when it is not there.
    ///
    /// - Parameter user: whom inside a new workspace is given to, once that is known.
    /// - Returns: the workspace, then the mounts in their order.
    /// - Throws: `path-not-found`, `not-a-directory`, `path-denied`, `path-refused`, `workspace-denied`.
    func open(givingTo user: FileIdentity? = nil) async throws -> [Place] {
        var places = [try await workspace(givingTo: user)]
        if let agent = stored.agent { places += try await parts(agent, beneath: places[0]) }
        for mount in stored.info.mounts {
            let opened = try await open(
                mount.source, UserView.Purpose("mount source", needsDirectory: false, writes: !mount.readOnly))
            try checkGranted(mount, opened)
            places.append(
                Place(
                    target: mount.target, opened: opened, readOnly: mount.readOnly,
                    owner: try await owner(of: opened, writes: !mount.readOnly, "mount source")))
        }
        for file in stored.kit?.files ?? [] {
            let opened = try await kitPath(file.from)
            places.append(Place(target: file.to, opened: opened, readOnly: true))
        }
        return places
    }

    /// A file or folder of the kit that the instance was made with.
    ///
    /// - Throws: `kit-files-missing`.
    func kitPath(_ path: String) async throws -> OpenedPath {
        guard let kit = stored.kit else { throw AegisError.failed("internal", "there is no kit") }
        let root = "\(services.home)/\(kit.root)"
        do { return try await BlockingPool.shared.run { try OpenedPath(own: path, beneath: root) } } catch {
            throw AegisError.failed(
                "kit-files-missing", "'\(path)' of kit \(kit.reference) cannot be opened: \(error)",
                hint: "uninstalling a kit is refused while it is used: install that version again")
        }
    }

    private func workspace(givingTo user: FileIdentity?) async throws -> Place {
        let name = stored.workspaceSource
        switch stored.workspaceKind {
        case .automatic:
            let (opened, info) = try await automatic(givingTo: user)
            return Place(target: "/workspace", opened: opened, readOnly: false, givenTo: info.givenTo)
        case .named:
            let (opened, info) = try await services.workspaces.open(
                named: name, owner: stored.info.owner, givingTo: user)
            return Place(target: "/workspace", opened: opened, readOnly: false, givenTo: info.givenTo)
        case .agent: return try await agentWorkspace(givingTo: user)
        case .host:
            let opened = try await open(name, UserView.Purpose("workspace", needsDirectory: true, writes: true))
            return Place(
                target: "/workspace", opened: opened, readOnly: false,
                owner: try await owner(of: opened, writes: true, "workspace"))
        }
    }

    /// The instance's own workspace lies beside its writable layer where that has a limit, so that the limit counts both.
    func automatic(givingTo user: FileIdentity?) async throws -> (OpenedPath, WorkspaceInfo) {
        let (id, owner, limit) = (stored.info.id, stored.info.owner, stored.info.limits.disk)
        // One that an earlier release has put into the store stays there.
        guard limit != nil || services.disk.isLimited(id), try await !services.workspaces.hasAutomatic(instance: id)
        else {
            return try await services.workspaces.openAutomatic(instance: id, owner: owner, givingTo: user)
        }
        let folder = InstancePlaces.writable(id, home: services.home)
        return try await services.workspaces.openAutomatic(
            instance: id, owner: owner, givingTo: user,
            at: services.disk.workspace(for: id, folder: folder, limit: limit))
    }

    func open(_ path: String, _ purpose: UserView.Purpose) async throws -> OpenedPath {
        try await services.opener.open(
            path, for: purpose, as: PathCaller(user: stored.info.owner, group: stored.ownerGroup))
    }

    /// A folder is mapped to its owner for root; for anybody else to that caller, never to an id that the caller is not.
    ///
    /// - Throws: `path-denied` for a caller that is not root and wants to write in what belongs to others: the kernel lets
    ///   nobody inside write where the owner has no id inside.
    func owner(
        of opened: OpenedPath, writes: Bool, _ what: String
    ) async throws -> (user: UInt32, group: UInt32) {
        let (user, group) = (opened.status.user, opened.status.group)
        guard stored.info.owner != 0 else { return (user, group) }
        let (caller, own) = (stored.info.owner, stored.ownerGroup)
        // A folder of a group that the caller is in keeps that group.
        var isMember = group == own
        if !isMember {
            isMember = try await BlockingPool.shared.run {
                (try? CurrentProcess.groups(ofUser: caller, group: own))?.contains(group) ?? false
            }
        }
        guard !writes || (user == caller && isMember) else {
            throw AegisError(
                .denied, "path-denied",
                "\(what) '\(opened.realPath)' belongs to uid \(user), gid \(group): a sandbox of uid \(caller) cannot write there",
                hint: "take a folder of your own and of a group that you are in, or mount it read-only")
        }
        return (caller, isMember ? group : own)
    }
}
