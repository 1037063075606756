internal import AegisBackends
internal import AegisCore
internal import AegisIO
internal import AegisNetwork
internal import AegisSandboxTypes

/// Needing an instance awake: the one primitive behind connections, execs, terminals, copies and leases (decision D25).
extension Instance {
    /// How long the failure of a start is the answer to further connections, so that none of them starts it at once again.
    private static let failureShared = Duration.seconds(1)

    /// Counts the caller, wakes the instance if it sleeps, and returns when it runs.
    ///
    /// Whoever comes while it wakes shares that start, and its result. A running instance is held without waiting.
    ///
    /// - Parameters:
    ///   - why: who needs it. A paused instance is resumed for anybody whose port may wake it; a stopped one is started for
    ///     ports only.
    ///   - start: start a stopped instance for a reason that is no port.
    ///   - deadline: how long waking may take; nil = as long as it takes.
    /// - Returns: the hold; it ends when it goes away.
    /// - Throws: why the start failed; `instance-asleep` for what may not wake it, `instance-stopped`, `instance-disabled`,
    ///   `crash-loop`, `wake-timeout`.
    package nonisolated func hold(
        _ why: HoldReason, start: Bool = false, deadline: Duration? = nil
    ) async throws -> Hold {
        let hold = holds.hold(why)
        guard !hold.admission.isAwake else { return hold }
        let admission = hold.admission
        guard let deadline else {
            try await wake(why, admission, start: start)
            return hold
        }
        do {
            try await withDeadline(deadline, clock: services.clock) {
                try await self.wake(why, admission, start: start)
            }
        } catch let error as IOError where error.kind == .timeout {
            throw AegisError(
                .timeout, "wake-timeout", "\(id) was not awake within \(deadline)", hint: "see 'aegis logs \(id)'")
        }
        return hold
    }

    /// Brings the instance to `running` for a holder that is counted already.
    private func wake(_ why: HoldReason, _ admission: WakeLedger.Admission, start: Bool) async throws {
        var waker = Waker()
        while true {
            switch waker.next(machine) {
            case .use: return
            case .awaitStart: _ = try await started()
            case .resume:
                try checkMayWake(why, admission)
                send(.resume)
                try await wait(for: .thaw)
            case .awaitThaw: try await wait(for: .thaw)
            case .awaitEnd: _ = try await settled()
            case .start: try await startForHolder(why, admission, start: start)
            case .ended: throw endedAtOnce
            case .gone: throw AegisError.notFound("instance-not-found", "\(label) is being deleted")
            }
        }
    }

    /// Waits for one of the things that there are names for.
    ///
    /// - Throws: when the task is cancelled.
    func wait(for what: LifecycleWait) async throws(CancellationError) { try await wait { what.isOver($0) } }

    private func startForHolder(_ why: HoldReason, _ admission: WakeLedger.Admission, start: Bool) async throws {
        if why.port == nil {
            guard start else {
                throw stopped(deed(why))
            }
        } else {
            try checkMayWake(why, admission)
            if let failure = wakeFailure, uptime - failure.at < Self.failureShared { throw failure.error }
        }
        try beginStart()
        do { _ = try await started() } catch let error as AegisError {
            wakeFailure = (uptime, error)
            throw error
        }
    }

    private func deed(_ why: HoldReason) -> String {
        switch why {
        case .exec, .terminal: "run a command in it"
        case .copy: "copy files of it"
        case .lease: "keep it awake"
        case .connection, .request: "connect to it"
        }
    }

    private var endedAtOnce: AegisError {
        guard let outcome = machine.outcome else { return stopped("connect to it") }
        if let error = outcome.error { return error }
        let code = outcome.exitCode.map { " with code \($0)" } ?? ""
        return .conflict(
            "instance-stopped", "\(label) ended\(code) (\(outcome.reason.rawValue)) when it was started",
            hint: "see 'aegis logs \(label)'")
    }

    private func checkMayWake(_ why: HoldReason, _ admission: WakeLedger.Admission) throws(AegisError) {
        let hint = "start it with 'aegis instance start \(label)', or wake it with 'aegis instance resume \(label)'"
        let port = why.port ?? 0
        switch holds.ledger({ $0.verdict(why, admission, now: $1) }) {
        case .may: return
        case .never:
            throw AegisError(
                .unavailable, "instance-asleep",
                "\(label) is \(machine.state.rawValue), and port \(port) does not wake it",
                hint: hint)
        case .needsRequest:
            throw AegisError(
                .unavailable, "instance-asleep",
                "\(label) is \(machine.state.rawValue), and only a request wakes it on port \(port)", hint: hint)
        case .cooling(let left):
            throw AegisError(
                .unavailable, "instance-cooling",
                "\(label) is \(machine.state.rawValue), and port \(port) wakes it again in \(left.components.seconds + 1)s",
                hint: hint)
        }
    }

    // MARK: Sleep

    /// The idle policy that is in force, for people; nil when it never sleeps.
    var shownIdlePolicy: IdlePolicy? {
        let rules = Instance.idleRules(stored, services.defaults)
        guard rules.pause != nil || rules.stop != nil else { return stored.info.idle }
        func span(_ rule: Duration?) -> TimeSpan {
            TimeSpan(milliseconds: rule.map { Int64($0 / .milliseconds(1)) } ?? 0)
        }
        return IdlePolicy(
            pause: span(rules.pause), stop: span(rules.stop), cpu: rules.cpu, reclaim: stored.info.idle?.reclaim,
            standby: stored.info.idle?.standby)
    }

    /// The rules that an instance sleeps by: what was asked for it, else the node's where a port can wake it.
    static func idleRules(_ stored: StoredInstance, _ defaults: NodeDefaults) -> WakeLedger.Rules {
        let asked = stored.info.idle
        let wakes = stored.info.expose.contains { $0.spec.wake != .never }
        func span(_ asked: TimeSpan?, _ node: Duration) -> Duration? {
            // Zero is the word for never.
            if let asked { return asked.milliseconds == 0 ? nil : asked.duration }
            return wakes && node > .zero ? node : nil
        }
        // What lives by its client ends with a stop: only who asked for that gets it.
        let stop = stored.info.ephemeral && asked?.stop == nil ? nil : span(asked?.stop, defaults.idleStop)
        return WakeLedger.Rules(pause: span(asked?.pause, defaults.idlePause), stop: stop, cpu: asked?.cpu)
    }

    /// What its exposed ports may do.
    static func wakePorts(_ stored: StoredInstance) -> [UInt16: WakeLedger.Port] {
        Dictionary(
            stored.info.expose.map {
                ($0.guestPort, WakeLedger.Port(wake: $0.spec.wake, cooldown: $0.spec.cooldown?.duration))
            }
        ) { $1 }
    }

    /// Takes over what the record says of ports and sleep.
    func applyIdleRules() {
        let (rules, ports) = (Instance.idleRules(stored, services.defaults), Instance.wakePorts(stored))
        holds.ledger { ledger, _ in ledger.set(rules, ports: ports) }
        watchIdleTime()
    }

    /// Tells the ledger where the instance stands now; wakes the watch over its idle time when that has changed.
    func followStage() {
        let stage = machine.stage
        let changed = holds.ledger { ledger, now in
            let before = ledger.stage
            ledger.enter(stage, now: now)
            return before != stage
        }
        guard changed else { return }
        endReclaim()
        if stage == .paused { reclaimAfterPause() }
        watchIdleTime()
    }

    /// Watches the idle time until the stage or the rules change.
    private func watchIdleTime() {
        idleTask?.cancel()
        idleTask = nil
        guard holds.ledger({ $0.due(now: $1) }) != .nothing else { return }
        let clock = services.clock
        cpuMark = nil
        idleTask = services.scope.spawn("instance-idle") { [weak self] in
            while !Task.isCancelled, let pause = await self?.lookAtIdleTime() { try? await clock.sleep(for: pause) }
        }
    }

    /// Goes to sleep if that is due.
    ///
    /// - Returns: when to look again; nil when there is nothing to look at any more.
    private func lookAtIdleTime() async -> Duration? {
        guard !Task.isCancelled else { return nil }
        let due = holds.ledger { $0.due(now: $1) }
        switch due {
        case .nothing: return nil
        case .later(let span):
            await markProcessorTime()
            return span
        case .pause, .stop:
            if await isBusy() {
                holds.ledger { $0.use(now: $1) }
                return .zero
            }
            // What members of its group send each other is a use that nobody counts: it is asked for when it matters.
            if machine.phase == .running, let unused = await services.network.unused(id),
                holds.ledger({ ledger, now in
                    ledger.use(now: now - unused)
                    return ledger.due(now: now) != due
                })
            {
                return .zero
            }
            guard !Task.isCancelled, let event = holds.ledger({ $0.fallAsleep(due, now: $1) }) else { return .zero }
            send(event)
            return nil
        }
    }

    /// Remembers the processor time used so far, where somebody asked to look at it.
    private func markProcessorTime() async {
        guard stored.info.idle?.cpu != nil, machine.phase == .running, let usage = try? await sandbox?.usage() else {
            return
        }
        cpuMark = (uptime, usage.cpuMicroseconds)
    }

    /// Whether it has used more of a processor, since the last look, than it may while it counts as idle.
    private func isBusy() async -> Bool {
        guard let limit = stored.info.idle?.cpu, machine.phase == .running else { return false }
        let mark = cpuMark
        guard let usage = try? await sandbox?.usage() else { return false }
        cpuMark = (uptime, usage.cpuMicroseconds)
        guard let mark, uptime > mark.at else { return true }
        let used = Duration.microseconds(Int64(clamping: usage.cpuMicroseconds &- mark.microseconds))
        return used / (uptime - mark.at) * 100 > limit
    }
}
