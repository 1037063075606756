internal import AegisAgents
internal import AegisFiles
internal import AegisInstances
internal import LinuxSys
internal import Synchronization

/// The folders of agents' workspaces: one for each tree, which Aegis keeps, or a folder of the owner's.
final class AgentFolders: Sendable {
    private let home: String
    private let runDirectory: String
    /// The folder of a database that is not in the home.
    private let records: String?
    private let instances: InstanceDirectory
    /// Folders of owners, by the trees that work in them: opening one may take a process.
    private let opened = Mutex<[String: OpenedPath]>([:])
    private static let keptOpen = 128

    init(home: String, runDirectory: String, records: String?, instances: InstanceDirectory) {
        self.home = home
        self.runDirectory = runDirectory
        self.records = records
        self.instances = instances
    }

    /// What an agent has of files; nil when its workspace cannot be made or opened, and then there are none.
    func scope(of record: AgentRecord) async -> FileScope? {
        // At the host it has its owner's rights, and not the daemon's (decision D15).
        let isOwn = record.owner == 0 || record.owner == CurrentProcess.effectiveUser
        let identity = isOwn ? nil : FileIdentity(user: record.owner, group: record.group)
        guard let workspace = await workspace(record) else { return nil }
        var scope = FileScope(
            workspace: workspace, identity: identity, home: home, runDirectory: runDirectory, records: records)
        if record.workspace != nil { scope.workspaceIdentity = identity }
        return scope
    }

    private func workspace(_ record: AgentRecord) async -> OpenedPath? {
        guard let folder = record.workspace else {
            let path = "\(home)/agents/\(record.tree)"
            do {
                try Files.makeDirectories("\(path)/workspace", mode: 0o700)
                return try OpenedPath(own: "workspace", beneath: path)
            } catch { return nil }
        }
        if let known = opened.withLock({ $0[record.tree] }) { return known }
        let caller = Caller(uid: record.owner, gid: record.group)
        guard let path = try? await instances.open(folder, as: "workspace", isFolder: true, for: caller) else {
            return nil
        }
        // A few are kept: whoever looks into a goal that is over opens it once more.
        opened.withLock { known in
            if known.count >= Self.keptOpen { known.removeAll() }
            known[record.tree] = path
        }
        return path
    }

    /// The workspace in which an agent's skills may lie, whether it is there already or not. Skills are read with the daemon's rights:
    /// a folder of another user's has none.
    func skillPlace(of record: AgentRecord) -> String? {
        guard let folder = record.workspace else { return "\(home)/agents/\(record.tree)/workspace" }
        return record.owner == 0 || record.owner == CurrentProcess.effectiveUser ? folder : nil
    }

    /// Removes the workspace of a tree that is gone. Those of goals stay as long as the goal is known.
    func clear(_ record: AgentRecord) {
        guard record.parent == nil else { return }
        opened.withLock { _ = $0.removeValue(forKey: record.tree) }
        guard record.goal == nil else { return }
        clear(tree: record.tree)
    }

    /// Removes the workspace of a tree; a folder of the owner's stays.
    func clear(tree: String) {
        opened.withLock { _ = $0.removeValue(forKey: tree) }
        try? Files.removeTree("\(home)/agents/\(tree)")
    }
}
