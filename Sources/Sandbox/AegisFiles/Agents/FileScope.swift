package import LinuxSys

/// Which files there are for an agent, before any grant is asked: its workspace, and the host.
///
/// `/workspace/...` is the workspace; any other absolute path is the host's.
package struct FileScope: Sendable {
    /// The folder that is `/workspace`; nil where the agent has none.
    package var workspace: OpenedPath?
    /// Whom new files in the workspace belong to; nil is this process.
    package var owner: FileIdentity?
    /// Whose rights count at the host, and whom new files there belong to; nil is this process.
    package var identity: FileIdentity?
    /// Whose rights count in the workspace; nil is this process: a workspace that Aegis keeps is nobody else's.
    package var workspaceIdentity: FileIdentity?
    /// What no grant reaches, by identity as well as by name (decision D31).
    let guarded: GuardedPlaces

    /// What the workspace is called.
    package static let workspaceName = "/workspace"

    /// A scope.
    ///
    /// - Parameters:
    ///   - workspace: the folder that is `/workspace`.
    ///   - owner: whom new files in it belong to.
    ///   - identity: whose rights count at the host.
    ///   - home: AEGIS_HOME.
    ///   - runDirectory: Aegis's run directory.
    ///   - records: the folder of a database that is not in AEGIS_HOME.
    package init(
        workspace: OpenedPath?, owner: FileIdentity? = nil, identity: FileIdentity? = nil, home: String,
        runDirectory: String, records: String? = nil
    ) {
        self.workspace = workspace
        self.owner = owner
        self.identity = identity
        guarded = GuardedPlaces(home: home, runDirectory: runDirectory, records: records)
    }
}
