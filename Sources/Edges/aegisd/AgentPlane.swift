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
internal import AegisMCP
internal import AegisMemory
internal import AegisSecrets
internal import AegisSkills
internal import AegisStore
internal import AegisTools
internal import AegisWire
internal import LinuxSys

/// The agent plane: agents, their tools and models, and its door `agentd.sock`.
///
/// It has an event loop of its own, for sessions are written on it; and another one for the door, so that people do not wait for
/// what a hundred busy agents are about to do.
struct AgentPlane: Sendable {
    let directory: AgentDirectory
    let goals: GoalQueue
    let service: AgentService
    let events: LedgerEvents
    private let approvals: ApprovalQueue
    private let faces: AgentFaces
    /// The routes beside those of `service`.
    var routes: [Route] { faces.routes }
    let mcp: MCPPlane
    let kitServers: KitServers
    private let loop: EventLoop
    private let scope: TaskScope
    private let door: Door
    private let listener: Listener
    private let server: JSONRPCServer

    /// Where those who come through `agentd.sock` are served.
    private struct Door {
        let loop: EventLoop
        let scope: TaskScope

        init() throws {
            loop = try EventLoop.startThread(name: "agentd.sock")
            scope = TaskScope(on: loop)
        }
    }

    /// The tables of this floor.
    static let migrations =
        SessionStore.migrations + ManifestStore.migrations + GoalStore.migrations + [BudgetBook.migration]
        + [MemoryStore.migration, SkillTrust.migration] + GrantStore.migrations + ApprovalQueue.migrations
        + SessionStore.mailMigrations + MCPStore.migrations + SessionStore.indexMigrations
        + SessionStore.placeMigrations + ApprovalQueue.parentMigrations + [BudgetBook.grantMigration]
        + MCPStore.agreementMigrations

    init(settings: DaemonSettings, home: DaemonHome, services: DaemonServices, logger: Logger) async throws {
        (loop, door) = (try EventLoop.startThread(name: "agents"), try Door())
        scope = TaskScope(on: loop)
        let (database, ledger) = (services.database, services.audit.ledger)
        let desk = try InferenceDesk(settings, database: database, grants: services.grants, ledger: ledger, loop: loop)
        approvals = ApprovalQueue(database, audit: ledger, settings: settings.agents.approvals, clock: loop.clock)
        let http = try HTTPClient(on: loop, authorities: settings.tls.authorities)
        let registry = try ToolRegistry(
            [EchoTool()] + FileTools.all + (try WebTools(http, search: settings.webSearch, on: loop).all))
        mcp = try MCPServers.make(settings, registry, services, scope: scope, loop: loop, logger: logger)
        let folders = AgentFolders(
            home: home.path, runDirectory: home.runDirectory, records: services.records.folder,
            instances: services.directory)
        let memory = try settings.memory.makeStore(database, settings.providers, desk.service)
        kitServers = MCPServers.inSandboxes(settings, services, scope: scope, loop: loop, logger: logger)
        let sandboxes = kitServers
        var agents = AgentServices(
            store: SessionStore(database), models: desk, registry: registry,
            tools: Self.gate(registry, services.secrets, on: loop), grants: services.grants, audit: ledger,
            desk: approvals, files: { await folders.scope(of: $0) }, sandboxes: sandboxes, late: mcp,
            gone: { [approvals] in await Self.clear($0, folders, sandboxes, approvals, memory) },
            forgotten: { folders.clear(tree: $0) }, scope: scope, now: { Timestamp.now() }, clock: loop.clock,
            logger: logger)
        agents.iterations = settings.agents.maxIterations
        let skills = AgentSkills(settings.agents.skillsDirs, home: home.path, database: database, folders: folders)
        directory = AgentDirectory(agents, limits: settings.agents.limits, preamble: { skills.preamble($0, $1) })
        let memories = MemoryDesk(memory, directory: directory, bootstrapID: settings.agents.bootstrapID)
        let own = AgentFaces.tools(directory, memory: memories, skills: skills)
        for tool in Self.tools(of: directory) + own { try registry.register(tool) }
        let (manifests, bootstrap) = (ManifestStore(database), Bootstrap(settings.agents))
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
            budgets: desk.service.budgets, shipped: bootstrap.shipped,
            folder: { [instances = services.directory] in
                try await instances.open($0, as: "workspace", isFolder: true, for: $1)
            }, read: AgentFaces.manifests(services.directory))
        faces = AgentFaces(
            service, skills: skills, memory: memories, bootstrap: bootstrap, audit: services.audit.service,
            instances: services.directory, logger: logger)
        events = LedgerEvents(
            services.audit.service, agents: directory, store: agents.store, instances: services.directory,
            clock: loop.clock)
        let methods =
            AgentMethods(service).methods + MCPRoutes(mcp, more: sandboxes.report).methods
            + EventMethods(events, agents: service).methods
        server = JSONRPCServer(methods: methods + faces.methods, clock: door.loop.clock)
        try? Files.removeFile(home.agentSocket)
        listener = try Listener.unix(path: home.agentSocket, mode: 0o600, on: door.loop)
        try home.share(home.agentSocket)
    }

    private static func gate(_ registry: ToolRegistry, _ secrets: SecretStore, on loop: EventLoop) -> ToolGate {
        ToolGate(registry, clock: loop.clock, mask: { secrets.masked($0, wanted: $1) })
    }

    /// Clears away what an agent that is gone has had.
    private static func clear(
        _ record: AgentRecord, _ folders: AgentFolders, _ sandboxes: KitServers, _ approvals: ApprovalQueue,
        _ memory: MemoryStore
    ) async {
        folders.clear(record)
        if record.parent == nil { sandboxes.forget(tree: record.tree) }
        // Whoever waits for an answer on its behalf waits for nothing.
        _ = try? await BlockingPool.shared.run { try approvals.stop(agent: record.id) }
        // What it had for itself and did not ask to keep; the next start forgets what cannot be forgotten now.
        try? await MemoryDesk.forget(record, in: memory)
    }

    /// The tools that have to do with agents themselves.
    private static func tools(of directory: AgentDirectory) -> [any Tool] {
        [
            SpawnAgentTool(directory), SpawnAgentsTool(directory), ExecTool(directory), AgentSendTool(directory),
            AgentAskTool(directory),
        ]
    }

    /// Brings back what the last daemon had, and opens the door.
    func start() async throws {
        mcp.start()
        try approvals.recover()
        try await directory.recover(resuming: false)
        try await faces.prepare()
        try await goals.recover()
        await directory.resume()
        scope.spawn("archives") { [service] in await service.archives.run() }
        door.scope.spawn("agentd.sock") { [listener, server, scope = door.scope] in
            while let stream = try? await listener.accept() {
                scope.spawn("agentd connection") { await server.serve(stream) }
            }
        }
    }

    /// Interrupts agents where they are; the next daemon goes on from their steps.
    func end() async {
        approvals.leave()
        await directory.end()
        await kitServers.end()
        await mcp.end()
        listener.close()
        await door.scope.end()
        await scope.end()
        door.loop.stop()
        loop.stop()
    }
}
