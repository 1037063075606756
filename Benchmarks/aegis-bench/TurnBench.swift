import AegisAgents
import AegisAudit
import AegisCapabilities
import AegisConfig
import AegisCore
import AegisIO
import AegisInference
import AegisJSON
import AegisStore
import AegisTools
import LinuxSys
import Synchronization

/// What the daemon adds to an agent's work: a tool call through the gate, a step of a turn, an agent that does nothing. The real
/// parts in this process, with a model and a tool that take no time. Needs no daemon.
struct TurnBench: Sendable {
    let isQuick: Bool

    func run() async throws -> [ResultTable] { [try await gate(), try await turns(), try await objects()] }

    // MARK: The gate

    private func gate() async throws -> ResultTable {
        var table = ResultTable(
            title: "A tool call through the gate",
            note:
                "Target: p50 at most 30 µs, saved: lookup, schema, admission by one of 100 grants, two records in the ledger around "
                + "a tool that returns its input. Synced: a checkpoint, which signs and syncs the ledger, after each call; the daemon "
                + "makes one for all calls of 100 ms.",
            head: ["call", "samples", "p50 µs", "p99 µs"])
        let workshop = try Workshop(InstantDesk(steps: 0))
        let count = isQuick ? 5000 : 50_000
        let grants = ["tool: echo"] + (0..<99).map { "file_read: /data/d\($0)/**" }
        let holder = HolderID("a-0123456789abcdef")
        try workshop.grants.issue(try grants.map { try GrantSpec(parsing: $0) }, to: holder)
        let context = ToolContext(
            holder: holder, agent: holder.description, name: "worker", trace: "t-0123456789abcdef", step: 1,
            callID: "c-1", grants: workshop.grants, audit: workshop.ledger)
        let (gate, ledger) = (workshop.gate, workshop.ledger)
        @Sendable func measure(_ count: Int, _ after: @Sendable () throws -> Void) async throws -> Samples {
            var samples = Samples()
            for number in 0..<(count + 200) {
                let start = SystemTime.monotonic
                let reply = await gate.call("echo", input: ["message": "hello"], context)
                try after()
                let elapsed = Double(SystemTime.monotonic - start) / 1000
                guard !reply.isError else { throw Runner.Failure(description: reply.text) }
                if number >= 200 { samples.add(elapsed) }
            }
            return samples
        }
        func add(_ name: String, _ samples: Samples) {
            table.rows.append([name, "\(samples.values.count)", short(samples.p50), short(samples.p99)])
        }
        add("saved", try await workshop.loop.run { try await measure(count) {} })
        let synced = isQuick ? 200 : 1000
        add("synced", try await workshop.loop.run { try await measure(synced) { _ = try ledger.checkpoint() } })
        await workshop.close()
        return table
    }

    // MARK: A turn

    private func turns() async throws -> ResultTable {
        let steps = 50
        let saved = try await work(isQuick ? 20 : 200, of: steps)
        let synced = try await work(isQuick ? 4 : 20, of: steps, isSynced: true)
        var table = ResultTable(
            title: "One step of a turn: what is neither model nor tool",
            note:
                "Target: p50 at most 100 µs, saved. From a model's answer to the next question: the answer, the intent and the outcome saved "
                + "in SQLite, the call through the gate with its records, the conversation measured and put together. Turns of \(steps) "
                + "steps, \(saved.offered) tools offered. Synced: after each step one more row that is committed and synced, and with it "
                + "all before it, as the daemon does at the end of a turn; and a checkpoint of the ledger.",
            head: ["step", "samples", "p50 µs", "p99 µs"])
        func add(_ name: String, _ desk: InstantDesk, _ range: Range<Int>) {
            let samples = desk.samples(turns: Self.warmUp..., steps: range)
            table.rows.append([name, "\(samples.values.count)", short(samples.p50), short(samples.p99)])
        }
        add("saved", saved, 0..<steps)
        add("saved, the first ten of a turn", saved, 0..<10)
        add("saved, the last ten of a turn", saved, (steps - 10)..<steps)
        add("synced", synced, 0..<steps)
        return table
    }

    /// Turns that are not counted.
    private static let warmUp = 5

    /// Has agents do turns, one after the other.
    private func work(_ turns: Int, of steps: Int, isSynced: Bool = false) async throws -> InstantDesk {
        let desk = InstantDesk(steps: steps)
        let workshop = try Workshop(desk)
        if isSynced { desk.afterEachStep(try workshop.makeSync()) }
        for _ in 0..<(turns + Self.warmUp) {
            let (_, result) = try await workshop.directory.spawnAndRun(
                Workshop.manifest("on-demand"), "go", by: .person(uid: 0))
            guard result.stop == .complete, result.iterations == steps + 1 else {
                throw Runner.Failure(description: "a turn ended with \(result.stop) after \(result.iterations)")
            }
        }
        await workshop.close()
        return desk
    }

    // MARK: An agent at rest

    private func objects() async throws -> ResultTable {
        let count = isQuick ? 500 : 4000
        return ResultTable(
            title: "An agent that rests, in memory",
            note:
                "Target: at most 8 KiB. Memory that no file backs, of this process, for each of \(count) more agents: record and "
                + "manifest, session, mailbox, grants, the place in the directory, and what the allocator needs for them. A grant for "
                + "the model comes on top of those of the manifest.",
            head: ["agent", "KiB"],
            rows: [
                [
                    "with a grant for one tool",
                    short(try await kilobytes(Workshop.manifest("persistent", grants: 1), count)),
                ],
                ["with six grants", short(try await kilobytes(Workshop.manifest("persistent"), count))],
            ])
    }

    private func kilobytes(_ manifest: ConfigFile, _ count: Int) async throws -> Double {
        let workshop = try Workshop(InstantDesk(steps: 0))
        func spawn(_ count: Int) async throws {
            for _ in 0..<count { _ = try await workshop.directory.spawn(manifest, by: .person(uid: 0)) }
        }
        // Until what is made once, and what the database keeps in memory, is there.
        try await spawn(count / 4)
        let own = ProcessView(pid: CurrentProcess.pid)
        let before = own.anonymous
        try await spawn(count)
        let kilobytes = Double(own.anonymous - before) / Double(count)
        await workshop.close()
        return kilobytes
    }
}

/// All that agents need, as the daemon puts it together, with a model that a bench brings.
private final class Workshop: Sendable {
    let loop: EventLoop
    let ledger: Ledger
    let grants: GrantBook
    let gate: ToolGate
    let directory: AgentDirectory
    private let folder: String
    private let database: Database
    private let scope: TaskScope

    init(_ desk: any ModelDesk) throws {
        folder = "/var/tmp/aegis-bench-turns-\(CurrentProcess.pid)"
        try? Files.removeTree(folder)
        try Files.makeDirectories(folder)
        ledger = try Ledger(path: "\(folder)/audit", keyFile: "\(folder)/key", node: "0badcafe")
        database = try Database.open(
            path: "\(folder)/aegis.db", applicationID: 1,
            migrations: SessionStore.migrations + GrantStore.migrations + SessionStore.mailMigrations
                + SessionStore.indexMigrations + SessionStore.placeMigrations)
        let kept = try GrantStore(database, before: GrantLedger(ledger))
        grants = GrantBook(kept.snapshot, journal: kept)
        loop = try EventLoop.startThread(name: "agents")
        scope = TaskScope(on: loop)
        let registry = try ToolRegistry([EchoTool()] + FileTools.all)
        gate = ToolGate(registry, clock: loop.clock)
        var limits = AgentLimits()
        limits.live = 10_000
        directory = AgentDirectory(
            AgentServices(
                store: SessionStore(database), models: desk, registry: registry, tools: gate, grants: grants,
                audit: ledger, scope: scope, now: { Timestamp.now() }, clock: loop.clock, logger: .none),
            limits: limits)
    }

    /// What syncs all that is saved: the database with a commit of its own, the ledger with a checkpoint.
    func makeSync() throws -> @Sendable () throws -> Void {
        try database.run(.synced, "CREATE TABLE synced(time INTEGER NOT NULL) STRICT", [])
        try database.run(.synced, "INSERT INTO synced(time) VALUES (0)", [])
        return { [database, ledger] in
            try database.run(.synced, "UPDATE synced SET time = ?", [Int64(clamping: SystemTime.monotonic)])
            try ledger.checkpoint()
        }
    }

    func close() async {
        await directory.end()
        await scope.end()
        loop.stop()
        ledger.close()
        database.close()
        try? Files.removeTree(folder)
    }

    static func manifest(_ lifecycle: String, grants: Int = 6) -> ConfigFile {
        let all = [
            "tool: echo", "tool: file_read", "tool: file_write", "tool: file_list", "file_read: /workspace/**",
            "file_write: /workspace/out/**",
        ]
        let text = """
            name: worker
            model: default
            lifecycle: \(lifecycle)
            max_iterations: 1000
            system_prompt: You read what is in the workspace and answer questions about it.
            capabilities: [\(all.prefix(grants).map { "\"\($0)\"" }.joined(separator: ", "))]
            """
        return ConfigFile(name: "bench", bytes: Array(text.utf8))
    }
}

/// A model that asks for a tool so many times, then answers; it takes no time and notes when it was asked.
private final class InstantDesk: ModelDesk {
    private struct State {
        /// When it gave its last answer.
        var answered: UInt64 = 0
        var step = 0
        var offered = 0
        var turns: [[Double]] = [[]]
        /// Belongs to the step.
        var sync: (@Sendable () throws -> Void)?
    }
    private let state = Mutex(State())
    private let steps: Int

    init(steps: Int) { self.steps = steps }

    func afterEachStep(_ sync: @escaping @Sendable () throws -> Void) { state.withLock { $0.sync = sync } }

    var offered: Int { state.withLock { $0.offered } }

    func samples(turns: PartialRangeFrom<Int>, steps: Range<Int>) -> Samples {
        var samples = Samples()
        for turn in state.withLock({ $0.turns.dropLast() })[turns] { for value in turn[steps] { samples.add(value) } }
        return samples
    }

    func window(of alias: String) -> Int { 200_000 }
    func quote(_ question: ModelQuestion) -> ModelQuote { ModelQuote(inputTokens: 1000, prices: nil) }
    func admit(_ record: AgentRecord, _ budget: AgentManifest.Budget?) {}
    func open(_ bound: SpendingBound) {}
    func close(_ bound: SpendingBound, counted amounts: Amounts) {}
    func dismiss(_ record: AgentRecord) {}
    func spending(of agent: String) -> ModelSpending? { nil }

    func answer(_ question: ModelQuestion) async throws(AegisError) -> ModelReply {
        if let sync = state.withLock({ $0.step > 0 ? $0.sync : nil }) {
            do { try sync() } catch { throw .failed("internal-error", "\(error)") }
        }
        let asked = SystemTime.monotonic
        return state.withLock { state in
            if state.step > 0 { state.turns[state.turns.count - 1].append(Double(asked - state.answered) / 1000) }
            state.offered = question.tools.count
            let usage = TokenUsage(input: 1000, output: 50)
            guard state.step < steps else {
                state.step = 0
                state.turns.append([])
                return ModelReply(blocks: [.text("done")], stop: .endTurn, usage: usage, model: "instant")
            }
            state.step += 1
            let use = ToolUse(
                id: "call_\(state.step)", name: "echo", input: ["message": .string("what step \(state.step) says")])
            state.answered = SystemTime.monotonic
            return ModelReply(blocks: [.toolUse(use)], stop: .toolUse, usage: usage, model: "instant")
        }
    }
}
