package import AegisAgents
internal import AegisCapabilities
internal import AegisConfig
internal import AegisCore
package import AegisFiles
package import AegisInference
package import AegisInstances
internal import AegisJSON
package import AegisTools
internal import Synchronization

/// The manifest that comes with Aegis for those who take goals.
package struct ShippedManifest: Sendable {
    /// What it says.
    package var text: String
    /// Whether goals that name none are taken by it: the configuration may name another.
    package var isInUse: Bool

    /// Describes it.
    package init(text: String, isInUse: Bool) {
        self.text = text
        self.isInUse = isInUse
    }
}

/// What can be done with agents from outside: each function is both a method of JSON-RPC and a route (decision D18).
package struct AgentService: Sendable {
    let directory: AgentDirectory
    let goals: GoalQueue
    let manifests: ManifestStore
    let approvals: ApprovalQueue
    let services: AgentServices
    let budgets: BudgetBook
    let shipped: ShippedManifest
    /// Reads a file with the rights of a caller (decision D31).
    let read: @Sendable (String, Caller) async throws -> [UInt8]
    /// Opens a folder with the rights of a caller.
    let folder: @Sendable (String, Caller) async throws -> OpenedPath

    /// Serves agents.
    package init(
        _ directory: AgentDirectory, goals: GoalQueue, manifests: ManifestStore, approvals: ApprovalQueue,
        services: AgentServices, budgets: BudgetBook, shipped: ShippedManifest,
        folder: @escaping @Sendable (String, Caller) async throws -> OpenedPath,
        read: @escaping @Sendable (String, Caller) async throws -> [UInt8]
    ) {
        self.directory = directory
        self.goals = goals
        self.manifests = manifests
        self.approvals = approvals
        self.services = services
        self.budgets = budgets
        self.shipped = shipped
        self.read = read
        self.folder = folder
    }

    // MARK: Manifests

    /// A manifest as a caller gave it: a text, a file of the caller's, or the name of a deployed one.
    struct Source: Sendable {
        var file: ConfigFile
        var prompt: String?
        /// Whether messages may quote it: what the caller sent, it may see.
        var isQuotable: Bool
    }

    /// Finds what a caller gives as a manifest: its text, its file, or the name of a deployed one. A path beside a text says where
    /// that is from: messages name it, and the file of a prompt lies beside it.
    func source(text: String?, path: String?, name: String?, _ caller: Caller) async throws -> Source {
        switch (text, path, name) {
        case (let text?, let path, nil):
            return Source(file: ConfigFile(name: path ?? "manifest", bytes: Array(text.utf8)), isQuotable: true)
        case (nil, let path?, nil):
            return Source(file: ConfigFile(name: path, bytes: try await read(path, caller)), isQuotable: false)
        case (nil, nil, let name?):
            let entry = try manifests.find(name, owner: caller.uid)
            return Source(
                file: ConfigFile(name: name, bytes: Array(entry.text.utf8)), prompt: entry.prompt, isQuotable: true)
        case (nil, nil, nil):
            throw AegisError(
                .usage, "invalid-params", "there is no manifest",
                hint: "give manifest (its text), manifest_path or name (of a deployed one)")
        default:
            throw AegisError(
                .usage, "invalid-params", "the manifest is given twice",
                hint: "give one of manifest, manifest_path and name")
        }
    }

    /// The manifest, with the file of its prompt read as the caller may.
    func manifest(_ source: Source, _ caller: Caller) async throws -> (AgentManifest, prompt: String) {
        if let prompt = source.prompt {
            let manifest = try AgentManifest(source.file, quotesValues: source.isQuotable) { _ in prompt }
            return (manifest, manifest.systemPrompt)
        }
        // Which file it is stands in the manifest: it is read twice, the second time with the file's text.
        let wanted = Wanted()
        do throws(AegisError) {
            let manifest = try AgentManifest(source.file, quotesValues: source.isQuotable) { path throws(AegisError) in
                wanted.path.withLock { $0 = path }
                throw AegisError(.failed, Wanted.code, "its file is to be read")
            }
            return (manifest, manifest.systemPrompt)
        } catch {
            guard let path = wanted.path.withLock({ $0 }) else { throw error }
            let folder = source.file.name.contains("/") ? source.file.name : ""
            let text = String(decoding: try await read(Self.beside(folder, path), caller), as: UTF8.self)
            let manifest = try AgentManifest(source.file, quotesValues: source.isQuotable) { _ in text }
            return (manifest, text)
        }
    }

    /// Which file a manifest names.
    private final class Wanted: Sendable {
        static let code = "internal-error"
        let path = Mutex<String?>(nil)
    }

    private static func beside(_ file: String, _ path: String) -> String {
        guard !path.hasPrefix("/"), let slash = file.lastIndex(of: "/") else { return path }
        return String(file[...slash]) + path
    }

    /// Keeps a manifest; `validate` only reads it.
    func deploy(_ source: Source, _ caller: Caller, onlyValidate: Bool) async throws -> JSONValue {
        let (manifest, prompt) = try await manifest(source, caller)
        try manifest.checkApprovals(services.registry, quotesValues: source.isQuotable)
        try manifest.checkCapabilities(quotesValues: source.isQuotable)
        var fields = fields(of: manifest, unknown: source.isQuotable ? manifest.unknownNames(services) : [])
        if !onlyValidate {
            let entry = ManifestStore.Entry(
                name: manifest.name, owner: caller.uid, text: String(decoding: source.file.bytes, as: UTF8.self),
                prompt: prompt, deployed: services.now())
            let isReplaced = try manifests.deploy(entry)
            fields.append(.init("replaced", .bool(isReplaced)))
            fields.append(.init("deployed_at", .string("\(entry.deployed)")))
        }
        return .object(fields)
    }

    /// What is shown of a manifest; `unknown` is what is said of names in it that mean nothing here.
    func fields(of manifest: AgentManifest, unknown: [String] = []) -> [JSONValue.Field] {
        var fields: [JSONValue.Field] = [
            .init("name", .string(manifest.name)), .init("model", .string(manifest.model)),
            .init("lifecycle", .string(manifest.lifecycle.word)),
            .init("capabilities", .array(manifest.capabilities.map { .string($0.description) })),
            .init("approval_required", .array(manifest.approvalRequired.map { .string($0) })),
        ]
        // Programs see what the grants allow (decision D1).
        if manifest.capabilities.contains(where: { if case .exec = $0.capability { true } else { false } }) {
            fields.append(.init("file_policy", "mounts"))
        }
        fields.append(.init("max_iterations", .number(manifest.maxIterations ?? services.iterations)))
        fields.append(.init("max_turn_tokens", .number(manifest.turnTokens)))
        if let budget = manifest.budget {
            fields.append(
                .init(
                    "budget",
                    [
                        "max_tokens": budget.maxTokens.map { .number($0) } ?? .null,
                        "max_usd": budget.maxMicroUSD.map { .string(dollars(Int(clamping: $0))) } ?? .null,
                        "reset_period_seconds": .number(budget.resetPeriodSeconds),
                    ]))
        }
        if !manifest.metadata.isEmpty { fields.append(.init("metadata", .object(manifest.metadata))) }
        let warnings = GrantSpec.warnings(manifest.capabilities) + unknown
        fields.append(.init("warnings", .array(warnings.map { .string($0) })))
        return fields
    }

    // MARK: Live agents

    /// A live agent that the caller may have to do with: root all, others their own.
    func find(_ word: String, _ caller: Caller) throws -> AgentProcess {
        // Whether somebody else has one of that name is nobody's business.
        try directory.find(word, owner: caller.uid == 0 ? nil : caller.uid)
    }

    /// All at once: what an agent's sandbox is has to be waited for.
    func list(_ caller: Caller) async throws -> [JSONValue] {
        let own = directory.all.filter { caller.uid == 0 || $0.record.owner == caller.uid }
        return try await withThrowingTaskGroup(of: (Int, JSONValue).self) { group in
            for (index, process) in own.enumerated() {
                group.addTask { (index, try await info(process)) }
            }
            var items = [JSONValue](repeating: .null, count: own.count)
            for try await (index, item) in group { items[index] = item }
            return items
        }
    }

    func info(_ process: AgentProcess) async throws -> JSONValue {
        var fields = try JSONValue(encoding: directory.info(process)).fields ?? []
        let metadata = process.manifest.metadata
        if !metadata.isEmpty { fields.append(.init("metadata", .object(metadata))) }
        if let sandbox = await directory.sandboxView(of: process) { fields.append(.init("sandbox", sandbox)) }
        return .object(fields)
    }

    func spawn(_ source: Source, _ caller: Caller) async throws -> AgentProcess {
        let (_, prompt) = try await manifest(source, caller)
        return try await directory.spawn(
            source.file, by: .person(uid: caller.uid, gid: caller.gid), quotesValues: source.isQuotable,
            prompt: { _ in prompt })
    }

    func run(
        _ word: String, _ message: String, wait: Bool, trace: String? = nil, _ caller: Caller
    ) async throws -> JSONValue {
        let process = try find(word, caller)
        guard wait else {
            let trace = try await directory.send(message, to: process.id)
            return ["trace_id": .string(trace), "status": "delivered", "agent_id": .string(process.id)]
        }
        return Self.result(try await directory.run(message, on: process, trace: trace), process.id)
    }

    func spawnAndRun(
        _ source: Source, _ message: String, trace: String? = nil, _ caller: Caller
    ) async throws -> JSONValue {
        let (_, prompt) = try await manifest(source, caller)
        let (id, result) = try await directory.spawnAndRun(
            source.file, message, by: .person(uid: caller.uid, gid: caller.gid), quotesValues: source.isQuotable,
            trace: trace, prompt: { _ in prompt })
        return Self.result(result, id)
    }

    func reply(_ word: String, _ trace: String, wait: Bool, _ caller: Caller) async throws -> JSONValue {
        let process = try find(word, caller)
        guard let result = try await directory.reply(trace, of: process.id, wait: wait) else {
            return ["agent_id": .string(process.id), "trace_id": .string(trace), "status": "working"]
        }
        return Self.result(result, process.id)
    }

    static func result(_ result: TurnResult, _ id: String) -> JSONValue {
        [
            "agent_id": .string(id), "trace_id": .string(result.trace), "status": "ended",
            "response": .string(result.response),
            "usage": [
                "input_tokens": .number(result.usage.totalInput), "output_tokens": .number(result.usage.output),
            ], "iterations": .number(result.iterations), "stop_reason": .string(result.stop.rawValue),
            "error": result.problem?.json ?? .null,
        ]
    }

    // MARK: Grants

    func grants(_ word: String, _ caller: Caller) async throws -> [JSONValue] {
        let process = try find(word, caller)
        return try services.grants.records(of: process.holder).map { try JSONValue(encoding: $0) }
    }

    /// Takes back one capability of an agent, or all.
    ///
    /// - Parameters:
    ///   - word: the agent.
    ///   - capability: as the manifest has it, or a grant's id; nil is all.
    ///   - caller: who takes it back.
    /// - Returns: what was taken back.
    /// - Throws: `agent-not-found`, `grant-not-found`; `decision-not-recorded` when it is taken back, and that is saved later.
    func revoke(_ word: String, _ capability: String?, _ caller: Caller) async throws -> JSONValue {
        let process = try find(word, caller)
        let result: Result<[GrantID], AegisError>
        do throws(AegisError) { result = .success(try take(capability, of: process, caller)) } catch {
            result = .failure(error)
        }
        // Programs that run have it no longer either, when this is answered (decision D1): also when it could not be recorded.
        await directory.reviewSandboxes()
        let revoked = try result.get()
        return [
            "agent_id": .string(process.id), "revoked": .array(revoked.map { .string("\($0)") }),
            "count": .number(revoked.count),
        ]
    }

    private func take(
        _ capability: String?, of process: AgentProcess, _ caller: Caller
    ) throws(AegisError) -> [GrantID] {
        let reason = "revoked by user \(caller.uid)"
        guard let capability else { return try services.grants.revoke(process.holder, reason: reason) }
        guard let id = GrantID(parsing: capability) else {
            return try services.grants.revoke(process.holder, capability: try Self.parse(capability), reason: reason)
        }
        guard services.grants.record(id)?.holder == process.holder else {
            throw AegisError.notFound("grant-not-found", "agent \(process.id) has no grant \(capability)")
        }
        return try services.grants.revoke(id, reason: reason)
    }

    private static func parse(_ text: String) throws(AegisError) -> Capability {
        do throws(CapabilityError) { return try Capability(parsing: text) } catch { throw error.asAegisError }
    }
}

extension AgentService {
    // MARK: Tools

    /// All tools, or those that an agent may call.
    func tools(_ word: String?, _ caller: Caller) async throws -> [JSONValue] {
        let declarations: [ToolDeclaration]
        if let word {
            let process = try find(word, caller)
            declarations = await process.declarations()
        } else {
            declarations = services.registry.declarations(forUser: caller.uid)
        }
        return declarations.map { tool in
            [
                "name": .string(tool.name), "description": .string(tool.description), "input_schema": tool.input,
                "effects": .string(tool.effects.rawValue), "approval": .bool(tool.asksApproval),
            ]
        }
    }

    /// Calls a tool as an agent: through the same gate as its own calls.
    func invoke(_ tool: String, _ input: JSONValue, as word: String, _ caller: Caller) async throws -> ToolReply {
        let process = try find(word, caller)
        return await process.invoke(tool, input, door: "api")
    }

    /// The answer of a tool as an error for programs.
    static func error(of reply: ToolReply) -> AegisError {
        let error = reply.value["error"]
        return AegisError(
            reply.kind ?? .failed, error?["code"]?.text ?? "tool-failed", error?["message"]?.text ?? reply.text,
            hint: error?["hint"]?.text)
    }
}
