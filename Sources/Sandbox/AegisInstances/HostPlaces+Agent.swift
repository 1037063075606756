internal import AegisCore
internal import AegisFiles
internal import AegisIO
internal import AegisSandboxTypes
internal import LinuxSys

/// What the instance of an agent sees of files: the workspace of the agent's tree as far as its grants show it (decision D1).
extension HostPlaces {
    /// `/workspace`: the tree's where all of it is granted; else a folder that is empty but for what is mounted in it, and that
    /// nobody can write to, so that nothing is left where the agent's file tools do not see it.
    func agentWorkspace(givingTo user: FileIdentity?) async throws -> Place {
        guard let agent = stored.agent else { throw AegisError.failed("internal", "there is no agent") }
        if let whole = agent.parts.first(where: \.path.isEmpty) {
            return try await place(whole, try await tree(agent, writes: !whole.readOnly), agent)
        }
        let (opened, info) = try await automatic(givingTo: user)
        return Place(target: FileScope.workspaceName, opened: opened, readOnly: true, givenTo: info.givenTo)
    }

    /// The parts of the workspace that are granted beside, or instead of, all of it.
    ///
    /// - Throws: `path-not-found`, `path-denied`, and `path-refused` for one that a link leads to.
    func parts(_ agent: AgentPlaces, beneath workspace: Place) async throws -> [Place] {
        var places: [Place] = []
        for part in agent.parts where !part.path.isEmpty {
            let root = try await tree(agent, writes: !part.readOnly)
            let opened = try await BlockingPool.shared.run {
                // What is not there yet is made: as the agent's file tools would, and only where it may write. A folder of a
                // user's is the user's.
                if !part.readOnly, agent.folder == nil { try Self.makeFolders(part.path, in: root) }
                return try Self.open(part.path, in: root)
            }
            // The place to mount it on. Where the tree's workspace lies beneath it is there by now.
            if agent.parts.first?.path.isEmpty != true {
                let top = workspace.opened
                try await BlockingPool.shared.run { try Self.makeFolders(part.path, in: top) }
            }
            places.append(try await place(part, opened, agent))
        }
        return places
    }

    /// A mount that was derived from a grant must be where the grant says: a link could have been put there by somebody who
    /// may write in the folder, to be shown what was never granted.
    ///
    /// - Throws: `path-refused`.
    func checkGranted(_ mount: MountSpec, _ opened: OpenedPath) throws(AegisError) {
        guard stored.agent != nil, opened.realPath != mount.source else { return }
        throw AegisError(
            .denied, "path-refused",
            "'\(mount.source)' is a link to '\(opened.realPath)', which the grant does not name",
            hint: "grant the folder itself")
    }

    private func place(_ part: AgentPlaces.Part, _ opened: OpenedPath, _ agent: AgentPlaces) async throws -> Place {
        let owner =
            agent.folder == nil
            ? (opened.status.user, opened.status.group)
            : try await owner(of: opened, writes: !part.readOnly, "workspace")
        let target = part.path.isEmpty ? FileScope.workspaceName : "\(FileScope.workspaceName)/\(part.path)"
        return Place(target: target, opened: opened, readOnly: part.readOnly, owner: owner)
    }

    /// The workspace of the agent's tree.
    private func tree(_ agent: AgentPlaces, writes: Bool) async throws -> OpenedPath {
        if let folder = agent.folder {
            return try await open(folder, UserView.Purpose("workspace", needsDirectory: true, writes: writes))
        }
        let home = "\(services.home)/agents/\(agent.tree)"
        return try await BlockingPool.shared.run {
            do throws(Errno) { return try OpenedPath(own: "workspace", beneath: home) } catch {
                throw AegisError.failed(
                    "workspaces-unusable", "the workspace of \(agent.tree) cannot be opened: \(error)")
            }
        }
    }

    /// Opens a folder of a workspace; no link is followed, and nothing leads out of it.
    private static func open(_ path: String, in root: OpenedPath) throws(AegisError) -> OpenedPath {
        do throws(Errno) { return try OpenedPath(folder: path, in: root) } catch {
            let name = "'\(FileScope.workspaceName)/\(path)'"
            switch error {
            case .noSuchFile:
                throw .notFound(
                    "path-not-found", "\(name) is granted to be read, and is not there", hint: "make it first")
            case .notDirectory, .tooManyLinks, .crossDevice:
                throw AegisError(
                    .denied, "path-refused", "\(name) is a link or no folder, and is not shown to programs")
            default: throw .failed("path-unusable", "\(name) cannot be opened: \(error)")
            }
        }
    }

    private static func makeFolders(_ path: String, in root: OpenedPath) throws(AegisError) {
        var done = ""
        for name in path.split(separator: "/") {
            done += done.isEmpty ? String(name) : "/\(name)"
            let (parent, last) = Files.split("/" + done)
            do throws(Errno) {
                let folder = try OpenedPath(folder: parent == "/" ? "." : String(parent.dropFirst()), in: root)
                try folder.openForUse().makeDirectory(last, mode: 0o755)
            } catch {
                guard error == .fileExists else {
                    throw .failed("path-unusable", "'\(FileScope.workspaceName)/\(path)' cannot be made: \(error)")
                }
            }
        }
    }
}
