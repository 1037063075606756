package import AegisAudit
internal import AegisCapabilities
package import AegisCore
internal import AegisInference
package import AegisMemory
package import AegisTools

extension AuditKind {
    /// An agent has stored a record: `call_id`, `memory_id`, `place`, `category`, `bytes`, `model`, `replaced`. Never its text.
    package static let memoryStored = AuditKind("memory_stored")
    /// Somebody has searched: `place`, `query_bytes`, `results`, `model`, `category`; of an agent `call_id`, of a person `uid`.
    package static let memoryQueried = AuditKind("memory_queried")
    /// A person deletes a record of an agent's memory; before it is done.
    package static let memoryDeleted = AuditKind("memory_deleted")
    /// A person resets an agent's memory; before it is done.
    package static let memoryReset = AuditKind("memory_reset")
    /// A person trusts a skill; before it counts.
    package static let skillTrusted = AuditKind("skill_trusted")
    /// A person trusts a skill no more; before it counts.
    package static let skillUntrusted = AuditKind("skill_untrusted")
    /// All of them.
    package static let ofMemory: [AuditKind] = [
        .memoryStored, .memoryQueried, .memoryDeleted, .memoryReset, .skillTrusted, .skillUntrusted,
    ]
}

/// What a manifest and the runtime say about an agent's memory.
package struct MemoryPolicy: Sendable {
    /// What its own records belong to; nil for an agent that has no memory of its own.
    package var identity: String?
    /// Records of its own that are kept; nil is what the store keeps of a place.
    package var records: Int?
    /// Bytes of the longest text that it may store; nil is the store's limit.
    package var contentBytes: Int?
    /// Who pays for vectors; nil where nobody does.
    package var payer: EmbeddingPayer?

    /// A policy with the limits of the store.
    package init(identity: String?, records: Int? = nil, contentBytes: Int? = nil) {
        self.identity = identity
        self.records = records
        self.contentBytes = contentBytes
    }
}

/// Says whose memory each agent has.
package struct MemoryDesk: Sendable {
    package let store: MemoryStore
    private let directory: AgentDirectory
    private let bootstrapID: String?

    /// A desk for the agents of a directory.
    ///
    /// - Parameters:
    ///   - store: where memory is.
    ///   - directory: the agents.
    ///   - bootstrapID: which of several memories the agent has that comes with Aegis to take goals; nil is the one without an id.
    package init(_ store: MemoryStore, directory: AgentDirectory, bootstrapID: String? = nil) {
        self.store = store
        self.directory = directory
        self.bootstrapID = bootstrapID
    }

    /// What the agent is called that comes with Aegis to take goals.
    package static let bootstrap = "bootstrap"

    /// Whether a name under which an identity is recorded is that of such an agent, whichever of its memories it is.
    package static func isBootstrap(_ key: String) -> Bool {
        guard let name = key.split(separator: "/", maxSplits: 1).last else { return false }
        return name == bootstrap || name.hasPrefix(bootstrap + "#")
    }

    /// Under which name an identity is recorded: users' agents of one name are different ones.
    package static func key(_ name: String, owner: UInt32) -> String { "\(owner)/\(name)" }

    /// The name under which a shared scope's records lie: it is shared by the agents of one user, and not by those of another.
    package static func shared(_ scope: String, owner: UInt32) -> MemoryPlace {
        .shared(owner == 0 ? scope : "\(owner)/\(scope)")
    }

    /// The policy of whoever calls a tool.
    ///
    /// - Throws: `agent-not-found` for one that is gone; `memory-disabled`; what the database throws.
    package func policy(of context: ToolContext) async throws -> MemoryPolicy {
        let process = try directory.find(context.agent)
        var policy = try await policy(of: process)
        policy.payer = Self.payer(process, context.spending)
        return policy
    }

    /// The policy of an agent.
    ///
    /// - Throws: `memory-disabled`; what the database throws.
    package func policy(of process: AgentProcess) async throws -> MemoryPolicy {
        let memory = process.manifest.memory
        guard memory.episodicEnabled else {
            throw AegisError(
                .denied, "memory-disabled", "the manifest of '\(process.record.name)' switches its memory off",
                hint: "memory.episodic_enabled does it; work without memory")
        }
        return MemoryPolicy(
            identity: try await identity(of: process), records: memory.episodicMaxRecords,
            contentBytes: memory.episodicMaxContentBytes)
    }

    /// Who pays for what an agent wants vectors of: the account that pays for its model, and the grant of the tool that it calls.
    private static func payer(_ process: AgentProcess, _ spending: CallSpending) -> EmbeddingPayer {
        EmbeddingPayer(
            agent: process.id, name: process.record.name, tree: process.record.tree,
            urgency: process.priority.rawValue - InferencePriority.normal.rawValue,
            limitsMoney: spending.bound?.limitsMoney == true, deadline: process.record.deadline,
            used: { spending.add(Amounts(tokens: UInt64(clamping: $0), microUSD: UInt64(clamping: $1))) })
    }

    /// What an agent's own records belong to: the identity that is recorded for its name when its manifest asks to keep its memory,
    /// else its id, if that lives on. Children have none: nothing would ever find it again.
    ///
    /// - Throws: what the database throws.
    package func identity(of process: AgentProcess) async throws -> String? {
        let record = process.record
        guard record.parent == nil else { return nil }
        guard process.manifest.memory.isPersistent else { return record.isPersistent ? record.id : nil }
        var name = record.name
        if record.goal != nil, name == Self.bootstrap, let bootstrapID { name += "#\(bootstrapID)" }
        return try await store.persistentIdentity(of: Self.key(name, owner: record.owner)).identity
    }

    /// Forgets what an agent that is gone has had for itself, unless it asked to keep it.
    ///
    /// - Throws: what the database throws.
    package static func forget(_ record: AgentRecord, in store: MemoryStore) async throws {
        // Others have none under their id; an identity that is kept has another name.
        guard record.parent == nil, record.isPersistent else { return }
        try await store.reset(identity: record.id)
    }

    /// Forgets, at a daemon's start, what agents have left that no daemon saw go, and says what another model has embedded.
    ///
    /// - Throws: what the database throws.
    package func sweep(_ logger: Logger) async throws {
        // Those that could not be brought back are among them: their memory waits for a release that can.
        try await store.forgetOthers(than: Set(try directory.services.store.records().map(\.id)))
        let stale = try await store.staleCount()
        guard stale > 0 else { return }
        logger.warning(
            "memories of another model are embedded again as agents look for them", ("records", "\(stale)"),
            ("model", store.embedder.model))
    }
}
