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
    private let loop: EventLoop
    private let scope: TaskScope
    private let listener: Listener
    private let server: JSONRPCServer

    /// The tables of this floor.
    static let migrations =
        SessionStore.migrations + ManifestStore.migrations + GoalStore.migrations + [BudgetBook.migration]
        + [MemoryStore.migration] + GrantStore.migrations + ApprovalQueue.migrations + SessionStore.mailMigrations
        + SessionStore.indexMigrations

    init(settings: DaemonSettings, home: DaemonHome, services: DaemonServices, logger: Logger) async throws {
        loop = try EventLoop.startThread(name: "agents")
        scope = TaskScope(on: loop)
        let (database, ledger) = (services.database, services.audit.ledger)
        let (providers, selection) = (settings.providers, settings.selection)
        let desk = try InferenceDesk(providers, selection, database: database, ledger: ledger, loop: loop)
        let approvals = ApprovalQueue(database, audit: ledger, clock: loop.clock)
        let registry = try ToolRegistry(
            [EchoTool(), WebFetchTool(HTTPWebTransport(try HTTPClient(on: loop)))] + FileTools.all)
        let folders = AgentFolders(home: home.path, runDirectory: home.runDirectory, instances: services.directory)
        let sandboxes = AgentSandboxHost(services.directory, kits: services.kits, loop: services.loop, logger: logger)
        let agents = AgentServices(
            store: SessionStore(database), models: desk, registry: registry,
            tools: ToolGate(registry, clock: loop.clock), grants: services.grants, audit: ledger, desk: approvals,
            files: { await folders.scope(of: $0) }, sandboxes: sandboxes,
            gone: { record in
                folders.clear(record)
                // Whoever waits for an answer on its behalf waits for nothing.
                _ = try? await BlockingPool.shared.run { try approvals.stop(agent: record.id) }
            }, forgotten: { folders.clear(tree: $0) }, scope: scope, now: { Timestamp.now() }, clock: loop.clock,
            logger: logger)
        let skills = AgentSkills(settings.agents.skillsDirs, home: home.path)
        directory = AgentDirectory(agents, limits: settings.agents.limits, preamble: { skills.preamble($0) })
        let memoryTools = MemoryTools(MemoryStore(database: database)) { context in context.identity }
        let tools: [any Tool] = [
            SpawnAgentTool(directory), SpawnAgentsTool(directory), ExecTool(directory), AgentSendTool(directory),
            AgentAskTool(directory),
        ]
        for tool in tools + memoryTools.all { try registry.register(tool) }
        try registry.register(SkillReadTool { _ in skills.library })
        let manifests = ManifestStore(database)
        let bootstrap = settings.agents.bootstrapManifest
        goals = GoalQueue(
            directory, store: GoalStore(database), services: agents, limit: settings.agents.maxGoals
        ) { name, owner throws(AegisError) in
            if let name {
                // Its prompt is the text that its file had when it was deployed.
                let entry = try manifests.find(name, owner: owner)
                return (ConfigFile(name: name, bytes: Array(entry.text.utf8)), { _ in entry.prompt })
            }
            return try Bootstrap.manifest(bootstrap)
        }
        let instances = services.directory
        service = AgentService(
            directory, goals: goals, manifests: manifests, approvals: approvals, services: agents,
            folder: { try await instances.open($0, as: "workspace", isFolder: true, for: $1) }
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
        server = JSONRPCServer(methods: AgentMethods(service).methods, clock: loop.clock)
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
    static func manifest(_ path: String?) throws(AegisError) -> (file: ConfigFile, prompt: PromptReader) {
        guard let path else {
            return (ConfigFile(name: "bootstrap", bytes: Array(standard.utf8)), AgentDirectory.noPromptFile)
        }
        let file = ConfigFile(name: path, bytes: try read(path))
        return (
            file,
            { prompt throws(AegisError) in
                String(decoding: try read(Files.absolute(prompt, from: Files.split(path).directory)), as: UTF8.self)
            }
        )
    }

    private static func read(_ path: String) throws(AegisError) -> [UInt8] {
        do { return try Files.read(path, limit: AgentManifest.limit) } catch {
            throw .usage(
                "the bootstrap's file '\(path)' cannot be read: \(error)", hint: "see agents.bootstrap_manifest")
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
          - "exec: *"
          - "spawn: *"
        budget_config: {max_tokens: 1000000, reset_period_seconds: 0}
        """
}
