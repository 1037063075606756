internal import AegisCore
internal import AegisFiles
internal import AegisSandboxTypes
internal import LinuxSys

/// The folders and files of the host that an instance sees, opened with the rights of its owner (decision D15).
struct HostPlaces {
    /// One of them.
    struct Place {
        var target: String
        var opened: OpenedPath
        var readOnly: Bool
        /// Whom the files belong to on the host; nil for what Aegis itself keeps.
        var owner: (user: UInt32, group: UInt32)?
    }

    let services: InstanceServices
    let stored: StoredInstance

    /// Opens the workspace and every mount; a workspace of Aegis's is made when it is not there.
    ///
    /// - Throws: `path-not-found`, `not-a-directory`, `path-denied`, `path-refused`, `workspace-denied`.
    func open() async throws -> [Place] {
        var places = [try await workspace()]
        for mount in stored.info.mounts {
            let opened = try await open(
                mount.source, UserView.Purpose("mount source", needsDirectory: false, writes: !mount.readOnly))
            places.append(
                Place(target: mount.target, opened: opened, readOnly: mount.readOnly, owner: owner(of: opened)))
        }
        return places
    }

    private func workspace() async throws -> Place {
        let name = stored.workspaceSource
        switch stored.workspaceKind {
        case .automatic:
            let opened = try await services.workspaces.openAutomatic(instance: stored.info.id, owner: stored.info.owner)
                .0
            return Place(target: "/workspace", opened: opened, readOnly: false)
        case .named:
            let opened = try await services.workspaces.open(named: name, owner: stored.info.owner).0
            return Place(target: "/workspace", opened: opened, readOnly: false)
        case .host:
            let opened = try await open(name, UserView.Purpose("workspace", needsDirectory: true, writes: true))
            return Place(target: "/workspace", opened: opened, readOnly: false, owner: owner(of: opened))
        }
    }

    private func open(_ path: String, _ purpose: UserView.Purpose) async throws -> OpenedPath {
        try await services.opener.open(
            path, for: purpose, as: PathCaller(user: stored.info.owner, group: stored.ownerGroup))
    }

    /// A folder is mapped to its owner for root; for anybody else to that caller, never to a uid that the caller is not.
    private func owner(of opened: OpenedPath) -> (user: UInt32, group: UInt32) {
        stored.info.owner == 0
            ? (opened.status.user, opened.status.group) : (stored.info.owner, stored.ownerGroup)
    }
}
