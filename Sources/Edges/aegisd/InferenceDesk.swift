internal import AegisAPI
internal import AegisAgents
internal import AegisAudit
internal import AegisCapabilities
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
    init(
        _ settings: DaemonSettings, database: Database, grants: GrantBook, ledger: Ledger, loop: EventLoop
    ) throws {
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
        try Self.sweep(budgets, grants)
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

    func open(_ bound: SpendingBound) throws(AegisError) {
        var above: BudgetOwner?
        var opened: [GrantShare] = []
        do throws(AegisError) {
            for share in bound.above.reversed() + [bound.own] {
                try open(share, above: above)
                opened.append(share)
                above = .grant("\(share.grant)")
            }
        } catch {
            for share in opened { close(share, counted: Amounts()) }
            throw error
        }
    }

    private func open(_ share: GrantShare, above: BudgetOwner?) throws(AegisError) {
        let grant = "\(share.grant)"
        try calls.begin(grant) { () throws(AegisError) in
            let limit = BudgetLimit(
                maxTokens: share.tokens.map { Int(clamping: $0) }, maxMicroUSD: share.microUSD.map { Int(clamping: $0) }
            )
            // What the limit leaves is without what calls of before have used: they must not count here again.
            try service.budgets.open(
                .grant(grant), parent: .agent("\(share.holder)"), above: above, limit: limit, isNew: true)
        }
    }

    func close(_ bound: SpendingBound, counted amounts: Amounts) {
        for share in [bound.own] + bound.above { close(share, counted: amounts) }
    }

    private func close(_ share: GrantShare, counted amounts: Amounts) {
        let owner = BudgetOwner.grant("\(share.grant)")
        // One that stays is closed by the next start; until then the next call of the grant opens it anew.
        calls.end("\(share.grant)") { isLast in
            if isLast {
                try? service.budgets.close(owner)
            } else {
                try? service.budgets.count(
                    tokens: Int(clamping: amounts.tokens), microUSD: Int(clamping: amounts.microUSD), at: owner)
            }
        }
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

    /// Closes the accounts that daemons of before left behind: of trees whose root is gone, and of calls that none of them lived to
    /// count at their grants.
    private static func sweep(_ budgets: BudgetBook, _ grants: GrantBook) throws(AegisError) {
        for account in budgets.reports() {
            switch account.owner {
            case .agent: continue
            case .tree(let root): guard budgets.report(.agent(root)) == nil else { continue }
            case .grant(let id):
                let used = Amounts(
                    tokens: UInt64(clamping: account.usedTokens), microUSD: UInt64(clamping: account.usedMicroUSD))
                // Rather counted twice than not at all, where this start ends in between.
                if let id = GrantID(parsing: id) { try grants.recall(used, at: id) }
            }
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
        request.leave = question.leave
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

    /// Counts it no more, and says whether it was the last one.
    func end(_ grant: String, _ body: (_ isLast: Bool) -> Void) {
        counts.withLock { counts in
            let left = (counts[grant] ?? 1) - 1
            counts[grant] = left > 0 ? left : nil
            body(left <= 0)
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
