internal import AegisAudit
internal import AegisCapabilities
package import AegisConfig
package import AegisCore
internal import AegisIO
internal import AegisJSON
package import AegisTools

/// All live agents of the node: the one place where they come and go.
package actor AgentDirectory {
    nonisolated let services: AgentServices
    package nonisolated let limits: AgentLimits
    nonisolated let agents = LiveAgents()
    /// Places of agents that are on their way in.
    private var reserved = 0
    /// What calls scheduled agents.
    var schedules: [String: TaskScope.Handle] = [:]
    private var random: any RandomNumberGenerator & Sendable
    var isEnding = false
    /// Who waits for whose answer.
    var asks = AskGraph()
    /// When sandboxes are looked at next because a grant ends, and what does it.
    var sandboxReview: (end: Timestamp, task: TaskScope.Handle)?
    /// Programs that run, or wait for a sandbox.
    var permits: [SandboxPermit] = []
    /// What is told to every agent about the skills that there are.
    private let preamble: @Sendable (AgentManifest, AgentRecord) -> String?

    /// Makes an empty directory; `recover` fills it.
    package init(
        _ services: AgentServices, limits: AgentLimits = AgentLimits(),
        random: any RandomNumberGenerator & Sendable = SystemRandomNumberGenerator(),
        preamble: @escaping @Sendable (AgentManifest, AgentRecord) -> String? = { _, _ in nil }
    ) {
        self.services = services
        self.limits = limits
        self.random = random
        self.preamble = preamble
    }

    // MARK: Coming

    /// Makes an agent of a manifest.
    ///
    /// The order matters: a place is reserved, grants are given, the record is saved, the agent is there, and the ledger says so;
    /// whatever fails takes back what came before.
    ///
    /// - Parameters:
    ///   - file: the manifest.
    ///   - spawner: who wants it; an agent needs leave to, and hands on only what it has.
    ///   - quotesValues: whether messages may show what the manifest says.
    ///   - options: what is wanted otherwise than the manifest has it.
    ///   - goal: the goal that it works for; children work for that of their parent.
    ///   - isOneShot: whether it goes with its answer.
    ///   - call: of a child, the call of its parent that starts it; what bounds that is open.
    ///   - prompt: reads the file of its system prompt, as the spawner may.
    /// - Returns: the new agent.
    /// - Throws: what is wrong with the manifest; `too-many-agents`; `spawn-too-deep`; `capability-denied`; `grant-too-wide`.
    package func spawn(
        _ file: ConfigFile, by spawner: Spawner, quotesValues: Bool = true, options: SpawnOptions = SpawnOptions(),
        goal: Goal? = nil, isOneShot: Bool = false, startedBy call: CallSpending? = nil,
        prompt: @escaping PromptReader = AgentDirectory.noPromptFile
    ) throws(AegisError) -> AgentProcess {
        guard !isEnding else {
            throw Self.ending("spawn it")
        }
        var manifest = try AgentManifest(file, quotesValues: quotesValues, prompt: prompt)
        try options.apply(to: &manifest)
        try manifest.checkApprovals(services.registry, quotesValues: quotesValues)
        try manifest.checkCapabilities(quotesValues: quotesValues)
        // A child works on its parent's budget: what was meant for a turn of the one is for a turn of the other.
        if case .agent(let parent) = spawner, manifest.maxTurnTokens == nil {
            manifest.maxTurnTokens = max(manifest.turnTokens, parent.manifest.turnTokens)
        }
        try permit(manifest, spawner)
        guard agents.count + reserved < limits.live else {
            throw .conflict(
                "too-many-agents", "\(agents.count) agents live already, which is the limit",
                hint: "stop one ('aegis agent ps' lists them), or raise agents.max_live")
        }
        reserved += 1
        defer { reserved -= 1 }
        var record = newRecord(manifest, String(decoding: file.bytes, as: UTF8.self), spawner)
        record.options = options
        record.isOneShot = isOneShot
        record.bound = call?.bound.map { "\($0.grant)" }
        if let goal { (record.goal, record.workspace, record.deadline) = (goal.id, goal.workspace, goal.deadline) }
        let process = AgentProcess(
            record: record, manifest: manifest, session: Session(), services: services, startedBy: call,
            findTools: finder,
            ended: { _, _ in })
        services.audit.note(record.id, ownedBy: record.owner)
        do throws(AegisError) { try give(manifest, to: process, from: spawner) } catch {
            services.audit.note(record.id, ownedBy: nil)
            throw error
        }
        do throws(AegisError) {
            try save(record)
            try services.models.admit(record, manifest.budget)
            try tellSpawned(process)
        } catch {
            revoke(process, "it could not be spawned")
            try? services.models.dismiss(record)
            try? services.store.delete(record.id)
            services.audit.note(record.id, ownedBy: nil)
            throw error
        }
        agents.insert(process)
        keepSchedule(of: process)
        return process
    }

    /// What is said where no file can be read.
    package static func noPromptFile(_ path: String) throws(AegisError) -> String {
        throw .usage("a prompt's file cannot be read here", hint: "write the prompt into the manifest")
    }

    private func permit(_ manifest: AgentManifest, _ spawner: Spawner) throws(AegisError) {
        guard case .agent(let parent) = spawner else { return }
        guard parent.record.depth < limits.depth else {
            throw AegisError(
                .denied, "spawn-too-deep",
                "agent \(parent.record.name) is \(parent.record.depth) levels deep, which is the limit",
                hint: "do the work yourself, or give the findings back to the agent that spawned you")
        }
        guard !manifest.isPersistent else {
            throw .usage("a child is on-demand: it ends with its answer", hint: "leave 'lifecycle' out")
        }
        guard manifest.sandbox == nil else {
            throw AegisError(
                .denied, "sandbox-inherited", "a child's programs run in what its parent's manifest says",
                hint: "leave 'sandbox' out; what they see and reach follows from the child's capabilities")
        }
        // What remembers must be found again: a child's id is a new one each time.
        let remembers = manifest.capabilities.contains { $0.capability == .tool("memory_store") }
        guard !remembers else {
            throw AegisError(
                .denied, "memory-needs-identity",
                "a child has no identity of its own that would outlive it, and no memory",
                hint: "leave 'tool: memory_store' out; give back what is worth keeping, and store it yourself")
        }
        do throws(Denial) {
            try services.grants.admit(Request(.spawn(agent: manifest.name)), by: parent.holder).settle()
        } catch { throw error.asAegisError }
    }

    private func newRecord(_ manifest: AgentManifest, _ text: String, _ spawner: Spawner) -> AgentRecord {
        let id = newID("a-")
        var record: AgentRecord
        switch spawner {
        case .person(let uid, let gid):
            record = AgentRecord(
                id: id, name: manifest.name, manifest: text, parent: nil, depth: 0, tree: id, owner: uid,
                group: gid, created: services.now(), isPersistent: manifest.isPersistent)
        case .agent(let parent):
            record = AgentRecord(
                id: id, name: manifest.name, manifest: text, parent: parent.id, depth: parent.record.depth + 1,
                tree: parent.record.tree, owner: parent.record.owner, group: parent.record.group,
                created: services.now(),
                isPersistent: false)
            (record.goal, record.workspace) = (parent.record.goal, parent.record.workspace)
            record.deadline = parent.record.deadline
            // What somebody has to approve does not become free by asking a child to do it.
            record.approvals = parent.record.approvals + parent.manifest.approvalRequired
        }
        record.prompt = manifest.systemPrompt
        record.preamble = preamble(manifest, record)
        return record
    }

    /// A new id, or trace: a prefix and 16 hexadecimal digits.
    func newID(_ prefix: String) -> String {
        let text = String(random.next() as UInt64, radix: 16)
        return prefix + String(repeating: "0", count: 16 - text.count) + text
    }

    /// The marks of a frame, which nobody can guess.
    func frameMark() -> String { String((random.next() as UInt64) | 1 << 60, radix: 16) }

    private func give(_ manifest: AgentManifest, to process: AgentProcess, from spawner: Spawner) throws(AegisError) {
        switch spawner {
        case .person: try services.grants.issue(manifest.capabilities, to: process.holder)
        case .agent(let parent):
            try services.grants.delegate(manifest.capabilities, from: parent.holder, to: process.holder)
        }
    }

    private func save(_ record: AgentRecord) throws(AegisError) {
        let text: String
        do { text = String(decoding: try JSONValue(encoding: record).compact, as: UTF8.self) } catch {
            throw .failed("internal-error", "a record cannot be written: \(error)")
        }
        try services.store.save(record.id, name: record.name, created: record.created, record: text)
    }

    private func tellSpawned(_ process: AgentProcess) throws(AegisError) {
        var event = AuditEvent(
            .agentSpawned, agent: process.id, ("name", .string(process.record.name)),
            ("model", .string(process.manifest.model)), ("depth", .number(process.record.depth)),
            ("owner", .number(process.record.owner)), ("lifecycle", .string(process.manifest.lifecycle.word)),
            ("grants", .array(process.manifest.capabilities.map { .string($0.description) })))
        event.parent = process.record.parent
        try services.audit.record(event)
    }

    /// Finds the tools of an agent's sandbox.
    var finder: @Sendable (AgentProcess) async -> OwnTools? { { [weak self] in await self?.ownTools(of: $0) } }

    // MARK: Going

    /// Stops an agent and all that it has spawned: its turn is ended, its grants are revoked, its place is free.
    ///
    /// - Parameters:
    ///   - id: the agent.
    ///   - reason: for the ledger.
    /// - Returns: what all of them have used of models.
    /// - Throws: `agent-not-found`.
    @discardableResult
    package func stop(
        _ id: String, reason: String = "stopped by its owner"
    ) async throws(AegisError) -> ModelSpending? {
        guard let process = agents[id] else { throw notFound(id, among: []) }
        return await remove(process, reason)
    }

    /// The one way out.
    @discardableResult
    private func remove(_ process: AgentProcess, _ reason: String) async -> ModelSpending? {
        leave(process)
        // Nothing that it still does is allowed from here on, nor what it has handed on; then it ends.
        revoke(process, reason)
        for child in agents.values where child.record.parent == process.id {
            await remove(child, "the agent that spawned it was stopped")
        }
        // Its turn may wait for a sandbox that is being made.
        withdrawPermits(of: process.id)
        await process.stop()
        schedules.removeValue(forKey: process.id)?.cancel()
        guard agents.remove(process.id) else { return nil }
        withdrawPermits(of: process.id)
        await services.sandboxes?.remove(process.id)
        await services.gone(process.record)
        let spent = services.models.spending(of: process.id)
        do throws(AegisError) { try services.models.dismiss(process.record) } catch {
            services.logger.error(
                "the account of a stopped agent stays", ("agent", process.id), ("error", error.message))
        }
        var event = AuditEvent(.agentStopped, agent: process.id, ("reason", .string(reason)))
        event.parent = process.record.parent
        _ = try? services.audit.record(event)
        services.audit.note(process.id, ownedBy: nil)
        do throws(AegisError) {
            try services.store.retire(process.id, at: services.now(), keeping: limits.remembered)
        } catch {
            services.logger.error(
                "the record of a stopped agent stays", ("agent", process.id), ("error", error.message))
        }
        return spent
    }

    /// Who waits for something that its grants allowed must not take their end for an answer to go on with.
    private func leave(_ process: AgentProcess) {
        process.leave()
        for child in agents.values where child.record.parent == process.id { leave(child) }
    }

    private func revoke(_ process: AgentProcess, _ reason: String) {
        do throws(AegisError) { _ = try services.grants.retire(process.holder, reason: reason) } catch {
            services.logger.error("a revocation is not recorded", ("agent", process.id), ("error", error.message))
        }
    }

    // MARK: Finding

    /// A live agent, by its id or by its name where only one has it.
    ///
    /// - Parameters:
    ///   - word: the id or name.
    ///   - owner: whose agents there are for who asks; nil is everybody's.
    /// - Returns: the agent.
    /// - Throws: `agent-not-found` with the nearest; `agent-ambiguous`.
    package nonisolated func find(_ word: String, owner: UInt32? = nil) throws(AegisError) -> AgentProcess {
        let own = agents.values.filter { owner == nil || $0.record.owner == owner }
        if let process = agents[word], owner == nil || process.record.owner == owner { return process }
        let named = own.filter { $0.record.name == word }
        if named.count > 1 {
            throw .conflict(
                "agent-ambiguous", "\(named.count) agents are called '\(word)'",
                hint: "use an id: \(named.map(\.id).sorted().joined(separator: ", "))")
        }
        guard let process = named.first else { throw notFound(word, among: own) }
        return process
    }

    /// A live agent by its id.
    package nonisolated func live(_ id: String) -> AgentProcess? { agents[id] }

    private nonisolated func notFound(_ word: String, among known: [AgentProcess]) -> AegisError {
        let near = nearest(word, in: known.map(\.id).sorted() + known.map(\.record.name).sorted())
        return .notFound(
            "agent-not-found", "no live agent is called '\(word)'",
            hint: near.map { "did you mean '\($0)'?" } ?? "'aegis agent ps' lists those that there are")
    }

    /// Every live agent, oldest first.
    package nonisolated var all: [AgentProcess] {
        agents.values.sorted { ($0.record.created, $0.id) < ($1.record.created, $1.id) }
    }

    /// What lists show of an agent.
    package nonisolated func info(_ process: AgentProcess) -> AgentInfo {
        let standing = process.standing
        return AgentInfo(
            id: process.id, name: process.record.name, model: process.manifest.model, state: standing.state,
            lifecycle: process.manifest.lifecycle.word, parent: process.record.parent, depth: process.record.depth,
            owner: process.record.owner, trace: standing.trace, step: standing.step, mail: standing.mail,
            capabilityCount: services.grants.records(of: process.holder).count, createdAt: process.record.created)
    }
}
