import AegisAudit
import AegisAuditTestSupport
import AegisCapabilities
import AegisConfig
import AegisCore
import AegisIO
import AegisInference
import AegisJSON
import AegisStore
import AegisTestSupport
import AegisTools
import Dispatch
import Synchronization
import Testing

@testable import AegisAgents

/// A model that says what a closure says, one question after the other.
final class ClosureDesk: ModelDesk {
    typealias Answer = @Sendable (ModelQuestion, Int) async throws(AegisError) -> ModelReply
    private let answer: Answer
    private let count = Mutex(0)
    let size: Int
    let prices: [ModelPrice]?
    var questions: Int { count.withLock { $0 } }
    init(window: Int = 100_000, prices: [ModelPrice]? = nil, _ answer: @escaping Answer) {
        size = window
        self.prices = prices
        self.answer = answer
    }
    func window(of alias: String) -> Int { size }
    func admit(_ record: AgentRecord, _ budget: AgentManifest.Budget?) {}
    func open(_ bound: SpendingBound) {}
    func close(_ bound: SpendingBound, counted amounts: Amounts) {}
    func dismiss(_ record: AgentRecord) { _ = spent.withLock { $0.removeValue(forKey: record.id) } }
    private let spent = Mutex<[String: ModelSpending]>([:])
    func spending(of agent: String) -> ModelSpending? { spent.withLock { $0[agent] } }
    func quote(_ question: ModelQuestion) -> ModelQuote { ModelQuote(inputTokens: 100, prices: prices) }
    func answer(_ question: ModelQuestion) async throws(AegisError) -> ModelReply {
        let number = count.withLock {
            $0 += 1; return $0
        }
        let reply = try await answer(question, number)
        let cost = prices?.first?.cost(of: reply.usage) ?? 0
        question.bill.add(tokens: reply.usage.total, microUSD: cost)
        spent.withLock { spent in
            for account in Set([question.tree, question.agent]) {
                var sum = spent[account] ?? ModelSpending(inputTokens: 0, outputTokens: 0, microUSD: 0)
                sum.inputTokens += reply.usage.totalInput
                sum.outputTokens += reply.usage.output
                sum.microUSD += cost
                spent[account] = sum
            }
        }
        return reply
    }
    /// A model that answers nobody; `asked` is resolved by the first question.
    static func silent(_ asked: Waiter<Bool>? = nil) -> ClosureDesk {
        ClosureDesk { _, _ throws(AegisError) in
            asked?.resolve(true)
            await untilCancelled()
            throw .failed("cancelled", "given up")
        }
    }
    static func text(_ text: String, stop: StopReason = .endTurn) -> ModelReply {
        ModelReply(
            blocks: [.text(text)], stop: stop, usage: TokenUsage(input: 100, output: 10), model: "m")
    }
    static func calls(_ uses: ToolUse...) -> ModelReply {
        ModelReply(
            blocks: uses.map { .toolUse($0) }, stop: .toolUse, usage: TokenUsage(input: 100, output: 10), model: "m")
    }
}

/// A model that has the thread of whoever asks it stand still, the first time until it is told to go on.
final class StuckDesk: ModelDesk {
    /// Brings something once it does.
    let isStuck = Waiter<Bool>()
    private let gate = DispatchSemaphore(value: 0)
    func release() { gate.signal() }
    func window(of alias: String) -> Int { 100_000 }
    func admit(_ record: AgentRecord, _ budget: AgentManifest.Budget?) {}
    func open(_ bound: SpendingBound) {}
    func close(_ bound: SpendingBound, counted amounts: Amounts) {}
    func dismiss(_ record: AgentRecord) {}
    func spending(of agent: String) -> ModelSpending? { nil }
    func quote(_ question: ModelQuestion) -> ModelQuote {
        isStuck.resolve(true)
        gate.wait()
        return ModelQuote(inputTokens: 100, prices: nil)
    }
    func answer(_ question: ModelQuestion) -> ModelReply { ClosureDesk.text("at last") }
}

/// A tool that counts its calls.
final class CountingTool: Tool {
    let declaration: ToolDeclaration
    private let count = Mutex(0)
    private let body: @Sendable (JSONValue) async throws -> ToolReply
    var calls: Int { count.withLock { $0 } }
    init(_ name: String, isIdempotent: Bool = false, _ body: @escaping @Sendable (JSONValue) async throws -> ToolReply)
    {
        declaration = ToolDeclaration(
            name: name, description: "counts", input: ["type": "object"], effects: .writes, isIdempotent: isIdempotent)
        self.body = body
    }
    func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        count.withLock { $0 += 1 }
        return try await body(input)
    }
}

/// A journal that keeps nothing.
private struct NoJournal: GrantJournal {
    func record(_ event: GrantEvent, action: Action?) {}
    func denied(_ action: Action, by holder: HolderID, _ denial: Denial, at time: Timestamp) {}
}

/// All that agents need, with a real database and a real gate.
final class World: Sendable {
    let folder: TemporaryDirectory
    let database: Database
    let loop: EventLoop
    let scope: TaskScope
    let grants: GrantBook
    let trail = MemoryTrail()
    let registry: ToolRegistry
    let directory: AgentDirectory
    let store: SessionStore

    init(
        _ desk: any ModelDesk, tools: [any Tool] = [], limits: AgentLimits = AgentLimits(), database: Database? = nil,
        sandboxes: (any AgentSandboxes)? = nil, desk approvals: (any ApprovalDesk)? = nil,
        clock: (any Clock<Duration>)? = nil, now: @escaping @Sendable () -> Timestamp = { Timestamp.now() }
    ) throws {
        folder = try TemporaryDirectory()
        self.database =
            try database
            ?? Database.open(
                path: "\(folder.path)/aegis.db", applicationID: 1,
                migrations: SessionStore.migrations + ManifestStore.migrations + GoalStore.migrations
                    + GrantStore.migrations + SessionStore.mailMigrations + SessionStore.indexMigrations
                    + SessionStore.placeMigrations)
        let kept = try GrantStore(self.database, before: NoJournal())
        grants = GrantBook(kept.snapshot, journal: kept, clock: now)
        loop = try EventLoop.startThread(name: "agents")
        scope = TaskScope(on: loop)
        store = SessionStore(self.database)
        registry = try ToolRegistry(tools)
        directory = AgentDirectory(
            AgentServices(
                store: store, models: desk, registry: registry, tools: ToolGate(registry), grants: grants, audit: trail,
                desk: approvals, sandboxes: sandboxes, scope: scope, now: now, clock: clock ?? loop.clock,
                logger: Logger { _ in }), limits: limits)
        for tool in [SpawnAgentTool(directory), SpawnAgentsTool(directory)] as [any Tool] {
            try registry.register(tool)
        }
        for tool in [AgentSendTool(directory), AgentAskTool(directory)] as [any Tool] { try registry.register(tool) }
        if sandboxes != nil { try registry.register(ExecTool(directory)) }
    }

    func end() async {
        await scope.end()
        loop.stop()
    }

    static func file(_ name: String = "worker", _ rest: String = "") -> ConfigFile {
        ConfigFile(name: "m", bytes: Array("name: \(name)\nmodel: m\n\(rest)".utf8))
    }
}
