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
    func recover() async {
        if let record = stored.sandbox {
            if record.bootID != services.bootID {
                settleLost(reason: "host-restart")
                await services.backends.backend(record.backend)?.discard(record)
            } else {
                await adopt(record)
            }
        } else if stored.info.state != .stopped {
            // The daemon died before a sandbox was recorded: nothing runs.
            settleLost(reason: "lost")
        }
        if stored.info.ephemeral { awaitClient() }
    }

    private func adopt(_ record: SandboxRecord) async {
        guard let backend = services.backends.backend(record.backend), let found = await backend.adopt(record) else {
            services.logger.warning("a sandbox is gone", ("instance", id))
            await services.backends.backend(record.backend)?.discard(record)
            return settleLost(reason: "lost")
        }
        let paused = stored.info.state == .paused
        sandbox = found
        do {
            let (state, stream) = try await found.channel()
            let task = state.processes.first { $0.number == Channel.taskProcess }
            let attempt = stored.attempt
            newProcesses(attempt, stdoutFrom: task?.stdoutAcknowledged ?? 0, stderrFrom: task?.stderrAcknowledged ?? 0)
            let session = HarnessSession(sink: processes)
            link.withLock { $0 = session }
            send(.adopted(attempt: attempt, paused: paused, launched: task != nil))
            // The daemon may have died between a change of the freezer and the record of it: the record counts.
            if paused { try? await found.pause() } else { try? await found.resume() }
            for process in state.processes where process.number != Channel.taskProcess { end(process, on: session) }
            await adoptNetwork(found)
            follow(session, on: stream, of: found, known: state.processes, attempt: attempt)
            services.logger.info("a running sandbox was taken over", ("instance", id))
        } catch {
            services.logger.error("a sandbox does not answer", ("instance", id), ("error", "\(error)"))
            await found.kill()
            await found.release()
            settleLost(reason: "lost")
        }
    }

    /// Ends an exec of the daemon before: it has nobody to report to. Its number is taken until its end is known.
    private func end(_ process: ProcessState, on session: HarnessSession) {
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
    }

    private func settleLost(reason: String) {
        stored.info.state = .stopped
        stored.info.stopReason = reason
        stored.info.exitCode = nil
        stored.info.stoppedAt = .now()
        stored.sandbox = nil
        if let index = stored.uplink {
            background("network") { await $0.services.network.detach($0.id, index: index) }
            stored.uplink = nil
        }
        machine = InstanceLifecycle(
            outcome: .init(exitCode: nil, reason: reason == "lost" ? .lost : .hostRestart),
            lingers: lingers)
        note(log.note(reason == "lost" ? "the sandbox was lost: its end is not known" : "the host was restarted"))
        log.markEnded()
        do { try services.store.update(stored) } catch {
            services.logger.error("cannot save an instance", ("instance", id), ("error", "\(error)"))
        }
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
