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
    let events: LedgerEvents
    private let loop: EventLoop
    private let scope: TaskScope
    private let listener: Listener
    private let server: JSONRPCServer

    /// The tables of this floor.
    static let migrations =
        SessionStore.migrations + ManifestStore.migrations + GoalStore.migrations + [BudgetBook.migration]
        + [MemoryStore.migration] + GrantStore.migrations + ApprovalQueue.migrations + SessionStore.mailMigrations

    init(settings: DaemonSettings, home: DaemonHome, services: DaemonServices, logger: Logger) async throws {
        loop = try EventLoop.startThread(name: "agents")
        scope = TaskScope(on: loop)
        let (database, ledger) = (services.database, services.audit.ledger)
        let desk = try InferenceDesk(
            settings.providers, settings.selection, database: database, ledger: ledger, loop: loop)
        let approvals = ApprovalQueue(database, audit: ledger, clock: loop.clock)
        let registry = try ToolRegistry(
            [EchoTool(), WebFetchTool(HTTPWebTransport(try HTTPClient(on: loop)))] + FileTools.all)
        let folders = AgentFolders(home: home.path, runDirectory: home.runDirectory)
        let agents = AgentServices(
            store: SessionStore(database), models: desk, registry: registry,
            tools: ToolGate(registry, clock: loop.clock), grants: services.grants, audit: ledger, desk: approvals,
            files: { folders.scope(of: $0) },
            gone: { record in
                folders.clear(record)
                // Whoever waits for an answer on its behalf waits for nothing.
                _ = try? await BlockingPool.shared.run { try approvals.stop(agent: record.id) }
            }, forgotten: { folders.clear(tree: $0) }, scope: scope, now: { Timestamp.now() }, clock: loop.clock,
            logger: logger)
        var limits = AgentLimits()
        limits.live = settings.agents.maxLive
        limits.depth = settings.agents.maxDepth
        limits.batch = settings.agents.batchCap
        let skills = AgentSkills(settings.agents.skillsDirs, home: home.path)
        directory = AgentDirectory(agents, limits: limits, preamble: { skills.preamble($0) })
        let talk: [any Tool] = [AgentSendTool(directory), AgentAskTool(directory)]
        for tool in [SpawnAgentTool(directory) as any Tool, SpawnAgentsTool(directory)] + talk {
            try registry.register(tool)
        }
        let memory = MemoryStore(database: database)
        let memoryTools = MemoryTools(memory) { context in context.identity }
        for tool in memoryTools.all { try registry.register(tool) }
        try registry.register(SkillReadTool { _ in skills.library })
        let manifests = ManifestStore(database)
        let bootstrap = settings.agents.bootstrapManifest
        goals = GoalQueue(
            directory, store: GoalStore(database), services: agents, limit: settings.agents.maxGoals
        ) { name, owner throws(AegisError) in
            if let name {
                let entry = try manifests.find(name, owner: owner)
                return ConfigFile(name: name, bytes: Array(entry.text.utf8))
            }
            return try Bootstrap.manifest(bootstrap)
        }
        let instances = services.directory
        service = AgentService(
            directory, goals: goals, manifests: manifests, approvals: approvals, services: agents,
            budgets: desk.service.budgets
        ) { path, caller in
            let opened = try await instances.open(path, as: "manifest", for: caller)
            guard !opened.isDirectory else {
                throw AegisError.usage("'\(path)' is a folder", hint: "name the file of the manifest")
            }
            return try await BlockingPool.shared.run {
                let file = try opened.reopened()
                return try file.readAll(limit: AgentManifest.limit + 1)
            }
        }
        events = LedgerEvents(
            services.audit.service, agents: directory, store: agents.store, instances: instances, clock: loop.clock)
        server = JSONRPCServer(
            methods: AgentMethods(service).methods + EventMethods(events).methods, clock: loop.clock)
        try? Files.removeFile(home.agentSocket)
        listener = try Listener.unix(path: home.agentSocket, mode: 0o600, on: loop)
        try home.share(home.agentSocket)
    }

    /// Brings back what the last daemon had, and opens the door.
    func start() async throws {
        try await directory.recover(resuming: false)
        try await goals.recover()
        await directory.resume()
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

/// The skills that agents are told of.
struct AgentSkills: Sendable {
    let library: SkillLibrary

    init(_ configured: [String], home: String) {
        let program = (try? Files.readLink("/proc/self/exe")).map { Files.split($0).directory } ?? ""
        let variables = ["AEGIS_SKILLS_DIR", "AAOS_SKILLS_DIR"].compactMap { environmentValue($0) }
        let folders = configured + variables.flatMap { $0.split(separator: ":").map(String.init) }
        library = SkillLibrary(
            roots: SkillRoot.standard(
                programs: program, home: home, configured: folders, workspace: nil, exists: { Files.exists($0) }))
    }

    /// The catalogue, for agents that may read skills.
    func preamble(_ manifest: AgentManifest) -> String? {
        let mayRead = manifest.capabilities.contains { $0.capability.allows(.tool("skill_read")) }
        return mayRead ? library.catalogue : nil
    }
}

/// The manifest that takes goals.
enum Bootstrap {
    static func manifest(_ path: String?) throws(AegisError) -> ConfigFile {
        guard let path else { return ConfigFile(name: "bootstrap", bytes: Array(standard.utf8)) }
        do { return ConfigFile(name: path, bytes: try Files.read(path, limit: AgentManifest.limit)) } catch {
            throw .usage(
                "the bootstrap manifest '\(path)' cannot be read: \(error)", hint: "see agents.bootstrap_manifest")
        }
    }

    static let standard = """
        name: bootstrap
        model: default
        system_prompt: |
          You carry out goals. Plan first: what has to be found out, made and checked, and which parts do not depend on
          each other. Do small things yourself. For larger ones spawn children: each gets a manifest with a part of your
          capabilities, and a message that says all it needs to know, for it knows nothing else. Independent children are
          spawned together. Children share your workspace: let them write what is long into files there, and name the files.
          Check what came back before you rely on it. Write the result to /workspace/output when it is a file, and answer
          with what was reached, what was not, and where the result is.
        capabilities:
          - "tool: *"
          - "file_read: /workspace/**"
          - "file_write: /workspace/**"
          - "spawn: *"
        budget_config: {max_tokens: 1000000, reset_period_seconds: 0}
        """
}
