internal import AegisAPI
internal import AegisAgents
internal import AegisAudit
internal import AegisCapabilities
internal import AegisCore
internal import AegisFiles
internal import AegisIO
internal import AegisInstances
internal import AegisSkills
internal import AegisStore
internal import AegisTools
internal import AegisWire
internal import LinuxSys

/// What the agent plane offers beside agents, goals, tools and approvals: the ledger, skills and memory.
struct AgentFaces: Sendable {
    let methods: [JSONRPCMethod]
    let routes: [Route]
    private let memory: MemoryDesk
    private let bootstrap: Bootstrap
    private let ledger: Ledger
    private let logger: Logger

    init(
        _ service: AgentService, skills: AgentSkills, memory: MemoryDesk, bootstrap: Bootstrap, audit: AuditService,
        instances: InstanceDirectory, logger: Logger
    ) {
        self.memory = memory
        self.bootstrap = bootstrap
        self.logger = logger
        ledger = audit.ledger
        let skillService = SkillService(service, shelf: skills.shelf) { skills.root(of: $0) }
        let memoryService = MemoryService(service, desk: memory)
        let records = AuditMethods(
            audit, owner: CurrentProcess.effectiveUser, resolve: Self.names(service, instances))
        methods = records.methods + skillService.methods + memoryService.methods
        routes = skillService.routes + memoryService.routes
    }
}

extension AgentFaces {
    /// Forgets what is to be forgotten, before anybody works; agents must have been brought back before.
    ///
    /// - Throws: what the ledger or the database throws.
    func prepare() async throws {
        try await bootstrap.resetIfAsked(memory, ledger, logger)
        try await memory.sweep(logger)
    }

    /// Finds whom a word means that somebody asks the ledger about.
    static func names(_ service: AgentService, _ instances: InstanceDirectory) -> AuditNames {
        { word, caller in
            if let agent = await service.id(of: word, caller) { return agent }
            return (try? instances.find(word, for: caller))?.id
        }
    }

    /// The tools of memory and of skills.
    static func tools(_ directory: AgentDirectory, memory: MemoryDesk, skills: AgentSkills) -> [any Tool] {
        MemoryTools(memory.store, policy: { try await memory.policy(of: $0) }).all + [
            SkillReadTool { context in
                let record = try directory.find(context.agent).record
                return try await BlockingPool.shared.run { skills.library(for: record) }
            }
        ]
    }

    /// What reads the file of a manifest, with the rights of a caller.
    static func manifests(_ instances: InstanceDirectory) -> @Sendable (String, Caller) async throws -> [UInt8] {
        { path, caller in
            let opened: OpenedPath
            do { opened = try await instances.open(path, as: "manifest", for: caller) } catch let error as AegisError
                where error.code == "path-refused"
            {
                throw AegisError(
                    .denied, error.code, error.message,
                    hint:
                        "manifests and the files of their prompts lie outside of what is Aegis's own: copy it elsewhere"
                )
            }
            guard !opened.isDirectory else {
                throw AegisError.usage("'\(path)' is a folder", hint: "name the file of the manifest")
            }
            return try await BlockingPool.shared.run {
                let file = try opened.reopened()
                return try file.readAll(limit: AgentManifest.limit + 1)
            }
        }
    }
}

/// The skills that agents are told of.
struct AgentSkills: Sendable {
    let shelf: SkillShelf
    private let folders: AgentFolders

    init(_ configured: [String], home: String, database: Database, folders: AgentFolders) {
        let program = (try? Files.readLink("/proc/self/exe")).map { Files.split($0).directory } ?? ""
        let variables = ["AEGIS_SKILLS_DIR", "AAOS_SKILLS_DIR"].compactMap { environmentValue($0) }
        let named = configured + variables.flatMap { $0.split(separator: ":").map(String.init) }
        let roots = SkillRoot.standard(
            programs: program, home: home, configured: named, workspace: nil, exists: { Files.exists($0) })
        shelf = SkillShelf(
            roots, trust: SkillTrust(database: database, administrator: CurrentProcess.effectiveUser))
        self.folders = folders
    }

    /// The skills of an agent's workspace. They are trusted by way of the agent that the workspace belongs to: its children go.
    func root(of record: AgentRecord) -> SkillRoot? {
        folders.skillPlace(of: record).map { .workspace($0, agent: record.tree) }
    }

    /// What an agent may read now. Blocks on the disk.
    func library(for record: AgentRecord) -> SkillLibrary {
        shelf.library(for: record.owner, workspace: root(of: record))
    }

    /// The catalogue, for agents that may read skills.
    func preamble(_ manifest: AgentManifest, _ record: AgentRecord) -> String? {
        let mayRead = manifest.capabilities.contains { $0.capability.allows(.tool("skill_read")) }
        return mayRead ? library(for: record).catalogue : nil
    }
}
