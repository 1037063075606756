package import AegisCapabilities
internal import AegisCore
internal import AegisIO
internal import AegisInference
internal import AegisTools
internal import Synchronization

/// A live agent: its session, its mailbox, and at most one turn at a time.
///
/// It does only what its session says comes next, and it does nothing before the step that tells of it is saved: whoever makes it
/// anew from its steps goes on where it was. Nothing runs while there is nothing to do.
package actor AgentProcess {
    /// Messages that may wait.
    package static let mailboxLimit = 64

    /// Its id, `a-` and 16 hexadecimal digits.
    package nonisolated let id: String
    package nonisolated let record: AgentRecord
    package nonisolated let manifest: AgentManifest
    let services: AgentServices
    /// Tells the directory of what a turn came to.
    let ended: @Sendable (AgentProcess, TurnResult) async -> Void
    /// Finds the tools that it has beside those of the node.
    let findTools: @Sendable (AgentProcess) async -> OwnTools?
    /// The call of its parent that started it.
    let startedBy: CallSpending?
    /// Its session.
    package nonisolated let log: SessionLog
    /// The trace of each message that has no result yet, and who waits for it.
    private var waiters: [String: [Waiter<TurnResult>]] = [:]
    private var mailbox: [Mail] = [] { didSet { posture.withLock { $0.mail = mailbox.count } } }
    private var worker: TaskScope.Handle? { didSet { posture.withLock { $0.isAtWork = worker != nil } } }
    private(set) var isStopping = false { didSet { posture.withLock { $0.isStopping = isStopping } } }
    var canSummarize = true
    /// How many tokens of a conversation its model takes, where that has shown to be less than its window has, and how often in a row
    /// that was halved. It is of one turn: the next may be of other words.
    var learned: (room: Int, halvings: Int)?
    /// The turn that has failed for those who wait, and whose end could not be saved yet.
    var failure: (trace: String, problem: TurnProblem)? {
        didSet { posture.withLock { $0.hasFailed = failure != nil } }
    }
    /// Messages that were taken back and are saved still.
    var leftovers: Set<String> = []
    /// Messages whose senders wait for what comes of them.
    private var awaited: Set<String> = []
    /// What could not be saved will be tried again.
    var isRetryDue = false
    /// What lists show of it beside its session: it may be busy, and nobody waits for it to look.
    private nonisolated let posture: Mutex<Posture>
    private struct Posture {
        var mail: Int
        var isAtWork = false
        var isStopping = false
        var isLeaving = false
        var isRecovering = false
        var hasFailed = false
    }

    init(
        record: AgentRecord, manifest: AgentManifest, session: Session, mail: [Mail] = [], services: AgentServices,
        startedBy: CallSpending? = nil,
        findTools: @escaping @Sendable (AgentProcess) async -> OwnTools? = { _ in nil },
        ended: @escaping @Sendable (AgentProcess, TurnResult) async -> Void
    ) {
        id = record.id
        self.record = record
        self.manifest = manifest
        log = SessionLog(
            agent: record.id, session: session, store: services.store, now: services.now,
            failed: Self.unsaved(record, services))
        self.services = services
        self.startedBy = startedBy
        self.findTools = findTools
        self.ended = ended
        posture = Mutex(Posture(mail: mail.count))
        mailbox = mail
    }

    nonisolated var session: Session { log.current }

    /// The grants' holder.
    package nonisolated var holder: HolderID { HolderID(id) }

    /// The trace that it works on, or will again.
    package nonisolated var trace: String? { trace(session) }

    private nonisolated func trace(_ session: Session) -> String? {
        (session.turn ?? pausing(session))?.trace
    }

    /// What lists show of where it stands.
    package struct Standing: Sendable {
        package var state: ProcessState
        /// The trace that it works on, or will again.
        package var trace: String?
        /// How often its model was called in its turn.
        package var step: Int?
        /// Messages that wait.
        package var mail: Int
    }

    /// Where it stands, as of its last saved step.
    package nonisolated var standing: Standing {
        let (posture, session) = (posture.withLock { $0 }, session)
        return Standing(
            state: state(posture, session), trace: trace(session), step: session.turn?.iterations, mail: posture.mail)
    }

    private nonisolated func state(_ posture: Posture, _ session: Session) -> ProcessState {
        if posture.isStopping { return posture.isAtWork ? .stopping : .stopped }
        if posture.isRecovering || restartPause(session) != nil && !posture.hasFailed { return .restarting }
        if posture.hasFailed, posture.mail == 0 { return .idle }
        return session.turn != nil || posture.mail > 0 ? .working : .idle
    }

    // MARK: Messages

    /// Puts a message into the mailbox.
    ///
    /// - Parameters:
    ///   - mail: the message.
    ///   - isAwaited: whether its sender waits for what comes of it, and is told at once when it cannot be begun.
    /// - Returns: what gives the result once there is one.
    /// - Throws: `mailbox-full`; `agent-stopped`.
    func deliver(_ mail: Mail, isAwaited: Bool = false) throws(AegisError) -> Waiter<TurnResult> {
        guard !isStopping else { throw AgentProcess.stopped(id) }
        guard !log.isLeft || record.outlivesDaemon else { throw AgentDirectory.ending("send it") }
        guard mailbox.count < Self.mailboxLimit else {
            throw .conflict(
                "mailbox-full", "\(mailbox.count) messages wait for agent \(record.name) (\(id)) already",
                hint: "wait for its replies; a mailbox holds \(Self.mailboxLimit)")
        }
        // Whoever is told that it was taken can rely on it, whatever becomes of the daemon.
        if record.outlivesDaemon {
            try log.telling { () throws(AegisError) in try services.store.keep(mail, of: id, at: services.now()) }
            leftovers.remove(mail.trace)
        }
        mailbox.append(mail)
        if isAwaited { awaited.insert(mail.trace) }
        let result = Waiter<TurnResult>()
        waiters[mail.trace, default: []].append(result)
        work()
        return result
    }

    /// Whether a message is under way.
    func hasUnderWay(_ trace: String) -> Bool {
        !isStopping && (self.trace == trace || mailbox.contains { $0.trace == trace })
    }

    /// Whether a message waits that was not begun.
    func waits(_ trace: String) -> Bool { mailbox.contains { $0.trace == trace } }

    /// The trace of the newest message of its schedule that waits.
    var scheduledTrace: String? { mailbox.last { $0.due != nil }?.trace }

    /// Waits for the result of a message that is under way; nil when none of that trace is.
    func waiter(for trace: String) -> Waiter<TurnResult>? {
        guard hasUnderWay(trace) else { return nil }
        let result = Waiter<TurnResult>()
        waiters[trace, default: []].append(result)
        return result
    }

    /// Forgets who waited for a result and was cancelled.
    func forget(_ waiter: Waiter<TurnResult>, for trace: String) { waiters[trace]?.removeAll { $0 === waiter } }

    /// How many wait for results.
    var waiting: Int { waiters.values.reduce(0) { $0 + $1.count } }

    /// Goes on with what a daemon before this one had begun or taken.
    func resume() { if trace != nil || !mailbox.isEmpty { work() } }

    static func stopped(_ id: String) -> AegisError {
        .conflict("agent-stopped", "agent \(id) is stopping or stopped", hint: "spawn it again")
    }

    /// It goes: its turn does nothing more than end, whatever becomes of the call that it waits for. `stop` follows.
    nonisolated func leave() { posture.withLock { $0.isLeaving = true } }

    nonisolated var isLeaving: Bool { posture.withLock { $0.isLeaving } }

    /// Ends the turn, the waiting messages, and takes no more. Returns when nothing of it runs any more.
    func stop() async {
        let waits = mailbox
        dropMail()
        isStopping = true
        for mail in waits { settle(TurnResult(trace: mail.trace, stop: .cancelled)) }
        worker?.cancel()
        await worker?.wait()
        for trace in waiters.keys { settle(TurnResult(trace: trace, stop: .cancelled)) }
        log.close()
    }

    /// The daemon ends: what is under way is left as it is saved, and nothing is begun any more.
    func interrupt() {
        // The next daemon knows of no failure that is not among the steps.
        if worker == nil { try? endFailed() }
        forgetLeftovers()
        log.leave()
        worker?.cancel()
    }

    /// Ends the turn of one trace, and nothing else.
    func cancel(trace: String) {
        guard self.trace == trace else {
            _ = withdraw(trace: trace)
            return settle(TurnResult(trace: trace, stop: .cancelled))
        }
        guard worker != nil else { return }
        isCancelling = true
        worker?.cancel()
    }
    /// Somebody has ended the turn that is under way.
    var isCancelling = false
    /// How often in a row a step could not be saved.
    var crashes = 0
    /// Whether it waits after one.
    var isRecovering = false { didSet { posture.withLock { $0.isRecovering = isRecovering } } }

    /// Takes a message back that still waits.
    ///
    /// - Returns: whether it did: nothing has come of it then, and nothing will.
    func withdraw(trace: String) -> Bool {
        guard let index = mailbox.firstIndex(where: { $0.trace == trace }) else { return false }
        mailbox.remove(at: index)
        forgetMail(trace)
        settle(TurnResult(trace: trace, stop: .cancelled))
        return true
    }

    private func dropMail() {
        mailbox = []
        forgetMail(nil)
    }

    // MARK: The loop

    func work() {
        guard worker == nil, !log.isLeft else { return }
        worker = services.scope.spawn("agent \(id)") { [self] in await run() }
    }

    private func run() async {
        let goesOn = await turns()
        worker = nil
        // A task that was cancelled stays so: what waits needs another one.
        if goesOn { work() }
    }

    /// Works on messages until there are none.
    ///
    /// - Returns: whether there are more, for a task that was not cancelled.
    private func turns() async -> Bool {
        do { try endFailed() } catch {
            giveUp(error)
            return false
        }
        while trace != nil || !mailbox.isEmpty && !isLeaving {
            let wasCancelling = isCancelling
            do {
                try await step()
            } catch {
                // A step that cannot be saved has not happened, and nothing may happen after it.
                services.logger.error("an agent cannot go on", ("agent", id), ("error", "\(error)"))
                guard await recovers(Self.aegis(error)) else {
                    giveUp(error)
                    return false
                }
            }
            // The daemon ends, and the next one goes on from the steps; or one turn was cancelled, and others wait.
            if Task.isCancelled, !isStopping, !isCancelling { return wasCancelling && !mailbox.isEmpty }
        }
        return false
    }

    /// Gives up the turn that cannot go on. Messages that wait behind it were promised to be worked on: they are, as soon as
    /// something can be saved again.
    private func giveUp(_ error: any Error) {
        let problem = TurnProblem(Self.aegis(error))
        let result = TurnResult(trace: "", stop: .error, problem: problem)
        // Also of a turn that has ended and was to be begun anew: that cannot be saved, and nobody waits for it any more.
        if let trace {
            failure = failure ?? (trace, problem)
            settle(result.with(trace: trace))
        } else {
            // Who waits is told, and nothing comes of his message any more; the others' go on waiting.
            for mail in mailbox where awaited.contains(mail.trace) {
                mailbox.removeAll { $0.trace == mail.trace }
                forgetMail(mail.trace)
                settle(result.with(trace: mail.trace))
            }
        }
        if !record.outlivesDaemon {
            // Nobody was promised anything for longer than he waits.
            for trace in waiters.keys { settle(result.with(trace: trace)) }
            mailbox = []
        }
        if failure != nil || !mailbox.isEmpty { goOnLater() }
    }

    static func aegis(_ error: any Error) -> AegisError {
        (error as? AegisError) ?? .failed("internal-error", "\(error)")
    }

    private func step() async throws {
        if let pause = restartPause {
            guard !Task.isCancelled || isStopping || isCancelling else { return }
            return try await restart(after: pause)
        }
        if session.turn == nil {
            let mail = mailbox[0]
            try log.record(.began(trace: mail.trace, text: mail.text, from: mail.from?.agent))
            mailbox.removeFirst()
            tellReceived(mail)
        }
        if Task.isCancelled || isLeaving {
            guard isStopping || isCancelling || isLeaving else { return }
            if session.turn?.isStopped == false { try log.record(.stopped) }
            // What was begun and has no outcome is said to be unclear; nothing more is called.
            return try await close(.cancelled, nil)
        }
        switch session.next(limits) {
        case .rest: return
        case .ask:
            try await ask()
            // What the model asks for is begun at once: its answer is saved along.
            if case .call(let uses) = session.next(limits), !Task.isCancelled { try await call(uses) }
            try log.flush()
        case .call(let uses), .clarify(let uses): try await call(uses)
        case .close(let stop, let problem): try await close(stop, problem)
        }
    }

    var limits: TurnLimits {
        TurnLimits(iterations: manifest.maxIterations ?? services.iterations, tokens: manifest.turnTokens)
    }

    func close(_ stop: TurnStop, _ problem: TurnProblem?) async throws {
        guard let turn = session.turn else { return }
        let result = result(of: turn, stop, problem)
        try log.record(.ended(stop, problem), synced: true)
        tellEnded(result)
        isCancelling = false
        canSummarize = true
        learned = nil
        crashes = 0
        // Whoever waits gets what it comes to in the end.
        guard !tellRestart(problem) else { return }
        settle(result)
        await ended(self, result)
    }

    /// Gives up a turn that would have been begun anew.
    func giveUpRestart() throws(AegisError) {
        guard let trace else { return }
        try log.record(.ended(.cancelled, nil))
        isCancelling = false
        settle(TurnResult(trace: trace, stop: .cancelled))
    }

    func settle(_ result: TurnResult) {
        awaited.remove(result.trace)
        for waiter in waiters.removeValue(forKey: result.trace) ?? [] { waiter.resolve(result) }
    }
}

extension TurnResult {
    func with(trace: String) -> TurnResult {
        var copy = self
        copy.trace = trace
        return copy
    }
}
