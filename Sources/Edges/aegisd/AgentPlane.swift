internal import AegisAPI
internal import AegisAgents
internal import AegisAudit
internal import AegisCapabilities
internal import AegisConfig
internal import AegisCore
internal import AegisFiles
internal import AegisHTTPClient
internal import AegisIO
internal import AegisInference
internal import AegisInstances
internal import AegisMemory
internal import AegisSkills
internal import AegisStore
internal import AegisTools
internal import AegisWire
internal import LinuxSys

/// The agent plane: agents, their tools and models, and its door `agentd.sock`.
///
/// It has an event loop of its own, for sessions are written on it.
struct AgentPlane: Sendable {
    let directory: AgentDirectory
    let goals: GoalQueue
    let service: AgentService
    private let faces: AgentFaces
    /// The routes beside those of `service`.
    var routes: [Route] { faces.routes }
    private let loop: EventLoop
    private let scope: TaskScope
    private let listener: Listener
    private let server: JSONRPCServer

    /// The tables of this floor.
    static let migrations =
        SessionStore.migrations + ManifestStore.migrations + GoalStore.migrations + [BudgetBook.migration]
        + [MemoryStore.migration, SkillTrust.migration] + GrantStore.migrations + ApprovalQueue.migrations
        + SessionStore.mailMigrations

    init(settings: DaemonSettings, home: DaemonHome, services: DaemonServices, logger: Logger) async throws {
        loop = try EventLoop.startThread(name: "agents")
        scope = TaskScope(on: loop)
        let (database, ledger) = (services.database, services.audit.ledger)
        let (providers, selection) = (settings.providers, settings.selection)
        let desk = try InferenceDesk(providers, selection, database: database, ledger: ledger, loop: loop)
        let approvals = ApprovalQueue(database, audit: ledger, clock: loop.clock)
        let http = try HTTPClient(on: loop)
        let registry = try ToolRegistry(
            [EchoTool()] + FileTools.all + (try WebTools(http, search: settings.webSearch, on: loop).all))
        let folders = AgentFolders(home: home.path, runDirectory: home.runDirectory)
        let memory = try settings.memory.makeStore(database, providers, http)
        let agents = AgentServices(
            store: SessionStore(database), models: desk, registry: registry,
            tools: ToolGate(registry, clock: loop.clock), grants: services.grants, audit: ledger, desk: approvals,
            files: { folders.scope(of: $0) },
            gone: { record in
                folders.clear(record)
                // Whoever waits for an answer on its behalf waits for nothing.
                _ = try? await BlockingPool.shared.run { try approvals.stop(agent: record.id) }
                // What it had for itself and did not ask to keep; the next start forgets what cannot be forgotten now.
                try? await MemoryDesk.forget(record, in: memory)
            }, forgotten: { folders.clear(tree: $0) }, scope: scope, now: { Timestamp.now() }, clock: loop.clock,
            logger: logger)
        let skills = AgentSkills(settings.agents.skillsDirs, home: home.path, database: database, folders: folders)
        directory = AgentDirectory(
            agents, limits: AgentLimits(settings.agents), preamble: { skills.preamble($0, $1) })
        let memories = MemoryDesk(memory, directory: directory)
        let own = AgentFaces.tools(directory, memory: memories, skills: skills)
        let talk: [any Tool] = [AgentSendTool(directory), AgentAskTool(directory)]
        for tool in [SpawnAgentTool(directory) as any Tool, SpawnAgentsTool(directory)] + talk + own {
            try registry.register(tool)
        }
        let manifests = ManifestStore(database)
        let bootstrap = Bootstrap(settings.agents)
        goals = GoalQueue(
            directory, store: GoalStore(database), services: agents, limit: settings.agents.maxGoals
        ) { name, owner throws(AegisError) in
            if let name {
                // Its prompt is the text that its file had when it was deployed.
                let entry = try manifests.find(name, owner: owner)
                return (ConfigFile(name: name, bytes: Array(entry.text.utf8)), { _ in entry.prompt })
            }
            return try bootstrap.manifest()
        }
        service = AgentService(
            directory, goals: goals, manifests: manifests, approvals: approvals, services: agents,
            read: AgentFaces.manifests(services.directory))
        faces = AgentFaces(
            service, skills: skills, memory: memories, bootstrap: bootstrap, audit: services.audit.service,
            instances: services.directory, logger: logger)
        server = JSONRPCServer(methods: AgentMethods(service).methods + faces.methods, clock: loop.clock)
        try? Files.removeFile(home.agentSocket)
        listener = try Listener.unix(path: home.agentSocket, mode: 0o600, on: loop)
        try home.share(home.agentSocket)
    }

    /// Brings back what the last daemon had, and opens the door.
    func start() async throws {
        try await directory.recover(resuming: false)
        try await faces.prepare()
        try await goals.recover()
        await directory.resume()
        scope.spawn("archives") { [service] in await service.archives.run() }
        scope.spawn("agentd.sock") { [listener, server, scope] in
            while let stream = try? await listener.accept() {
                scope.spawn("agentd connection") { await server.serve(stream) }
            }
        }
    }

    /// Interrupts agents where they are; the next daemon goes on from their steps.
    func end() async {
        await directory.end()
        listener.close()
        await scope.end()
        loop.stop()
    }
}

/// The folders of agents' workspaces: one for each tree.
struct AgentFolders: Sendable {
    let home: String
    let runDirectory: String

    private func folder(_ record: AgentRecord) -> String { "\(home)/agents/\(record.tree)" }

    /// Where an agent's workspace is, whether it is there already or not.
    func workspace(_ record: AgentRecord) -> String { "\(folder(record))/workspace" }

    /// What an agent has of files; nil when its workspace cannot be made, and then there are none.
    func scope(of record: AgentRecord) -> FileScope? {
        let path = folder(record)
        do {
            try Files.makeDirectories("\(path)/workspace", mode: 0o700)
            let workspace = try OpenedPath(own: "workspace", beneath: path)
            // At the host it has its owner's rights, and not the daemon's (decision D15).
            let isOwn = record.owner == 0 || record.owner == CurrentProcess.effectiveUser
            let identity = isOwn ? nil : FileIdentity(user: record.owner, group: record.group)
            return FileScope(workspace: workspace, identity: identity, home: home, runDirectory: runDirectory)
        } catch { return nil }
    }

    /// Removes the workspace of a tree that is gone. Those of goals stay as long as the goal is known.
    func clear(_ record: AgentRecord) {
        guard record.parent == nil, record.goal == nil else { return }
        clear(tree: record.tree)
    }

    /// Removes the workspace of a tree.
    func clear(tree: String) { try? Files.removeTree("\(home)/agents/\(tree)") }
}
