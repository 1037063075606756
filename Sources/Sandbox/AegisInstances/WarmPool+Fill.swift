internal import AegisBackends
internal import AegisCore
internal import AegisFiles
internal import AegisIO
internal import AegisImages
internal import AegisLogs
package import AegisSandboxTypes
internal import LinuxSys
internal import Synchronization

/// Making sandboxes ahead, and removing what is left of them.
extension WarmPool {
    /// Makes one for a slot, or notes why that cannot be done now.
    func fill(_ index: Int) async {
        let wish = slots[index].wish
        let typical = slots[index].ready.last?.memory ?? 32 << 20
        let held = held
        if held + typical > services.defaults.warmMemory {
            return postpone(
                index, "they use \(held >> 20) MiB of the \(services.defaults.warmMemory >> 20) MiB that they may",
                for: .seconds(60))
        }
        if let objection = pressure.objection(for: typical) {
            return postpone(index, objection, for: Self.pressurePause)
        }
        do {
            let warm = try await make(wish)
            guard !isClosed, !Task.isCancelled else { return await disposeFully([warm]) }
            slots[index].ready.append(warm)
            slots[index].refills += 1
            (slots[index].obstacle, slots[index].retryAt, slots[index].failures) = (nil, nil, 0)
            warm.watch.withLock {
                $0 = services.scope.spawn("warm-watch") { [weak self] in
                    _ = await warm.sandbox.termination()
                    if !Task.isCancelled { await self?.died(warm) }
                }
            }
            // Its name may have come to stand for another image since this was begun; what comes later, `imagesChanged` sees.
            await removeStale(index)
        } catch {
            guard !Task.isCancelled else { return }
            let failure = Instance.explain(error)
            // It is not fetched for this alone; when somebody has, the store says so.
            if failure.code == "image-not-here" {
                slots[index].obstacle = "the image is not here yet"
                slots[index].waitsForImage = true
                return
            }
            slots[index].failures += 1
            let pause = Duration.seconds(min(300, 5 << min(slots[index].failures, 6)))
            postpone(index, failure.message, for: pause)
            services.logger.warning("cannot keep a sandbox ready", ("image", wish.image), ("error", "\(failure)"))
        }
    }

    private func postpone(_ index: Int, _ why: String, for pause: Duration) {
        slots[index].obstacle = why
        slots[index].retryAt = uptime + pause
    }

    private func make(_ wish: WarmWish) async throws -> WarmSandbox {
        var request = CreateInstance(command: ["true"])
        (request.image, request.isolation, request.limits) = (wish.image, wish.isolation, wish.limits)
        (request.ephemeral, request.start, request.pull) = (true, false, PullPolicy.never.rawValue)
        let stored = try CreateRules(services: services, caller: Caller(uid: 0, gid: 0)).check(request)
        let id = stored.info.id
        try mark(id)
        do {
            let log = try InstanceLog(
                path: "\(services.home)/logs/\(id)", limits: LogLimits(totalBytes: services.defaults.logLimit))
            // It takes the way of every start, but is in no directory and no table.
            let maker = Instance(
                stored, log: log, services: services, onLeaving: { _ in }, onEnded: { _ in }, onDeleted: { _ in })
            let sandbox = try await maker.prepareAndBoot(stored)
            do { return try await finish(sandbox, maker, log) } catch {
                await sandbox.kill()
                _ = await sandbox.termination()
                await sandbox.release()
                throw error
            }
        } catch {
            // At the daemon's end this task is cancelled, and a cancelled one touches no file.
            await services.scope.spawn("warm-remove") { [self] in await removeFiles(of: id) }.wait()
            throw error
        }
    }

    private func finish(_ sandbox: any Sandbox, _ maker: Instance, _ log: InstanceLog) async throws -> WarmSandbox {
        let learned = await maker.stored
        guard let digest = learned.image?.digest, let lease = await maker.lease else {
            throw AegisError.failed("internal", "a warm sandbox has no image")
        }
        let ownKernel = learned.info.grade == .userKernel
        if ownKernel {
            try await withDeadline(.seconds(10), clock: services.clock) { try await WarmUp(sandbox: sandbox).run() }
        }
        let channel = try await HeldChannel(of: sandbox, in: services.scope)
        if ownKernel { try await sandbox.pause() }
        var limits = learned.info.limits
        (limits.timeout, limits.grace) = (nil, nil)
        return WarmSandbox(
            id: learned.info.id, sandbox: sandbox, digest: digest, limits: limits,
            fitting: await sandbox.fitting(bootedWith: limits), log: log, isFrozen: ownKernel,
            memory: (try? await sandbox.usage().memoryBytes) ?? 0, channel: channel, lease: lease)
    }

    // MARK: Removing

    /// Removes sandboxes in the background; the daemon's end waits for that.
    func dispose(_ all: [WarmSandbox]) {
        guard !all.isEmpty else { return }
        services.scope.spawn("warm-dispose") { [self] in await disposeAll(all) }
    }

    /// Removes sandboxes although this task may be cancelled.
    private func disposeFully(_ all: [WarmSandbox]) async {
        await services.scope.spawn("warm-dispose") { [self] in await disposeAll(all) }.wait()
    }

    func disposeAll(_ all: [WarmSandbox]) async {
        await withDiscardingTaskGroup { group in
            for warm in all {
                group.addTask {
                    warm.unwatch()
                    try? await warm.woken()
                    await warm.sandbox.kill()
                    await warm.sandbox.release()
                    await self.removeFiles(of: warm.id)
                }
            }
        }
    }

    /// Folder of the marks: an empty file for each sandbox that nobody has claimed, so that the daemon after one that was
    /// killed knows what it left.
    private nonisolated var marks: String { "\(services.home)/warm" }

    private nonisolated func mark(_ id: String) throws {
        try Files.makeDirectories(marks, mode: 0o700)
        _ = try FileDescriptor.open("\(marks)/\(id)", [.writeOnly, .create], mode: 0o600)
    }

    /// It is an instance's now, which is in the table.
    nonisolated func unmark(_ id: String) { try? Files.removeFile("\(marks)/\(id)") }

    private nonisolated func removeFiles(of id: String) async {
        do {
            try await services.workspaces.removeAutomatic(instance: id)
            // One of an earlier daemon goes when the pool is mounted next.
            await services.disk.remove(id, wasLimited: false)
            let (home, writable) = (services.home, InstancePlaces.writable(id, home: services.home))
            try await BlockingPool.shared.run { () throws -> Void in
                for path in [writable, "\(home)/logs/\(id)"] where Files.exists(path) { try Files.removeTree(path) }
            }
            unmark(id)
        } catch {
            services.logger.error("a warm sandbox left files behind", ("instance", id), ("error", "\(error)"))
        }
    }

    /// Removes the files of sandboxes that an earlier daemon kept ready; what ran of them is gone already.
    ///
    /// - Parameter known: ids of instances: one that was claimed keeps everything.
    package nonisolated func sweep(keeping known: Set<String>) async {
        for id in ((try? Files.list(marks)) ?? []).map(\.name) where Names.isInstanceID(id) {
            if known.contains(id) { unmark(id) } else { await removeFiles(of: id) }
        }
    }

    // MARK: Telling

    /// What is kept ready, for status.
    package func report() async -> [WarmReport] {
        var reports: [WarmReport] = []
        for slot in slots {
            var memory: UInt64 = 0
            for warm in slot.ready { memory += (try? await warm.sandbox.usage().memoryBytes) ?? 0 }
            var report = WarmReport(
                image: slot.reference?.description ?? slot.wish.image, wanted: slot.wish.count, ready: slot.ready.count,
                claimed: slot.claimed, refills: slot.refills, memoryBytes: memory)
            report.isolation = slot.ready.last?.sandbox.record.backend ?? slot.wish.isolation
            report.limits = slot.wish.limits == Limits() ? nil : slot.wish.limits
            report.obstacle = slot.isFull ? nil : slot.obstacle
            if slot.reference == nil { report.obstacle = "'\(slot.wish.image)' is not the name of an image" }
            reports.append(report)
        }
        return reports
    }
}
