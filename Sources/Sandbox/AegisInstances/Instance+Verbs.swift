internal import AegisBackends
internal import AegisCapabilities
internal import AegisCore
internal import AegisIO
package import AegisSandboxTypes
internal import AegisSecrets
internal import AegisSessions

/// What users ask of an instance. Every verb waits until the instance has come to rest where the verb leads.
extension Instance {
    /// Starts a stopped instance with its stored configuration; a running one is left alone.
    ///
    /// - Throws: `instance-disabled`, `crash-loop`, or why the boot failed.
    package func start() async throws -> InstanceInfo {
        try checkMayStart()
        if machine.phase == .paused { return try await resume() }
        if machine.state == .stopping {
            if try await settled() { return try await started() }
            // Only when it is down it is known whether it crashed.
            try checkMayStart()
        }
        send(.start)
        return try await started()
    }

    /// Begins a start without waiting for it.
    package func beginStart() throws {
        try checkMayStart()
        send(.start)
    }

    /// Begins a start without waiting for it, for a client that cannot know whether it asked before: a running instance
    /// is left alone, and one that lives by its client runs once.
    package func beginFirstStart() throws {
        guard machine.state == .stopped, !(stored.info.ephemeral && stored.attempt > 0) else { return }
        try beginStart()
    }

    /// Starts a stopped instance for a request that would make one of the same name.
    ///
    /// - Returns: nil when it is up, or when the request asks for something else than what the instance was made with.
    package func restart(asIn request: CreateInstance) async throws -> InstanceInfo? {
        guard machine.state == .stopped, !stored.info.ephemeral,
            request.command.map({ $0 == stored.userCommand }) ?? true,
            request.image.map({ $0 == stored.info.image }) ?? true,
            request.kit.map({ $0 == stored.info.kit }) ?? true
        else { return nil }
        return try await start()
    }

    /// Waits for the start under way and says how it went.
    package func started() async throws -> InstanceInfo {
        while true {
            let attempt = machine.attempt
            try await wait(for: .start(attempt: attempt))
            switch machine.awaitedStart(attempt) {
            case .done: return info
            case .replaced: continue
            case .failed(let error): throw error
            case .cancelled(let reason):
                throw AegisError.conflict(
                    "start-cancelled", "\(label) was \(reason.rawValue) while it started",
                    hint: reason == .deleted
                        ? "it is gone; make a new one with 'aegis instance start' or 'aegis run'"
                        : "start it again with 'aegis instance start \(label)'")
            }
        }
    }

    /// Ends the processes (SIGTERM, SIGKILL after 5 s) and the sandbox; a stopped instance is left alone.
    ///
    /// - Throws: when the task is cancelled; the stop goes on.
    package func stop() async throws -> InstanceInfo {
        send(.stop(.stopped))
        _ = try await settled()
        return info
    }

    /// How long a pause waits for those who are about to let go, as a router does after its last request.
    private static let pausePatience = Duration.seconds(1)

    /// Freezes a running instance.
    ///
    /// - Throws: `instance-stopped`, or `instance-held` naming who needs it awake (unless `force`).
    package func pause(force: Bool) async throws -> InstanceInfo {
        switch machine.state {
        case .paused: return info
        case .stopped, .stopping: throw notRunning("pause")
        case .starting: _ = try await started()
        case .running: break
        }
        if !force, machine.phase == .running {
            let holds = holds
            try? await withDeadline(Self.pausePatience, clock: services.clock) { await holds.whenFree() }
        }
        guard machine.phase == .running || machine.phase == .freezing else { throw notRunning("pause") }
        if machine.phase == .running {
            guard holds.ledger({ ledger, _ in ledger.closeForPause(force: force) }) else { throw heldError }
            send(.pause)
        }
        try await wait { $0.phase != .freezing }
        // Somebody may have needed it meanwhile: then it goes on at once.
        if machine.phase == .paused || machine.isThawing { return info }
        if !force, holds.ledger({ ledger, _ in ledger.held > 0 }) { throw heldError }
        throw AegisError.failed("pause-failed", "\(label) could not be paused", hint: "see the daemon's log")
    }

    private var heldError: AegisError {
        var names: [String: Int] = [:]
        for (reason, count) in holds.ledger({ ledger, _ in ledger.counts }) { names[reason.name, default: 0] += count }
        let text = names.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)\($0.value == 1 ? "" : "s")" }
        return .conflict(
            "instance-held", "\(label) is in use: \(text.joined(separator: ", "))",
            hint: "wait until they are done, or pause with --force")
    }

    /// Thaws a paused instance; a running one is left alone.
    package func resume() async throws -> InstanceInfo {
        switch machine.state {
        case .running where machine.phase != .freezing: return info
        case .running: break
        case .starting: return try await started()
        case .stopped, .stopping: throw notRunning("resume")
        case .paused: break
        }
        send(.resume)
        try await wait { $0.phase != .thawing && $0.phase != .paused && $0.phase != .freezing }
        guard machine.state == .running else { throw notRunning("resume") }
        return info
    }

    /// Stops the instance if it runs and starts it again. Restarts that are asked for while one is under way are that one.
    ///
    /// - Throws: as `start` does. What is known beforehand is said before the running one is touched.
    package func restart() async throws -> InstanceInfo {
        try checkMayStart()
        if machine.state == .stopping {
            if try await settled() { return try await started() }
            try checkMayStart()
        }
        if machine.state == .running || machine.state == .paused { try await checkNeeds() }
        let attempt = machine.attempt
        send(.restart)
        try await wait { $0.attempt > attempt || $0.isAtRest }
        return try await started()
    }

    /// Whether what a start needs of the host is still there: its secrets, its workspace and what is mounted.
    ///
    /// - Throws: `secret-not-found`, and as `HostPlaces.open` does.
    private func checkNeeds() async throws {
        for name in stored.plainSecrets + stored.brokeredSecrets.map(\.name) where name != "*" {
            _ = try services.secrets.value(of: name)
        }
        if stored.workspaceKind != .automatic || !stored.info.mounts.isEmpty || stored.kit != nil {
            _ = try await HostPlaces(services: services, stored: stored).open()
        }
    }

    /// Allows the instance to be started.
    package func enable() throws -> InstanceInfo {
        stored.info.enabled = true
        try services.store.update(stored)
        services.routes.post()
        reviewStandby()
        return info
    }

    /// Stops the instance and refuses starts until it is enabled again.
    package func disable() async throws -> InstanceInfo {
        stored.info.enabled = false
        try services.store.update(stored)
        services.routes.post()
        await dropStandby()
        return try await stop()
    }

    /// Stops the instance and removes it with everything that was its own; a user's workspace stays.
    ///
    /// A cancelled task does not wait; the deletion goes on.
    package func delete() async {
        send(.delete)
        if !stored.info.expose.isEmpty { services.routes.post() }
        try? await wait { $0.phase == .deleted }
    }

    /// Removes an ephemeral instance whose command has ended by itself in a run, without making its client wait for that.
    ///
    /// From here on nobody sees the instance and its name is free; its processes are being killed, and what it left on
    /// the host is removed in the background.
    ///
    /// - Returns: whether the kernel killed a process for want of memory; nil if the end is of another kind, so that the
    ///   instance must come to rest before anything can be said.
    /// - Throws: when the task is cancelled.
    package func leave(_ attempt: UInt64) async throws -> Bool? {
        try await wait { $0.endedByItself || $0.attempt != attempt || $0.isAtRest }
        guard machine.attempt == attempt, machine.endedByItself, machine.phase != .deleted, clients == 1,
            let isOutOfMemory = machine.outcome?.oomKilled ?? sandbox.map({ $0.oomKills > 0 })
        else { return nil }
        if stored.info.name != nil {
            do { try services.store.releaseName(of: id) } catch { return nil }
        }
        clients = 0
        onLeaving(id)
        send(.leave)
        if !stored.info.expose.isEmpty { services.routes.post() }
        return isOutOfMemory
    }

    /// How long the sandbox of a run stays for its client to be told the end: for one that takes no output, and for one that
    /// has just been told.
    private static let farewellLimit = (longest: Duration.milliseconds(100), afterwards: Duration.milliseconds(1))

    /// Kills the sandbox: at once, or, where a run has ended by itself, when its client knows that. Taking down a sandbox keeps every
    /// processor busy for milliseconds, in which the client would wait for a word that has long been there.
    func killAfterFarewell() {
        guard stored.info.ephemeral, !lingers, clients == 1, machine.endedByItself else { return killSandbox() }
        awaitFarewell(Self.farewellLimit.longest)
    }

    private func awaitFarewell(_ limit: Duration) {
        let (clock, attempt) = (services.clock, machine.attempt)
        farewell += 1
        let number = farewell
        services.scope.spawn("instance-farewell") { [weak self] in
            try? await clock.sleep(for: limit)
            await self?.endFarewell(number, attempt)
        }
    }

    private func endFarewell(_ number: UInt64, _ attempt: UInt64) {
        // Another wait may have taken the place of this one.
        guard farewell == number, machine.attempt == attempt else { return }
        farewell = 0
        killSandbox()
    }

    private func killSandbox() { background("kill") { await $0.sandbox?.kill() } }

    /// The client of a run has been told how it ended, or need not be told before the sandbox is gone.
    package func saidFarewell() {
        if farewell != 0 { awaitFarewell(Self.farewellLimit.afterwards) }
    }

    /// As `delete`, unless it was started meanwhile.
    ///
    /// - Returns: whether it is gone.
    package func deleteIfStopped() async -> Bool {
        guard machine.phase == .stopped else { return false }
        await delete()
        return true
    }

    /// As `delete`, without grace: the client that it lived for is gone.
    package func discard() async {
        send(.kill(.clientGone))
        await delete()
    }

    /// The instance's name, else its id, for messages.
    package nonisolated var idLabel: String { id }
    var label: String { stored.info.name ?? id }

    /// Why it is neither started nor served while it is disabled.
    var disabled: AegisError {
        .conflict("instance-disabled", "\(label) is disabled", hint: "enable it with 'aegis instance enable \(label)'")
    }

    private func checkMayStart() throws(AegisError) {
        try services.gate.check()
        guard stored.info.enabled else { throw disabled }
        if let refusal = crashes.refusal(now: uptime), machine.state == .stopped {
            let seconds = Int64(refusal.components.seconds) + 1
            throw .conflict(
                "crash-loop", "\(label) crashed \(CrashLoop.limit) times within 2 minutes",
                hint: "see 'aegis logs \(label)'; it can be started again in \(seconds)s")
        }
        guard machine.phase != .removing, machine.phase != .deleted else {
            throw .notFound("instance-not-found", "\(label) is being deleted")
        }
    }

    /// The error for a start of a new instance under the name of this one.
    func nameInUse() -> AegisError {
        let state = machine.state
        guard state != .stopped else { return InstanceStore.nameInUse(label) }
        return .conflict(
            "name-in-use", "the name '\(label)' is in use: that instance is \(state.rawValue)",
            hint: state == .running || state == .starting
                ? "it needs no start; 'aegis instance restart \(label)' runs its command anew, another --name makes another one"
                : state == .paused
                    ? "let it go on with 'aegis instance resume \(label)', or choose another --name"
                    : "wait until it is stopped, or choose another --name")
    }

    func notRunning(_ verb: String) -> AegisError {
        .conflict(
            "instance-stopped", "\(label) is stopped: nothing to \(verb)",
            hint: "start it with 'aegis instance start \(label)'")
    }
}
