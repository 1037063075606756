package import AegisConfig
package import AegisCore
internal import AegisIO
internal import AegisInference

/// Takes goals and sees to it that each is worked on to its end: a goal that was taken survives the daemon.
///
/// For each a bootstrap agent is spawned, which plans and spawns others; it goes with its answer, the goal stays to be looked at.
package actor GoalQueue {
    private let directory: AgentDirectory
    private let store: GoalStore
    private let services: AgentServices
    /// The manifest of the bootstrap agent, by the name that a goal gives; nil is the daemon's own.
    private let manifest: Manifests
    private let limit: Int
    private var goals: [String: Goal] = [:]
    private var order: [String] = []
    private var running: Set<String> = []
    private var waiters: [String: [Waiter<Goal>]] = [:]
    /// What ends goals whose time is limited.
    private var timers: [String: TaskScope.Handle] = [:]
    /// Goals that are over and whose agents are being stopped.
    private var ending: Set<String> = []

    /// Finds the manifest of a name for an owner, with the text of its prompt's file if it names one.
    package typealias Manifests =
        @Sendable (String?, UInt32) throws(AegisError) -> (file: ConfigFile, prompt: PromptReader)

    /// Goals of one owner that are over and still known, with their workspaces.
    package static let remembered = 1000
    /// Goals of one owner that may wait.
    package static let queueLimit = 1000
    /// What the agents of a goal may take where neither it nor its manifest says how much: nobody watches a queue.
    package static let usualTokens: UInt64 = 1_000_000

    /// Makes an empty queue; `recover` fills it.
    ///
    /// - Parameters:
    ///   - directory: where agents live.
    ///   - store: where goals are kept.
    ///   - services: what agents need.
    ///   - limit: how many are worked on at once.
    ///   - manifest: the bootstrap agent's, by the name that a goal gives.
    package init(
        _ directory: AgentDirectory, store: GoalStore, services: AgentServices, limit: Int = 4,
        manifest: @escaping Manifests
    ) {
        self.directory = directory
        self.store = store
        self.services = services
        self.limit = limit
        self.manifest = manifest
    }

    /// Takes a goal.
    ///
    /// - Returns: the goal, which is not lost from here on.
    /// - Throws: `goals-full`; `approval-unknown`; `capability-without-effect`; what else is wrong with it.
    package func submit(
        _ text: String, owner: UInt32, group: UInt32 = 65_534, options: SpawnOptions = SpawnOptions(),
        manifest name: String? = nil, workspace: String? = nil, maxTime: TimeSpan? = nil
    ) async throws(AegisError) -> Goal {
        guard text.contains(where: { !$0.isWhitespace }) else {
            throw .usage("the goal is empty", hint: "say what is to be done")
        }
        guard text.utf8.count <= AgentDirectory.messageLimit else {
            throw AegisError(.tooLarge, "message-too-large", "the goal has \(text.utf8.count) bytes")
        }
        guard goals.values.count(where: { !$0.isOver && $0.owner == owner }) < Self.queueLimit else {
            throw .conflict(
                "goals-full", "\(Self.queueLimit) goals wait already", hint: "cancel some: aegis goal cancel")
        }
        // What is wrong is said now, and not to nobody when its turn comes.
        let (file, prompt) = try manifest(name, owner)
        var checked = try AgentManifest(file, prompt: prompt)
        let source = Goal.Source(
            name: file.name, text: String(decoding: file.bytes, as: UTF8.self), prompt: checked.systemPrompt)
        var options = options
        if checked.budget == nil, options.maxTokens == nil, options.maxMicroUSD == nil {
            options.maxTokens = Self.usualTokens
        }
        try options.apply(to: &checked)
        try check(checked)
        var goal = Goal(
            id: await directory.newID("goal-"), text: text, owner: owner, group: group, createdAt: services.now())
        (goal.options, goal.source) = (options, source)
        (goal.manifest, goal.workspace, goal.maxTime) = (name, workspace, maxTime)
        try keep(goal)
        pump()
        return goal
    }

    /// The manifest of the agent that takes goals which name none.
    ///
    /// - Throws: why it cannot be read.
    package nonisolated func usualManifest(for owner: UInt32) throws(AegisError) -> AgentManifest {
        let (file, prompt) = try manifest(nil, owner)
        let usual = try AgentManifest(file, prompt: prompt)
        try check(usual)
        return usual
    }

    /// What spawning its agent would refuse.
    private nonisolated func check(_ manifest: AgentManifest) throws(AegisError) {
        try manifest.checkApprovals(services.registry)
        try manifest.checkCapabilities()
    }

    /// Goals, oldest first.
    package var all: [Goal] { order.compactMap { goals[$0].map(current) } }

    /// A goal with what its agents have used until now.
    private func current(_ goal: Goal) -> Goal {
        guard goal.state == .running, let agent = goal.agent else { return goal }
        var goal = goal
        goal.take(services.models.spending(of: agent))
        return goal
    }

    /// One goal, by its id or the beginning of it.
    ///
    /// - Throws: `goal-not-found`.
    package func find(_ word: String) throws(AegisError) -> Goal {
        if let goal = goals[word] { return current(goal) }
        let fitting = order.filter { $0.hasPrefix(word) || $0.hasPrefix("goal-\(word)") }
        guard let id = fitting.first, fitting.count == 1, !word.isEmpty, let goal = goals[id] else {
            throw .notFound(
                "goal-not-found", "there is no goal '\(word)'", hint: "'aegis goal list' lists those that are known")
        }
        return current(goal)
    }

    /// Waits until a goal is over and nothing works for it any more; nil when the waiting task was cancelled.
    package func result(of id: String) async throws(AegisError) -> Goal? {
        let goal = try find(id)
        guard !goal.isOver || ending.contains(goal.id) else { return goal }
        let waiter = Waiter<Goal>()
        waiters[goal.id, default: []].append(waiter)
        let result = await waiter.value()
        if result == nil { waiters[goal.id]?.removeAll { $0 === waiter } }
        return result
    }

    /// How many wait for goals to be over.
    var waiting: Int { waiters.values.reduce(0) { $0 + $1.count } }

    /// Ends a goal: its agents are stopped, all that they have spawned with them.
    ///
    /// - Returns: the goal as it stands then.
    package func cancel(_ word: String) async throws(AegisError) -> Goal {
        var goal = try find(word)
        guard !goal.isOver else { return try await result(of: goal.id) ?? goal }
        goal.state = .cancelled
        goal.stop = .cancelled
        goal.endedAt = services.now()
        try await end(goal, "its goal was cancelled")
        return goal
    }

    /// Goes on with the goals that the last daemon had; agents must have been brought back before.
    package func recover() async throws(AegisError) {
        var unreadable: Set<String> = []
        let kept = try store.all { id, error in
            unreadable.insert(id)
            services.logger.error("a goal cannot be brought back", ("goal", id), ("error", "\(error)"))
        }
        for goal in kept {
            goals[goal.id] = goal
            order.append(goal.id)
        }
        // What a daemon was killed over: agents whose goal is over, or has another agent.
        for process in directory.all where process.record.parent == nil {
            guard let id = process.record.goal, !unreadable.contains(id) else { continue }
            if let goal = goals[id], !goal.isOver, goal.agent == process.id { continue }
            let spent = try? await directory.stop(process.id, reason: "its goal is over, or has another agent")
            if let goal = goals[id], goal.agent == process.id { book(spent, to: goal) }
        }
        for goal in all where goal.state == .running { work(on: goal.id) }
        pump()
    }

    // MARK: Work

    private func keep(_ goal: Goal) throws(AegisError) {
        // Each owner's own: nobody's results go because of others.
        let over =
            goal.isOver
            ? order.filter { $0 != goal.id && goals[$0]?.isOver == true && goals[$0]?.owner == goal.owner } : []
        let old = Set(over.prefix(max(0, over.count + 1 - Self.remembered)))
        try store.save(goal, forgetting: Array(old))
        record(goal, services.audit)
        hold(goal)
        guard !old.isEmpty else { return }
        for id in old { if let agent = goals.removeValue(forKey: id)?.agent { services.forgotten(agent) } }
        order.removeAll { old.contains($0) }
    }

    private func hold(_ goal: Goal) {
        if goals[goal.id] == nil { order.append(goal.id) }
        goals[goal.id] = goal
    }

    private func tell(_ goal: Goal) {
        for waiter in waiters.removeValue(forKey: goal.id) ?? [] { waiter.resolve(goal) }
    }

    /// Begins goals, oldest first, those of whoever has the fewest under way before others'.
    private func pump() {
        while running.count < limit {
            let busy = running.reduce(into: [UInt32: Int]()) { busy, id in
                if let owner = goals[id]?.owner { busy[owner, default: 0] += 1 }
            }
            let queued = all.filter { $0.state == .queued && !running.contains($0.id) }
            guard let next = queued.min(by: { busy[$0.owner, default: 0] < busy[$1.owner, default: 0] }) else { return }
            work(on: next.id)
        }
    }

    private func work(on id: String) {
        guard running.insert(id).inserted else { return }
        services.scope.spawn("goal \(id)") { [self] in
            await carryOut(id)
            await leave(id)
        }
    }

    private func leave(_ id: String) {
        running.remove(id)
        guard !Task.isCancelled else { return }
        pump()
    }

    private func carryOut(_ id: String) async {
        do {
            let process = try await start(id)
            watchTime(of: id)
            guard let goal = goals[id], goal.state == .running, let trace = goal.trace else { return }
            guard let result = try await directory.reply(trace, of: process.id, wait: true) else { return }
            try await finish(id, inTime(result, id))
        } catch is CancellationError {
            // The daemon ends; the next one goes on.
        } catch {
            let problem = TurnProblem(AgentProcess.aegis(error))
            try? await finish(id, TurnResult(trace: goals[id]?.trace ?? "", stop: .error, problem: problem))
        }
    }

    /// Ends a goal that is worked on for longer than it may be; the time that a daemon before this one took counts.
    private func watchTime(of id: String) {
        guard let end = goals[id]?.deadline else { return }
        let (clock, now) = (services.clock, services.now)
        timers[id] = services.scope.spawn("time of \(id)") { [self] in
            while now() < end {
                do { try await clock.sleep(for: end.since(now())) } catch { return }
            }
            await runOut(id)
        }
    }

    private func runOut(_ id: String) async {
        // The end of a goal ends its timer, which is what runs here.
        timers[id] = nil
        guard let goal = goals[id] else { return }
        try? await finish(id, Self.timeout(of: goal))
    }

    /// What has failed once the time is over has failed because of that: models are asked until then and no longer, whoever notices
    /// it first.
    private func inTime(_ result: TurnResult, _ id: String) -> TurnResult {
        guard result.stop == .error, let goal = goals[id], let end = goal.deadline, services.now() >= end else {
            return result
        }
        return Self.timeout(of: goal)
    }

    private static func timeout(of goal: Goal) -> TurnResult {
        let time = goal.maxTime.map { "within \($0)" } ?? "in time"
        let error = AegisError(
            .timeout, "goal-timeout", "it was not reached \(time), and its agents were stopped",
            hint: "give it more time, or less to do")
        return TurnResult(trace: goal.trace ?? "", stop: .error, problem: TurnProblem(error))
    }

    /// The agent of a goal with its message: found again after a restart, or spawned.
    private func start(_ id: String) async throws -> AgentProcess {
        guard var goal = goals[id], !goal.isOver else { throw CancellationError() }
        if let agent = goal.agent, let process = try? directory.find(agent), let trace = goal.trace {
            if try await !directory.knows(trace, of: process) {
                guard goals[id]?.isOver == false else { throw CancellationError() }
                _ = try await directory.send(goal.text, to: process.id, trace: trace)
            }
            return process
        }
        let (file, prompt) = try manifest(of: goal)
        // From here on its time counts: its agents are told when that is over.
        goal.startedAt = goal.startedAt ?? services.now()
        let process = try await directory.spawn(
            file, by: .person(uid: goal.owner, gid: goal.group), options: goal.options, goal: goal, prompt: prompt)
        let trace = await directory.newID("t-")
        do {
            // It may have been cancelled meanwhile.
            guard goals[id]?.isOver == false else { throw CancellationError() }
            (goal.agent, goal.trace, goal.state) = (process.id, trace, .running)
            // Saved before the message is delivered: whoever goes on knows which message it was.
            try keep(goal)
            _ = try await directory.send(goal.text, to: process.id, trace: trace)
        } catch {
            _ = try? await directory.stop(process.id, reason: "its goal was not begun")
            throw error
        }
        return process
    }

    /// What a goal is worked on by: the manifest as it was when the goal was taken, whatever has become of it since.
    private func manifest(of goal: Goal) throws(AegisError) -> (file: ConfigFile, prompt: PromptReader) {
        guard let source = goal.source else { return try manifest(goal.manifest, goal.owner) }
        return (ConfigFile(name: source.name, bytes: Array(source.text.utf8)), { _ in source.prompt })
    }

    private func finish(_ id: String, _ result: TurnResult) async throws {
        guard var goal = goals[id], !goal.isOver else { return }
        goal.state = .ended
        goal.response = result.response
        goal.stop = result.stop
        goal.problem = result.problem
        goal.endedAt = services.now()
        try await end(goal, "its goal is reached")
    }

    /// Keeps a goal that is over, stops its agents, and tells whoever waits: who is told finds nothing of it at work any more.
    ///
    /// - Throws: why it could not be kept; it is over all the same, and is kept once that is possible.
    private func end(_ goal: Goal, _ reason: String) async throws(AegisError) {
        var goal = goal
        goal.source = nil
        if let agent = goal.agent { goal.take(services.models.spending(of: agent)) }
        var failure: AegisError?
        do throws(AegisError) { try keep(goal) } catch {
            // Nothing may work on for a goal that is over: neither beyond its time nor against its owner's will.
            failure = error
            services.logger.error("the end of a goal is not kept yet", ("goal", goal.id), ("error", error.message))
            hold(goal)
            keepLater(goal)
        }
        timers.removeValue(forKey: goal.id)?.cancel()
        ending.insert(goal.id)
        if let agent = goal.agent { goal = book(try? await directory.stop(agent, reason: reason), to: goal) }
        ending.remove(goal.id)
        tell(goal)
        if let failure { throw failure }
    }

    /// Keeps what the agents of a goal that is over have used in all: what ran until they were stopped counts.
    @discardableResult
    private func book(_ spending: ModelSpending?, to goal: Goal) -> Goal {
        var booked = goal
        booked.take(spending)
        guard booked != goal, goals[goal.id] != nil else { return goal }
        hold(booked)
        do throws(AegisError) { try store.save(booked) } catch {
            services.logger.error("what a goal has used is not kept", ("goal", goal.id), ("error", error.message))
        }
        return booked
    }

    private func keepLater(_ goal: Goal) {
        services.scope.spawn("end of \(goal.id)") { [self, clock = services.clock] in
            repeat {
                do { try await clock.sleep(for: Self.keepPause) } catch { return }
            } while await !keeps(goal)
        }
    }

    /// As it is now: what its agents used in all may have been booked meanwhile.
    private func keeps(_ goal: Goal) -> Bool { (try? keep(goals[goal.id] ?? goal)) != nil }

    private static let keepPause = Duration.seconds(5)
}
