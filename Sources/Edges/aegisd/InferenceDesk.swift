internal import AegisAPI
internal import AegisAgents
internal import AegisAudit
internal import AegisConfig
internal import AegisCore
internal import AegisHTTPClient
internal import AegisIO
internal import AegisInference
internal import AegisJSON
internal import AegisStore
internal import AegisTools
internal import LinuxSys
internal import Synchronization

/// Agents' questions, answered by the providers of the configuration.
struct InferenceDesk: ModelDesk {
    let service: InferenceService
    private let calls = BoundedCalls()

    /// Makes the providers.
    ///
    /// - Throws: what is wrong with the configuration, a scenario or a recording.
    init(_ settings: DaemonSettings, database: Database, ledger: Ledger, loop: EventLoop) throws {
        let (providers, selection) = (settings.providers, settings.selection)
        let time = InferenceTime(clock: loop.clock)
        let transport = HTTPModelTransport(try HTTPClient(on: loop, authorities: settings.tls.authorities))
        let backends = try InferenceBackend.all(providers, time: time) { section throws(AegisError) in
            guard let provider = section.remoteProvider(over: transport) else {
                throw .failed("internal-error", "the provider '\(section.name)' is none on the network")
            }
            return provider
        }
        let budgets = try BudgetBook(database, time: time)
        try Self.sweep(budgets)
        service = try InferenceService(
            catalog: try ModelCatalog(providers: providers, selection: selection), backends: backends,
            budgets: budgets, retry: selection.retry, time: time,
            observer: LedgerObserver(ledger: ledger))
    }

    func window(of alias: String) -> Int { (try? service.catalog.resolve(alias))?.first?.contextWindow ?? 128_000 }

    func admit(_ record: AgentRecord, _ budget: AgentManifest.Budget?) throws(AegisError) {
        let limit = budget.map {
            BudgetLimit(
                maxTokens: $0.maxTokens.map { Int(clamping: $0) },
                maxMicroUSD: $0.maxMicroUSD.map { Int(clamping: $0) },
                period: .seconds(Int64(clamping: $0.resetPeriodSeconds)))
        }
        let parent = record.bound.map { BudgetOwner.grant($0) } ?? record.parent.map { .agent($0) }
        try service.budgets.open(.agent(record.id), parent: parent, limit: limit ?? .none)
    }

    func open(_ bound: SpendingBound, of agent: String) throws(AegisError) {
        let grant = "\(bound.grant)"
        try calls.begin(grant) { () throws(AegisError) in
            let limit = BudgetLimit(
                maxTokens: bound.tokens.map { Int(clamping: $0) }, maxMicroUSD: bound.microUSD.map { Int(clamping: $0) }
            )
            // What the limit leaves is without what calls of before have used: they must not count here again.
            try service.budgets.open(.grant(grant), parent: .agent(agent), limit: limit, isNew: true)
        }
    }

    func close(_ bound: SpendingBound) {
        // One that stays is closed by the next start; until then the next call of the grant opens it anew.
        let grant = "\(bound.grant)"
        calls.end(grant) { try? service.budgets.close(.grant(grant)) }
    }

    func spending(of agent: String) -> ModelSpending? {
        service.budgets.report(.agent(agent)).map { account in
            ModelSpending(
                inputTokens: account.total.totalInput, outputTokens: account.total.output,
                microUSD: account.totalMicroUSD)
        }
    }

    func dismiss(_ record: AgentRecord) throws(AegisError) {
        try service.budgets.close(.agent(record.id))
        // Nobody is left in its tree.
        if record.parent == nil { try service.budgets.close(.tree(record.tree)) }
    }

    /// Closes the accounts of trees whose root is gone, which daemons of before left behind.
    private static func sweep(_ budgets: BudgetBook) throws(AegisError) {
        for account in budgets.reports() {
            guard case .tree(let root) = account.owner, budgets.report(.agent(root)) == nil else { continue }
            try budgets.close(account.owner)
        }
    }

    func quote(_ question: ModelQuestion) throws(AegisError) -> ModelQuote { try service.quote(request(question)) }

    func answer(_ question: ModelQuestion) async throws(AegisError) -> ModelReply {
        guard let live = question.live else { return try await service.complete(request(question)).reply }
        return try await service.complete(
            request(question), onDelta: { live.take($0) }, onRestart: { live.restart() }
        ).reply
    }

    private func request(_ question: ModelQuestion) -> InferenceRequest {
        var request = InferenceRequest(
            alias: question.alias, system: question.system, messages: question.messages, tools: question.tools,
            maxOutputTokens: question.maxOutputTokens, caller: CallerID(agent: question.agent, tree: question.tree),
            agentName: question.name, priority: question.priority, timeLimit: question.deadline?.since(.now()))
        request.bill = question.bill
        return request
    }
}

/// How many calls run by each grant that bounds them.
private final class BoundedCalls: Sendable {
    private let counts = Mutex<[String: Int]>([:])

    /// Counts a call; the first one of a grant has its account opened.
    func begin(_ grant: String, open: () throws(AegisError) -> Void) throws(AegisError) {
        try counts.withLock { (counts) throws(AegisError) in
            if counts[grant] == nil { try open() }
            counts[grant, default: 0] += 1
        }
    }

    /// Counts it no more; the last one has it closed.
    func end(_ grant: String, close: () -> Void) {
        counts.withLock { counts in
            let left = (counts[grant] ?? 1) - 1
            counts[grant] = left > 0 ? left : nil
            if left <= 0 { close() }
        }
    }
}

/// What is asked of models and what that takes, in the ledger.
private struct LedgerObserver: InferenceObserver {
    let ledger: Ledger

    func record(_ step: InferenceStep) throws(AegisError) {
        var event = AuditEvent(
            step.kind.auditKind, agent: step.caller?.agent, ("name", .string(step.agentName)),
            ("tree", step.caller.map { .string($0.tree) } ?? .null), ("provider", .string(step.provider)),
            ("model", .string(step.model)), ("attempt", .number(step.attempt)))
        event.fields += step.fields
        try ledger.record(event)
    }
}
