internal import AegisBackends
internal import AegisChannel
internal import AegisCore
internal import AegisIO
internal import AegisLogs
internal import AegisNetwork
internal import AegisSandboxTypes
internal import AegisSessions
internal import Synchronization

extension Instance {
    /// Finds out what became of the instance while no daemon ran, and takes a live sandbox over.
    ///
    /// What the daemon before was asked for and had not done is gone on with.
    func recover() async {
        let intent = stored.intent
        // Before anything of the same id can be started.
        await discardStandby()
        if stored.sandbox == nil, stored.place != nil {
            // Without a sandbox nothing is linked: the daemon before was cut off on its way.
            await closeNetwork()
            save()
        }
        if let record = stored.sandbox, stored.attempt == 0 {
            // It had taken a sandbox that was kept ready, and was not started in it: it starts as any other now.
            await services.backends.backend(record.backend)?.discard(record)
            stored.sandbox = nil
            save()
        }
        if let record = stored.sandbox {
            if record.bootID != services.bootID {
                await settle(nothingOf: record, .hostRestart, intent)
            } else {
                await adopt(record)
            }
        } else if intent?.verb == .start {
            startAgain()
        } else if stored.info.state != .stopped {
            // The daemon died before a sandbox was recorded: nothing runs.
            settleLost(.lost)
            send(.recovered(intent))
        } else if let intent {
            send(.recovered(intent))
        }
        recoverLease()
        reviewStandby()
        if stored.info.ephemeral { awaitClient() }
    }

    /// The daemon before was asked for a start and its command never ran: it is made up for, once.
    private func startAgain() {
        guard stored.isSecondTry != true else {
            let error = AegisError.failed(
                "start-lost", "the daemon ended twice while \(label) was being started",
                hint: "see the daemon's log, then start it with 'aegis instance start \(label)'")
            return settleLost(.lost, error)
        }
        services.logger.info("a start is made up for", ("instance", id))
        stored.isSecondTry = true
        send(.recovered(.init(.start)))
    }

    /// Of a sandbox nothing can be found any more.
    private func settle(
        nothingOf record: SandboxRecord, _ reason: InstanceLifecycle.StopReason, _ intent: InstanceLifecycle.Intent?,
        because error: AegisError? = nil
    ) async {
        await services.backends.backend(record.backend)?.discard(record)
        stored.sandbox = nil
        await closeNetwork()
        // A start that was not through: the command cannot have run.
        if intent?.verb == .start, stored.info.stopReason == nil { return startAgain() }
        if stored.info.stopReason == nil { settleLost(reason, error) } else { settleAsSaved() }
        send(.recovered(intent))
    }

    /// The daemon before had saved the end, and let the sandbox go. Whether it has told the ledger is not known: told twice is better
    /// than not at all.
    private func settleAsSaved() {
        stored.sandbox = nil
        tellEnd()
        log.markEnded()
        save()
        forgetSecrets()
    }

    private func adopt(_ record: SandboxRecord) async {
        let (intent, outcome) = (stored.intent, stored.info.stopReason == nil ? nil : Instance.outcome(of: stored))
        let adopted: (any Sandbox)?
        do { adopted = try await services.backends.backend(record.backend)?.adopt(record) } catch {
            return await settle(nothingOf: record, .lost, intent, because: Self.unreachable(error))
        }
        guard let found = adopted else {
            if outcome == nil { services.logger.warning("a sandbox is gone", ("instance", id)) }
            return await settle(nothingOf: record, .lost, intent)
        }
        let paused = stored.info.state == .paused
        sandbox = found
        issueGrants()
        do {
            let (state, stream) = try await found.channel()
            let task = state.processes.first { $0.number == Channel.taskProcess }
            if task == nil, outcome == nil, intent?.verb == .start, isOpen {
                // Nobody has proved its network, and the command has to find what its start had prepared: all of it once more.
                stream.close()
                await found.kill()
                await found.release()
                sandbox = nil
                return await settle(nothingOf: record, .lost, intent)
            }
            let attempt = stored.attempt
            recallSecrets(launched: task != nil)
            // Before anything is started: it is a part of the environment.
            recallInspection()
            newProcesses(attempt, stdoutFrom: task?.stdoutAcknowledged ?? 0, stderrFrom: task?.stderrAcknowledged ?? 0)
            let session = HarnessSession(sink: processes, tap: tap)
            link.withLock { $0 = session }
            // The daemon may have died between a change of the freezer and the record of it: the record counts.
            if paused { try? await found.pause() } else { try? await found.resume() }
            let isStarting = stored.info.state == .starting && waitsForKit
            send(
                .adopted(
                    .init(
                        attempt: attempt, isPaused: paused, isLaunched: task != nil, isStarting: isStarting,
                        intent: intent, outcome: outcome)))
            let others = state.processes.filter { $0.number != Channel.taskProcess }
            let orphans = others.filter { $0.number < Door.earlyProcess }.map { end($0, on: session) }
            adoptGuestDoor(others, on: session)
            await adoptNetwork(found)
            follow(session, on: stream, of: found, known: state.processes, attempt: attempt)
            if agent != nil, !paused { await waitForEnds(of: orphans) }
            services.logger.info("a running sandbox was taken over", ("instance", id))
        } catch {
            services.logger.error("a sandbox does not answer", ("instance", id), ("error", "\(error)"))
            await found.kill()
            await found.release()
            sandbox = nil
            await settle(nothingOf: record, .lost, intent, because: Self.unreachable(error))
        }
    }

    /// Whether it may reach anything, or use secrets on the way there.
    private var isOpen: Bool {
        guard let policy = try? NetworkPolicy(stored.network, secrets: stored.brokeredSecrets) else { return true }
        return !policy.isClosed
    }

    /// Why a sandbox that was alive had to be ended.
    private static func unreachable(_ error: any Error) -> AegisError {
        if case .version(let version)? = error as? ChannelError {
            return .failed(
                "channel-version",
                "its sandbox spoke version \(version) of the channel, this aegisd speaks \(Channel.oldestVersion) and later",
                hint: "start it again; 'aegis down' with the old version before an upgrade ends instances in order")
        }
        return .failed(
            "sandbox-silent", "its sandbox was alive and did not answer a new daemon: it was ended (\(error))",
            hint: "start it again; aegisd.log has more")
    }

    /// An agent is told that a program of the daemon before may or may not have done its work: it is at work no more by then. What
    /// does not answer in time has its signal all the same.
    private func waitForEnds(of orphans: [ProcessRelay]) async {
        guard !orphans.isEmpty else { return }
        try? await withDeadline(.seconds(5), clock: services.clock) {
            for relay in orphans { await relay.drain() }
        }
    }

    /// Ends an exec of the daemon before: it has nobody to report to. Its number is taken until its end is known.
    @discardableResult
    func end(_ process: ProcessState, on session: HarnessSession) -> ProcessRelay {
        let relay = ProcessRelay(
            number: process.number, journal: nil, holdsForWatcher: false, stdoutFrom: process.stdoutAcknowledged,
            stderrFrom: process.stderrAcknowledged
        ) { kind, offset in session.acknowledge(process.number, kind, upTo: offset) }
        processes.add(relay)
        let table = processes
        session.signal(process.number, 9, group: true)
        background("orphan") { _ in
            _ = await relay.ended()
            table.remove(process.number)
            session.forget(process.number)
        }
        return relay
    }

    private func settleLost(_ reason: InstanceLifecycle.StopReason, _ error: AegisError? = nil) {
        stored.info.stopReason = reason.rawValue
        stored.info.exitCode = nil
        stored.info.stoppedAt = .now()
        stored.info.error = error.map(RecordedError.init)
        stored.sandbox = nil
        if let place = stored.place {
            background("network") { await $0.services.network.detach($0.id, place) }
            stored.place = nil
        }
        stored.intent = nil
        stored.isSecondTry = nil
        machine = InstanceLifecycle(
            outcome: .init(exitCode: nil, reason: reason, error: error), attempt: stored.attempt, lingers: lingers)
        let text = reason == .lost ? "the sandbox was lost: its end is not known" : "the host was restarted"
        note(log.note(error?.message ?? text))
        tellEnd()
        log.markEnded()
        save()
        forgetSecrets()
    }

    /// Removes an ephemeral instance whose client does not come within its time (decision D29).
    package func awaitClient() {
        let (clock, patience) = (services.clock, services.defaults.clientPatience)
        clientDeadline?.cancel()
        clientDeadline = services.scope.spawn("instance-client") { [weak self] in
            try? await clock.sleep(for: patience)
            if !Task.isCancelled { await self?.discard() }
        }
    }

    /// How the daemon ends, for those who serve clients.
    package nonisolated var gate: Gate { services.gate }

    /// A client is here.
    package func clientArrived() {
        clients += 1
        clientDeadline?.cancel()
        clientDeadline = nil
    }

    /// A client begins to read files: an instance that lingers lives by it until `endReading`.
    package func beginReading() {
        if lingers { clientArrived() }
    }

    /// A client has read its files, or given up.
    package func endReading() {
        if lingers, clientLeft() { awaitClient() }
    }

    /// A client has gone.
    ///
    /// - Returns: whether it was the last one.
    package func clientLeft() -> Bool {
        clients = max(0, clients - 1)
        return clients == 0
    }
}
