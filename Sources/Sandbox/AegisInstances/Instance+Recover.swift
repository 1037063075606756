internal import AegisBackends
internal import AegisChannel
internal import AegisCore
internal import AegisIO
internal import AegisLogs
internal import AegisSandboxTypes
internal import AegisSessions
internal import Synchronization

extension Instance {
    /// How long an ephemeral instance waits for its client to come (back).
    static let clientPatience = Duration.seconds(30)

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
            if !paused { try? await found.resume() }
            // Execs of the dead daemon have nobody to report to.
            for process in state.processes where process.number != Channel.taskProcess {
                session.signal(process.number, 9, group: true)
                session.forget(process.number)
            }
            follow(session, on: stream, of: found, known: state.processes, attempt: attempt)
            services.logger.info("a running sandbox was taken over", ("instance", id))
        } catch {
            services.logger.error("a sandbox does not answer", ("instance", id), ("error", "\(error)"))
            await found.kill()
            await found.release()
            settleLost(reason: "lost")
        }
    }

    private func settleLost(reason: String) {
        stored.info.state = .stopped
        stored.info.stopReason = reason
        stored.info.exitCode = nil
        stored.info.stoppedAt = .now()
        stored.sandbox = nil
        machine = InstanceLifecycle(outcome: .init(exitCode: nil, reason: reason == "lost" ? .lost : .hostRestart))
        note(log.note(reason == "lost" ? "the sandbox was lost: its end is not known" : "the host was restarted"))
        log.markEnded()
        do { try services.store.update(stored) } catch {
            services.logger.error("cannot save an instance", ("instance", id), ("error", "\(error)"))
        }
    }

    /// Removes an ephemeral instance whose client does not come within its time (decision D29).
    package func awaitClient() {
        let clock = services.clock
        clientDeadline?.cancel()
        clientDeadline = services.scope.spawn("instance-client") { [weak self] in
            try? await clock.sleep(for: Instance.clientPatience)
            if !Task.isCancelled { await self?.discard() }
        }
    }

    /// The client is here.
    package func clientArrived() {
        clientDeadline?.cancel()
        clientDeadline = nil
    }
}
