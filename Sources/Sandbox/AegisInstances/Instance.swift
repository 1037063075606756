internal import AegisAudit
internal import AegisBackends
internal import AegisChannel
internal import AegisCore
internal import AegisIO
internal import AegisImages
package import AegisLogs
internal import AegisNetwork
package import AegisSandboxTypes
package import AegisSessions
internal import Synchronization

/// One instance: owns its lifecycle machine, feeds it events one at a time and performs what it asks for.
package actor Instance {
    package nonisolated let id: String
    package nonisolated let owner: UInt32
    package nonisolated let ownerGroup: UInt32
    nonisolated let createdAt: Timestamp
    /// Whether the sandbox outlives its command, for its client to fetch files.
    package nonisolated let lingers: Bool
    /// The instance inside of which it was started, if it was.
    package nonisolated let parent: String?
    /// The agent whose programs it runs, and what they see; nil for an instance that is no agent's.
    package nonisolated let agent: AgentPlaces?
    nonisolated let holds: HoldBook
    nonisolated let services: InstanceServices
    package nonisolated let log: InstanceLog

    var stored: StoredInstance
    var machine: InstanceLifecycle
    var crashes = CrashLoop()
    var sandbox: (any Sandbox)? {
        didSet {
            holds.setSandbox(sandbox)
            closeGuestDoor()
            if sandbox == nil { retireGrants() }
        }
    }
    /// Where programs inside reach Aegis, while there is a sandbox.
    var guestDoor: GuestDoor?
    /// Why they do not; told by the channel, which does not wait for the actor.
    nonisolated let doorObstacle = Mutex<AegisError?>(nil)
    /// The live session; read by relays on the channel's own path, where a hop to the actor would cost.
    nonisolated let link = Mutex<HarnessSession?>(nil)
    var session: HarnessSession? { link.withLock { $0 } }
    var processes: ProcessTable
    /// What the run was given that must not be stored in the clear.
    var runSecrets = RunSecrets()
    /// Denials of its network that earlier daemons have told.
    var earlierDenials: UInt64 = 0
    /// What its TLS is looked into with, from a start of this daemon on.
    var inspection: Inspection?
    /// One change of its network at a time, and its end is one.
    nonisolated let networkTurn = Turnstile()
    private var bootTask: TaskScope.Handle?
    /// Keeps the image's layers while the instance may use them.
    var lease: ImageLease?
    /// A sandbox that was kept ready, until the first start takes it.
    var warm: WarmClaim?
    /// The channel of that one, until it is connected.
    var heldChannel: HeldChannel?
    /// One of its own that is made ready while it is stopped.
    var standby = StandbyHold()
    var timeoutTask: TaskScope.Handle?
    /// Waits out the grace of a stop.
    private var graceTask: TaskScope.Handle?
    /// Why the record in the database is not as it is here; nil when it is.
    var saveFailure: AegisError?
    var clientDeadline: TaskScope.Handle?
    /// Memory that is being pushed out.
    var reclaiming: ReclaimWish?
    /// What came of listening on its public ports.
    nonisolated let bindings = BindBoard()
    var leaseTask: TaskScope.Handle?
    /// The lease, while there is one.
    var leaseHold: SharedHold?
    /// Watches the idle time.
    var idleTask: TaskScope.Handle?
    /// The processor time used at the last look.
    var cpuMark: (at: Duration, microseconds: UInt64)?
    /// How the last start for a connection failed.
    var wakeFailure: (at: Duration, error: AegisError)?
    /// When the command of this run was started, on the clock of `uptime`.
    var commandStarted: Duration?
    /// Whether an end that comes now may be one of before this daemon took the sandbox over.
    var isCatchingUp = false
    /// The wait for the client of a run to have its end, by its number; 0 when there is none.
    var farewell: UInt64 = 0
    /// Streams of clients that an ephemeral instance lives by.
    var clients = 0
    private var isSynced: Bool { !stored.info.ephemeral }

    /// Events wait here until the actor takes them, so that their order is the order in which they happened.
    private nonisolated let mailbox = Mutex<[InstanceLifecycle.Event]>([])
    private var waiters:
        [UInt64: (done: @Sendable (InstanceLifecycle) -> Bool, resume: CheckedContinuation<Void, Never>)] = [:]
    private var nextWaiter: UInt64 = 0
    /// Told when the instance is on its way out and nobody shall see it any more.
    nonisolated let onLeaving: @Sendable (String) -> Void
    /// Told when a sandbox of the instance has ended.
    private nonisolated let onEnded: @Sendable (String) async -> Void
    /// Told when the instance is gone, so that the directory forgets it.
    private nonisolated let onDeleted: @Sendable (String) -> Void
    /// What the image pull says while the instance starts, for attached clients.
    package nonisolated let notices = NoticeBoard()
    /// The run whose end the ledger has.
    var toldEnd: UInt64?
    /// The owner's credentials for the image's registry, until the first start has used them; nowhere else.
    nonisolated let credentials = Mutex<RegistryCredentials?>(nil)
    /// Where the messages of its channels can be looked at, run after run.
    package nonisolated let tap = ChannelTap()

    init(
        _ stored: StoredInstance, log: InstanceLog, services: InstanceServices, warm: WarmClaim? = nil,
        onLeaving: @escaping @Sendable (String) -> Void, onEnded: @escaping @Sendable (String) async -> Void,
        onDeleted: @escaping @Sendable (String) -> Void
    ) {
        self.stored = stored
        self.log = log
        self.services = services
        self.warm = warm
        self.onLeaving = onLeaving
        self.onEnded = onEnded
        self.onDeleted = onDeleted
        id = stored.info.id
        holds = HoldBook(id: stored.info.id, clock: services.clock)
        owner = stored.info.owner
        ownerGroup = stored.ownerGroup
        createdAt = stored.info.createdAt
        lingers = stored.lingers ?? false
        parent = stored.info.parent
        agent = stored.agent
        machine = InstanceLifecycle(
            outcome: Instance.outcome(of: stored), attempt: stored.attempt, lingers: lingers)
        processes = ProcessTable { _, _ in }
        let (rules, ports) = (Instance.idleRules(stored, services.defaults), Instance.wakePorts(stored))
        let now = Timestamp.now().milliseconds
        let uses = (stored.lastUses ?? [:]).map { (UInt16($0) ?? 0, Duration.milliseconds(now - $1)) }
        holds.ledger { ledger, uptime in
            ledger.set(rules, ports: ports)
            ledger.recall(Dictionary(uses) { $1 }, now: uptime)
        }
        crashes = CrashLoop(
            ages: (stored.crashes ?? []).map { .milliseconds(now - $0) },
            now: .nanoseconds(Int64(services.clock.now.nanoseconds)))
    }

    /// Monotonic time, for what must not jump with the host's clock.
    nonisolated var uptime: Duration { holds.uptime }

    /// How the last run ended, as the record says; nil if it says nothing.
    static func outcome(of stored: StoredInstance) -> InstanceLifecycle.Outcome? {
        guard let reason = stored.info.stopReason.flatMap(InstanceLifecycle.StopReason.init(rawValue:)) else {
            return nil
        }
        return .init(
            exitCode: stored.info.exitCode, reason: reason, oomKilled: stored.info.oomKilled,
            error: stored.info.error.map { .failed($0.code, $0.message, hint: $0.hint) })
    }

    // MARK: What others see

    /// Waits until a run has ended, and says how; nil if that is not known any more.
    ///
    /// - Throws: when the task is cancelled.
    package func end(of attempt: UInt64) async throws(CancellationError) -> InstanceLifecycle.Outcome? {
        try await wait { $0.attempt != attempt || $0.isOver }
        return machine.end(of: attempt)
    }

    /// Waits until the machine satisfies a condition; at once if it does.
    ///
    /// A condition must come true in every life that leads there, also when the instance is started again meanwhile: a
    /// handle of the machine may take several steps, and nobody sees those between.
    ///
    /// - Throws: when the task is cancelled while it waits: who asked is gone, and nothing more shall be done for it.
    func wait(until done: @escaping @Sendable (InstanceLifecycle) -> Bool) async throws(CancellationError) {
        guard !done(machine) else { return }
        nextWaiter += 1
        let number = nextWaiter
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                if Task.isCancelled { return continuation.resume() }
                waiters[number] = (done, continuation)
            }
        } onCancel: {
            services.scope.spawn("instance-wait-cancel") { await self.dropWaiter(number) }
        }
        if Task.isCancelled { throw CancellationError() }
    }

    private func dropWaiter(_ number: UInt64) { waiters.removeValue(forKey: number)?.resume.resume() }

    /// Waits until the run that is ending is over.
    ///
    /// - Returns: whether the instance was started again meanwhile; `started` says how that goes.
    /// - Throws: when the task is cancelled.
    func settled() async throws(CancellationError) -> Bool {
        let attempt = machine.attempt
        try await wait(for: .end(attempt: attempt))
        return machine.attempt != attempt
    }

    // MARK: Events

    /// Hands an event to the machine, from anywhere, in order.
    nonisolated func post(_ event: InstanceLifecycle.Event) {
        mailbox.withLock { $0.append(event) }
        services.scope.spawn("instance-event") { await self.drain() }
    }

    func drain() {
        while let event = mailbox.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) { send(event) }
    }

    /// Feeds one event to the machine and performs what it asks for.
    func send(_ event: InstanceLifecycle.Event) {
        let effects = machine.handle(event)
        stored.attempt = machine.attempt
        stored.intent = machine.intent
        if machine.phase != .booting { stored.isSecondTry = nil }
        followStage()
        for effect in effects { perform(effect) }
        for (number, waiter) in waiters where waiter.done(machine) {
            waiters[number] = nil
            waiter.resume.resume()
        }
    }

    private func perform(_ effect: InstanceLifecycle.Effect) {
        switch effect {
        case .boot(let attempt): boot(attempt)
        case .cancelBoot: bootTask?.cancel()
        case .launch(let attempt): launch(attempt)
        case .finishLaunch(let attempt): finishLaunch(attempt)
        case .freeze(let attempt):
            // This one, not one that a later start has put in its place when the task comes to it.
            background("freeze") { [sandbox] instance in
                do {
                    try await sandbox?.pause()
                    instance.post(.frozen(attempt: attempt))
                } catch {
                    instance.services.logger.warning("pause failed", ("instance", instance.id), ("error", "\(error)"))
                    instance.post(.freezeFailed(attempt: attempt))
                }
            }
        case .thaw(let attempt):
            background("thaw") { [sandbox] instance in
                do { try await sandbox?.resume() } catch {
                    instance.services.logger.warning("resume failed", ("instance", instance.id), ("error", "\(error)"))
                }
                instance.post(.thawed(attempt: attempt))
            }
        case .terminate(let attempt): terminate(attempt)
        case .quiesce(let attempt, let graceful): quiesce(attempt, graceful: graceful)
        case .kill: killAfterFarewell()
        case .record(let attempt): recordEnd(attempt)
        case .release(let attempt):
            background("release") { instance in
                await instance.releaseSandbox()
                instance.post(.released(attempt: attempt))
            }
        case .armTimeout(let attempt): armTimeout(attempt)
        case .disarmTimeout:
            timeoutTask?.cancel()
            timeoutTask = nil
            graceTask?.cancel()
            graceTask = nil
        case .save: save()
        case .settled: settle()
        case .remove:
            audited(AuditEvent(.instanceDeleted, agent: id, parent: maker))
            background("remove") { instance in
                await instance.removeEverything()
                instance.post(.removed)
            }
        }
    }

    /// Runs what must still be done after a client has gone, in the daemon's scope.
    package nonisolated func afterwards(_ name: String, _ body: @escaping @Sendable () async -> Void) {
        services.scope.spawn("instance-\(name)", body)
    }

    /// Waits on the daemon's clock; ends early when the task is cancelled.
    package nonisolated func pauseFor(_ duration: Duration) async { try? await services.clock.sleep(for: duration) }

    func background(_ name: String, _ body: @escaping @Sendable (Instance) async -> Void) {
        services.scope.spawn("instance-\(name)") { await body(self) }
    }

    // MARK: Effects

    private func boot(_ attempt: UInt64) {
        stored.info.startedAt = .now()
        stored.info.stoppedAt = nil
        stored.info.exitCode = nil
        stored.info.stopReason = nil
        stored.info.error = nil
        stored.info.oomKilled = false
        note(log.beginRun().event)
        hide(RunSecrets())
        newProcesses(attempt, stdoutFrom: 0, stderrFrom: 0)
        let snapshot = stored
        bootTask = services.scope.spawn("instance-boot") { [self] in
            do {
                let sandbox = try await takeOrBoot(snapshot)
                if await connect(sandbox, attempt: attempt) { post(.booted(attempt: attempt)) }
            } catch {
                // Cut off by the end of a daemon that leaves its instances alone: the next one makes up for it.
                if Task.isCancelled, services.gate.leavesAlone, await machine.phase == .booting { return }
                post(.bootFailed(attempt: attempt, Instance.explain(error)))
            }
        }
    }

    /// How long processes may take to end after SIGTERM, in milliseconds.
    private var grace: UInt32 {
        UInt32(clamping: (stored.info.limits.grace ?? AegisSandboxTypes.Limits.usualGrace).milliseconds)
    }

    private func terminate(_ attempt: UInt64) {
        let grace = grace
        session?.shutdown(graceMilliseconds: grace)
        let clock = services.clock
        graceTask = services.scope.spawn("instance-terminate") { [weak self] in
            try? await clock.sleep(for: .milliseconds(Int64(grace) + 3000))
            if !Task.isCancelled { await self?.killIfStill(attempt) }
        }
    }

    /// Ends everything inside but the harness, which then still reads files.
    private func quiesce(_ attempt: UInt64, graceful: Bool) {
        let grace = graceful ? grace : 0
        let (session, clock) = (session, services.clock)
        background("quiesce") { instance in
            do {
                try await withDeadline(.milliseconds(Int64(grace) + 3000), clock: clock) {
                    guard let session else { throw IOError.closed }
                    try await session.quiesce(graceMilliseconds: grace)
                }
                let kills = await instance.sandbox?.oomKills ?? 0
                instance.post(.quiesced(attempt: attempt, oomKilled: kills > 0))
            } catch {
                instance.services.logger.debug("no quiet", ("instance", instance.id), ("error", "\(error)"))
                instance.post(.quiesceFailed(attempt: attempt))
            }
        }
    }

    private func killIfStill(_ number: UInt64) async {
        guard machine.phase == .terminating, machine.attempt == number else { return }
        services.logger.warning("the sandbox did not end within its grace", ("instance", id))
        await sandbox?.kill()
    }

    private func releaseSandbox() async {
        let old = sandbox
        sandbox = nil
        link.withLock { $0 = nil }
        await closeNetwork()
        await old?.release()
        if old != nil { await onEnded(id) }
    }

    private func removeEverything() async {
        await dropWarm()
        await dropStandby()
        await removeFiles()
        // At once, not when the last reference goes: the image may be wanted gone now.
        lease = nil
        let (store, id, synced) = (services.store, id, isSynced)
        do { try await BlockingPool.shared.run { try store.delete(id, synced: synced) } } catch {
            services.logger.error("cannot delete a record", ("instance", id), ("error", "\(error)"))
            // Deleting frees room, but perhaps somebody else has taken it: the next daemon must not find it again.
            let clock = services.clock
            services.scope.spawn("instance-record") {
                var isGone = false
                while !isGone, !Task.isCancelled {
                    try? await clock.sleep(for: .seconds(1))
                    isGone = (try? await BlockingPool.shared.run { try store.delete(id, synced: synced) }) != nil
                }
            }
        }
        tap.end()
        onDeleted(id)
    }

    static func explain(_ error: any Error) -> AegisError {
        switch error {
        case let error as AegisError: error
        case let error as ProcessStartError: error.error
        case is CancellationError: .failed("cancelled", "the start was cancelled")
        default: .failed("internal", "\(error)")
        }
    }
}
