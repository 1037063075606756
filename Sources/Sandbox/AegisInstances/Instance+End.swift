internal import AegisAudit
internal import AegisBackends
internal import AegisCore
internal import AegisIO
internal import AegisLogs
internal import AegisSandboxTypes

/// How a run ended, into the record and the log.
extension Instance {
    /// Saves how the sandbox ended. Until that has worked its keeper stays, which alone knows it else.
    func recordEnd(_ attempt: UInt64) {
        // The daemon goes, and its client was cut off: the keeper has the output that it did not get, for the next daemon.
        if services.gate.leavesAlone, stored.info.ephemeral, clients == 0 { return }
        takeOutcome()
        guard save() else {
            let clock = services.clock
            services.scope.spawn("instance-record") { [weak self] in
                try? await clock.sleep(for: .seconds(1))
                if !Task.isCancelled { await self?.recordAgain(attempt) }
            }
            return
        }
        post(.recorded(attempt: attempt))
    }

    /// - Returns: whether the record is in the database as it is now; a failure is told once, until it works again.
    @discardableResult
    func save() -> Bool {
        stored.info.state = machine.state
        keepLastUses()
        do {
            try services.store.update(stored)
            saveFailure = nil
        } catch {
            if saveFailure == nil {
                services.logger.error("cannot save an instance", ("instance", id), ("error", "\(error)"))
                let clock = services.clock
                services.scope.spawn("instance-save") { [weak self] in
                    repeat { try? await clock.sleep(for: .seconds(1)) } while await self?.saveAgain() == true
                }
            }
            saveFailure = Instance.explain(error)
        }
        return saveFailure == nil
    }

    /// Puts into the record when its ports with a cooldown were last used, by the wall's clock: a daemon that comes after this one
    /// cuts all connections, and what comes back for that is to wake nothing.
    private func keepLastUses() {
        let (ages, now) = (holds.ledger { $0.ages(now: $1) }, Timestamp.now().milliseconds)
        guard !ages.isEmpty || stored.lastUses != nil else { return }
        stored.lastUses = Dictionary(
            uniqueKeysWithValues: ages.map { ("\($0)", now - Int64($1 / Duration.milliseconds(1))) })
    }

    /// - Returns: whether it has to be tried once more.
    private func saveAgain() -> Bool {
        guard saveFailure != nil, !Task.isCancelled, machine.phase != .deleted else { return false }
        return !save()
    }

    private func recordAgain(_ attempt: UInt64) {
        if machine.phase == .recording, machine.attempt == attempt { recordEnd(attempt) }
    }

    /// Puts the machine's outcome into the record.
    private func takeOutcome() {
        guard let outcome = machine.outcome else { return }
        countCrash(outcome)
        if stored.info.stopReason == nil || stored.info.stoppedAt == nil { stored.info.stoppedAt = .now() }
        stored.info.exitCode = outcome.exitCode
        stored.info.stopReason = outcome.reason.rawValue
        stored.info.oomKilled = outcome.oomKilled
        stored.info.error = outcome.error.map(RecordedError.init)
    }

    func settle() {
        processes.sandboxEnded()
        endLease()
        guard let outcome = machine.outcome else { return }
        takeOutcome()
        if machine.phase != .deleted { tellEnd() }
        stored.sandbox = nil
        if let error = outcome.error { note(log.note("\(error.message)\(error.hint.map { " (\($0))" } ?? "")")) }
        if outcome.oomKilled {
            note(
                log.note("a process was killed: out of memory (limit \(stored.info.limits.memory?.description ?? "?"))")
            )
        }
        log.markEnded()
        save()
        forgetSecrets()
        reviewStandby()
    }

    /// Has the ledger know how the run ended. A run ends once, and is settled again when it is deleted.
    func tellEnd() {
        guard toldEnd != stored.attempt else { return }
        toldEnd = stored.attempt
        audited(.ended(stored))
    }

    /// Only ends that nobody asked for count: a stop or a time-out is no crash.
    private func countCrash(_ outcome: InstanceLifecycle.Outcome) {
        guard let started = commandStarted else { return }
        commandStarted = nil
        // Nobody knows for how long a run was there that an earlier daemon began and this one found ended: it is neither a crash
        // nor a life that forgets crashes.
        let isUnknown = isCatchingUp && outcome.exitCode != 0 && uptime - started >= CrashLoop.healthy
        isCatchingUp = false
        switch outcome.reason {
        case .exited, .oom, .killed, .lost:
            if !isUnknown { crashes.ended(code: outcome.exitCode, started: started, now: uptime) }
        case .stopped, .idle, .timeout, .deleted, .bootFailed, .hostRestart, .clientGone, .policy: break
        }
        // By the wall's clock in the record: the other one begins anew with the host.
        let (ages, now) = (crashes.ages(now: uptime), Timestamp.now().milliseconds)
        stored.crashes = ages.isEmpty ? nil : ages.map { now - Int64($0 / Duration.milliseconds(1)) }
    }
}
