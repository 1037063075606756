internal import AegisBackends
internal import AegisCore
internal import AegisIO
internal import AegisImages
internal import AegisNetwork
internal import AegisSandboxTypes
internal import LinuxSys

/// A sandbox that is ready for the next start of its instance: the harness is up, nothing of the instance's runs in it.
final class StandbySandbox: Sendable {
    let number: UInt64
    let sandbox: any Sandbox
    let print: BootPrint
    /// Whether its processes stand still: a kernel in user space has threads of its own, which would wake up now and then.
    let isFrozen: Bool
    /// Bytes that it took when it was ready.
    let memory: UInt64
    /// Holds the layers.
    private let lease: ImageLease

    init(
        number: UInt64, sandbox: any Sandbox, print: BootPrint, isFrozen: Bool, memory: UInt64, lease: ImageLease
    ) {
        self.number = number
        self.sandbox = sandbox
        self.print = print
        self.isFrozen = isFrozen
        self.memory = memory
        self.lease = lease
    }
}

/// What an instance keeps of the sandbox for its next start.
struct StandbyHold {
    var machine = Standby()
    var ready: StandbySandbox?
    /// Makes it, or ends it.
    var task: TaskScope.Handle?
    /// Notices its end while it waits.
    var watch: TaskScope.Handle?
    var failures = 0
    /// Those who read or write the instance's files on the host at the moment.
    var fileUsers = 0
}

/// A sandbox of its own that is made ready after a stop for want of use, so that the next start has only the command to
/// start.
extension Instance: StandbyOwner {
    /// Whether one is to be had for the next start.
    private var wantsStandby: Bool {
        stored.info.idle?.standby == true && machine.phase == .stopped && machine.outcome?.reason == .idle
            && stored.info.enabled && !stored.info.ephemeral && standby.fileUsers == 0 && !isInspecting
    }

    /// Whether a start makes an authority of its own, which the sandbox must trust from its boot on.
    private var isInspecting: Bool { Self.isInspecting(stored) }

    nonisolated static func isInspecting(_ stored: StoredInstance) -> Bool {
        (try? NetworkPolicy(stored.network, secrets: stored.brokeredSecrets).inspects) ?? true
    }

    /// Asks for one, or gives it up, after something has changed that decides about it.
    func reviewStandby() {
        guard machine.phase == .stopped else { return }
        if wantsStandby { return services.standbys.want(self) }
        services.standbys.withdraw(id)
        if standby.machine.stage != .none { background("standby-drop") { await $0.dropStandby() } }
    }

    /// What others see of it; nil where none is wished or the instance is not asleep by itself.
    var shownStandby: (state: StandbyState, obstacle: String?)? {
        switch standby.machine.stage {
        case .ready: return (.ready, nil)
        case .making: return (.making, nil)
        case .none, .ending: break
        }
        guard stored.info.idle?.standby == true, machine.phase == .stopped, machine.outcome?.reason == .idle else {
            return nil
        }
        if isInspecting { return (.waiting, "its TLS is looked into, so every start makes a sandbox of its own") }
        guard case .waiting(_, let why)? = services.standbys.place(of: id) else { return nil }
        return (.waiting, why)
    }

    // MARK: Making

    func makeStandby() async {
        while standby.machine.stage == .ending { await standby.task?.wait() }
        guard wantsStandby, !services.standbys.isClosed, let number = standby.machine.begin() else {
            if standby.machine.stage == .none { services.standbys.withdraw(id) }
            return
        }
        let snapshot = stored
        let task = services.scope.spawn("instance-standby") { [self] in
            do { await keep(try await buildStandby(snapshot, number)) } catch { await failedStandby(number, error) }
        }
        standby.task = task
        await task.wait()
    }

    private nonisolated func buildStandby(_ stored: StoredInstance, _ number: UInt64) async throws -> StandbySandbox {
        var stored = stored
        // Nothing is fetched for this. The start itself asks as it is told to, and compares.
        stored.pull = PullPolicy.never.rawValue
        let prepared = try await prepare(stored)
        let sandbox = try await prepared.choice.backend.boot(prepared.spec) { record in
            try await self.remember(standby: record)
        }
        do {
            var isFrozen = false
            if prepared.choice.grade == .userKernel, await !isAwaited {
                var warmUp = WarmUp(sandbox: sandbox)
                // The image's own programs may be the instance's by now, and its folders are not to be touched.
                (warmUp.commands, warmUp.directory) = ([WarmUp.harness], "/")
                if await guestAPI != .standard { warmUp.door = nil }
                try await withDeadline(.seconds(5), clock: services.clock) { [warmUp] in try await warmUp.run() }
                if await !isAwaited {
                    try await sandbox.pause()
                    isFrozen = true
                }
            }
            return StandbySandbox(
                number: number, sandbox: sandbox, print: prepared.print, isFrozen: isFrozen,
                memory: (try? await sandbox.usage().memoryBytes) ?? 0, lease: prepared.image.lease)
        } catch {
            await end(sandbox)
            throw error
        }
    }

    /// Whether a start waits for the one that is being made.
    private var isAwaited: Bool { standby.machine.isAwaited }

    /// Before anything of it is there: the next daemon must find it.
    private func remember(standby record: SandboxRecord) throws {
        guard !standby.machine.isDoomed else { throw CancellationError() }
        stored.standby = record
        try services.store.update(stored)
    }

    private func keep(_ made: StandbySandbox) async {
        guard standby.machine.made(made.number) else {
            await end(made.sandbox)
            return standbyIsGone(made.number)
        }
        standby.ready = made
        standby.failures = 0
        services.standbys.isReady(self, made.memory)
        services.logger.debug("a sandbox is ready for the next start", ("instance", id))
        standby.watch = services.scope.spawn("standby-watch") { [weak self] in
            _ = await made.sandbox.termination()
            if !Task.isCancelled { await self?.standbyDied(made.number) }
        }
    }

    private func failedStandby(_ number: UInt64, _ error: any Error) {
        let wasDoomed = standby.machine.isDoomed
        forgetStandby()
        standby.machine.failed(number)
        guard !wasDoomed else { return }
        let failure = Instance.explain(error)
        if standby.failures == 0 {
            services.logger.warning(
                "cannot make a sandbox ready for the next start", ("instance", id), ("error", "\(failure)"))
        }
        services.standbys.postpone(id, until: backOff(), failure.message)
    }

    /// - Returns: when the next is tried after one that failed.
    private func backOff() -> Duration {
        standby.failures += 1
        return uptime + .seconds(min(300, 5 << min(standby.failures, 6)))
    }

    // MARK: Taking

    /// Takes the sandbox that is ready, or the one that is being made once it is; from now on there is no other.
    ///
    /// - Returns: nil when there is none: then nothing is left of one either.
    /// - Throws: `CancellationError`.
    func claimStandby() async throws -> StandbySandbox? {
        defer { services.standbys.withdraw(id) }
        while true {
            switch standby.machine.take() {
            case .nothing: return nil
            case .taken:
                standby.watch?.cancel()
                defer { (standby.ready, standby.watch) = (nil, nil) }
                return standby.ready
            case .wait:
                let task = standby.task
                await withTaskCancellationHandler {
                    await task?.wait()
                } onCancel: {
                    // The start is over, and must not be seen to wait for a boot.
                    services.scope.spawn("standby-cancel") { await self.dropStandby() }
                }
                try Task.checkCancellation()
            }
        }
    }

    /// Makes what was claimed the sandbox of a start.
    ///
    /// - Parameters:
    ///   - standby: what was claimed.
    ///   - prepared: what the start has found out.
    ///   - isInspected: whether the start has made an authority, which this sandbox does not trust.
    /// - Returns: nil when there is none, or it is not what this start would have made: it is gone then.
    /// - Throws: when the start was cancelled; what the database says.
    nonisolated func use(
        _ standby: StandbySandbox?, for prepared: PreparedBoot, isInspected: Bool
    ) async throws -> (any Sandbox)? {
        guard let standby else { return nil }
        var obstacle = isInspected ? "its TLS is looked into" : standby.print.difference(from: prepared.print)
        if obstacle == nil, !standby.sandbox.isAlive || standby.isFrozen && standby.sandbox.isDoomed {
            obstacle = "it has ended"
        }
        if obstacle == nil, standby.isFrozen {
            do { try await standby.sandbox.resume() } catch { obstacle = "\(error)" }
        }
        do {
            try Task.checkCancellation()
            if obstacle == nil {
                try await remember(taking: standby.sandbox.record)
                return standby.sandbox
            }
        } catch {
            await giveUp(standby)
            throw error
        }
        services.logger.info(
            "the sandbox that was ready is not what this start needs", ("instance", id), ("why", obstacle ?? ""))
        await giveUp(standby)
        return nil
    }

    private func remember(taking record: SandboxRecord) throws {
        (stored.sandbox, stored.standby) = (record, nil)
        do { try services.store.update(stored) } catch {
            (stored.sandbox, stored.standby) = (nil, record)
            throw error
        }
    }

    /// Ends a sandbox that was claimed and is not used.
    nonisolated func giveUp(_ standby: StandbySandbox) async {
        await end(standby.sandbox)
        await forgetStandby()
    }

    // MARK: Ending

    func dropStandby(sparingAwaited: Bool) async {
        if sparingAwaited, standby.machine.stage == .making, standby.machine.isAwaited { return }
        services.standbys.withdraw(id)
        while true {
            switch standby.machine.drop() {
            case .nothing: return
            case .end: endStandby()
            case .cancel: standby.task?.cancel()
            case .wait: break
            }
            await standby.task?.wait()
        }
    }

    /// Ends it, or its making, and waits until nothing is left of it.
    func dropStandby() async { await dropStandby(sparingAwaited: false) }

    /// Ends the one that was ready.
    private func endStandby() {
        guard let ready = standby.ready else { return }
        standby.watch?.cancel()
        (standby.ready, standby.watch) = (nil, nil)
        standby.task = services.scope.spawn("standby-end") { [self] in
            await end(ready.sandbox)
            await standbyIsGone(ready.number)
        }
    }

    private func standbyDied(_ number: UInt64) {
        guard standby.machine.died(number) else { return }
        services.logger.info("the sandbox for the next start has ended by itself", ("instance", id))
        services.standbys.withdraw(id)
        endStandby()
        if wantsStandby { services.standbys.want(self, notBefore: backOff(), because: "it has ended by itself") }
    }

    private func standbyIsGone(_ number: UInt64) {
        forgetStandby()
        standby.machine.ended(number)
    }

    private func forgetStandby() {
        guard stored.standby != nil else { return }
        stored.standby = nil
        save()
    }

    /// Ends a sandbox, also when the task is cancelled.
    private nonisolated func end(_ sandbox: any Sandbox) async {
        await services.scope.spawn("standby-end") {
            await sandbox.kill()
            await sandbox.release()
        }.wait()
    }

    // MARK: What goes before it

    /// Removes what a daemon that was killed has left ready.
    func discardStandby() async {
        guard let record = stored.standby else { return }
        await services.backends.backend(record.backend)?.discard(record)
        stored.standby = nil
        // Only that: what else the record says is still to be looked at.
        do { try services.store.update(stored) } catch {
            services.logger.error("cannot save an instance", ("instance", id), ("error", "\(error)"))
        }
    }

    /// Somebody is about to touch the instance's files on the host: what is ready for a start must not have seen them.
    package func beginFiles() async {
        standby.fileUsers += 1
        if machine.phase == .stopped { await dropStandby() }
    }

    /// Ends what `beginFiles` began.
    package nonisolated func endFiles() { afterwards("files") { await self.filesEnded() } }

    private func filesEnded() {
        standby.fileUsers -= 1
        reviewStandby()
    }
}
