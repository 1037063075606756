internal import AegisBackends
internal import AegisCore
internal import AegisFiles
internal import AegisIO
package import AegisImages
internal import AegisSandboxTypes
internal import LinuxSys

/// Sandboxes that are kept ready for whoever runs a command next.
///
/// They are made one at a time and only while nobody waits for a start, are few (the configuration says how many) and
/// small (`instances.warm_memory` bounds them together), and are the first to go when memory gets scarce. They are no
/// instances: nobody sees them, and nothing of them outlives the daemon.
package actor WarmPool {
    /// What is kept of one wish.
    struct Slot {
        let wish: WarmWish
        /// The image's full name; nil when what was written is none.
        let reference: ImageReference?
        var ready: [WarmSandbox] = []
        var claimed: UInt64 = 0
        var refills: UInt64 = 0
        /// Why there are fewer than wished.
        var obstacle: String?
        /// When the next attempt is made after one that failed, on the clock of `uptime`.
        var retryAt: Duration?
        var failures = 0
        /// Whether nothing can be done until the image store says that something has changed.
        var waitsForImage = false

        var isFull: Bool { ready.count >= wish.count }
    }

    let services: InstanceServices
    let logLimit: UInt64
    var slots: [Slot]
    var isClosed = false
    /// Whether the standbys are going already: each that has gone has the pool look again.
    var standbysGo = false
    /// When somebody has claimed one last.
    private var lastClaim = Duration.zero
    private var worker: TaskScope.Handle?
    private var watcher: TaskScope.Handle?
    private var retry: TaskScope.Handle?
    private let pokes: AsyncStream<Void>
    private let poker: AsyncStream<Void>.Continuation
    /// Full names of the images that there are wishes for: others need not ask.
    private nonisolated let images: Set<String>

    init(services: InstanceServices) {
        self.services = services
        logLimit = services.defaults.logLimit
        slots = services.defaults.warm.filter { $0.count > 0 }.map { wish in
            Slot(
                wish: wish,
                reference: try? ImageReference(parsing: wish.image, defaultRegistry: services.defaultRegistry))
        }
        images = Set(slots.compactMap { $0.reference?.description })
        (pokes, poker) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    }

    nonisolated var uptime: Duration { .nanoseconds(Int64(services.clock.now.nanoseconds)) }

    // MARK: Running

    /// Begins to fill the pool, and to make for instances what they want for their next start.
    package func start() {
        guard worker == nil, !isClosed else { return }
        worker = services.scope.spawn("warm-pool") { [weak self] in await self?.work() }
        services.standbys.whenWanted { [weak self] in self?.poke() }
        services.starts.whenEnded { [weak self] in self?.poke() }
        poke()
        guard !slots.isEmpty else { return }
        watchMemory()
        services.images.whenChanged { [weak self] in
            guard let self else { return }
            services.scope.spawn("warm-images") { await self.imagesChanged() }
        }
    }

    /// From now on notices when the machine's memory gets scarce.
    func watchMemory() {
        guard watcher == nil, !isClosed else { return }
        watcher = services.scope.spawn("warm-pressure") { [weak self] in
            guard let loop = self?.services.clock.loop else { return }
            await MemoryPressure.watch(on: loop) { [weak self] in await self?.relieve() }
        }
    }

    /// Looks whether there is something to do.
    nonisolated func poke() { poker.yield() }

    private func work() async {
        for await _ in pokes {
            // Less than the reserve may be left although no task waits for memory, or the kernel does not tell of those: a start has
            // taken some, most likely. While nothing happens nobody looks, for that would cost wake-ups.
            if isHolding { relieve() }
            while !isClosed, !Task.isCancelled {
                if let index = nextToFill() {
                    guard await becomesQuiet() else { break }
                    await fill(index)
                } else if services.standbys.next(now: uptime) != nil {
                    // Whoever it is by then: a start may have come meanwhile.
                    guard await becomesQuiet(), let owner = services.standbys.next(now: uptime) else { break }
                    await fillStandby(of: owner)
                } else {
                    break
                }
            }
            if isClosed || Task.isCancelled { return }
            let later = slots.filter { !$0.isFull && !$0.waitsForImage }.compactMap(\.retryAt)
            if let next = (later + [services.standbys.retryAt].compactMap(\.self)).min() { pokeLater(next - uptime) }
        }
    }

    private func pokeLater(_ delay: Duration) {
        let clock = services.clock
        retry?.cancel()
        retry = services.scope.spawn("warm-retry") { [weak self] in
            try? await clock.sleep(for: max(delay, .milliseconds(10)))
            if !Task.isCancelled { self?.poke() }
        }
    }

    /// The emptiest slot that something can be done about.
    private func nextToFill() -> Int? {
        let now = uptime
        return slots.indices
            .filter { index in
                let slot = slots[index]
                return !slot.isFull && !slot.waitsForImage && slot.reference != nil
                    && (slot.retryAt.map { $0 <= now } ?? true)
            }
            .min { slots[$0].ready.count < slots[$1].ready.count }
    }

    /// How long nobody must have started anything before one is made ahead.
    private static let quiet = Duration.milliseconds(50)
    /// After so long it is made all the same: where somebody always starts something, the pool is of most use.
    private static let patience = Duration.seconds(1)

    /// Waits until no user waits for a start.
    private func becomesQuiet() async -> Bool {
        let end = uptime + Self.patience
        while uptime < end {
            let last = max(lastClaim, services.starts.lastActivity(now: uptime))
            let rest = Self.quiet - (uptime - last)
            guard rest > .zero else { break }
            try? await services.clock.sleep(for: rest)
            if Task.isCancelled || isClosed { return false }
        }
        return true
    }

    // MARK: Claiming

    /// Takes a sandbox for an instance that is about to be made, if there is one that differs in nothing from what the
    /// instance would get by a start of its own.
    nonisolated func claim(for stored: StoredInstance) async -> WarmClaim? {
        guard images.contains(stored.info.image), Self.suits(stored) else { return nil }
        return await take(stored)
    }

    /// Whether everything that the instance asks for can be had after the sandbox was made.
    private static func suits(_ stored: StoredInstance) -> Bool {
        stored.info.ephemeral && stored.info.name == nil && stored.info.mounts.isEmpty
            && stored.workspaceKind == .automatic && !Instance.isInspecting(stored) && stored.kit == nil
            && stored.pull != PullPolicy.always.rawValue
    }

    private func take(_ stored: StoredInstance) async -> WarmClaim? {
        guard !isClosed, slots.contains(where: { $0.reference?.description == stored.info.image && !$0.ready.isEmpty }),
            let reference = try? ImageReference(
                parsing: stored.info.image, defaultRegistry: services.defaultRegistry),
            let choice = try? await services.backends.choose(
                isolation: stored.isolation, minimum: Grade(rawValue: stored.minIsolation)),
            // With the rights of the caller, as for a start of its own.
            let image = try? await services.images.ensure(
                reference, policy: .never, for: Instance.imageCaller(stored, services)),
            let user = try? image.config.user(overriddenBy: stored.user).description
        else { return nil }
        let ids = UserLookup(layers: image.layers.reversed().map(\.path)).resolve(user)
        guard max(ids.uid, ids.gid) < BootMount.idCount else { return nil }
        guard let warm = pick(reference.description, image.digest, choice.backend.name, stored.info.limits)
        else { return nil }
        lastClaim = uptime
        // Before all else: a kernel in user space needs a moment until it runs again.
        let thawed = await Self.thaw(warm)
        if warm.isFrozen, !stored.tty { await Self.announce(stored, image.config, to: warm) }
        poke()
        let claim = WarmClaim(warm: warm, image: image, ids: ids, choice: choice)
        let (services, owner, limits) = (services, stored.info.owner, stored.info.limits)
        warm.wake(in: services.scope) {
            try thawed.get()
            try await warm.fitting.fit(to: limits)
            try await Self.give(claim, to: owner, services)
        }
        return claim
    }

    /// Tells the sandbox what it will most likely run.
    private static func announce(_ stored: StoredInstance, _ config: ImageConfig, to warm: WarmSandbox) async {
        let program = (try? config.commandLine(userCommand: stored.userCommand))?.first
        let path = stored.env["PATH"] ?? config.value(of: "PATH") ?? Instance.standardPath
        await warm.channel.announceCommand(
            in: Instance.workingDirectory(config, stored), stdin: stored.stdin, program: program, path: path)
    }

    /// Its processes run again.
    private static func thaw(_ warm: WarmSandbox) async -> Result<Void, any Error> {
        guard warm.isFrozen else { return .success(()) }
        do { return .success(try await warm.sandbox.resume()) } catch { return .failure(error) }
    }

    private func pick(_ reference: String, _ digest: String, _ backend: String, _ limits: Limits) -> WarmSandbox? {
        // One that was made with just these limits goes first: others may suit whoever comes next.
        for match in [LimitMatch.same, .changeable] {
            for index in slots.indices where slots[index].reference?.description == reference {
                // The oldest: the others have more of the kernel's work behind them by the time they are wanted.
                let found = slots[index].ready.firstIndex {
                    $0.digest == digest && $0.sandbox.record.backend == backend && $0.fitting.match(limits) == match
                }
                guard let found else { continue }
                let warm = slots[index].ready.remove(at: found)
                warm.unwatch()
                guard !warm.isFrozen || !warm.sandbox.isDoomed else {
                    services.logger.info("a warm sandbox was killed while it waited", ("instance", warm.id))
                    dispose([warm])
                    poke()
                    return pick(reference, digest, backend, limits)
                }
                slots[index].claimed += 1
                return warm
            }
        }
        return nil
    }

    /// Makes it the caller's: its workspace has the owner and the age of a new one.
    private static func give(_ claim: WarmClaim, to owner: UInt32, _ services: InstanceServices) async throws {
        let warm = claim.warm
        let folder =
            services.disk.isLimited(warm.id)
            ? try await services.disk.workspace(
                for: warm.id, folder: InstancePlaces.writable(warm.id, home: services.home), limit: warm.limits.disk)
            : nil
        try await services.workspaces.adoptAutomatic(
            instance: warm.id, owner: owner,
            givingTo: .init(user: claim.ids.uid, group: claim.ids.gid), at: folder)
    }

    // MARK: Emptying

    /// Ends every sandbox of the pool; none is made any more.
    package func close() async {
        isClosed = true
        poker.finish()
        watcher?.cancel()
        worker?.cancel()
        // The worker may be making one of them.
        await closeStandbys()
        await worker?.wait()
        await disposeAll(empty())
    }

    /// Takes all out of the slots.
    private func empty() -> [WarmSandbox] {
        var all: [WarmSandbox] = []
        for index in slots.indices {
            all += slots[index].ready
            slots[index].ready = []
        }
        return all
    }

    /// Memory is scarce: what nobody needs yet goes first.
    private func relieve() {
        guard let objection = pressure.objection(for: 0) else { return }
        relieveStandbys(because: objection)
        let all = empty()
        for index in slots.indices {
            slots[index].obstacle = objection
            slots[index].retryAt = uptime + Self.pressurePause
        }
        guard !all.isEmpty else { return }
        services.logger.info("memory is scarce: the warm sandboxes go", ("count", "\(all.count)"), ("why", objection))
        dispose(all)
        poke()
    }

    /// Whether there is anything that could go.
    private var isHolding: Bool {
        slots.contains { !$0.ready.isEmpty } || (services.standbys.report?.ready ?? 0) > 0
    }

    /// How long nothing is made ahead once memory was scarce.
    static let pressurePause = Duration.seconds(15)
    var pressure: MemoryPressure { MemoryPressure(reserve: services.defaults.warmReserve) }

    /// Ends those of an image, so that it can be deleted.
    package func clear(_ reference: ImageReference) async {
        var all: [WarmSandbox] = []
        for index in slots.indices where slots[index].reference == reference {
            all += slots[index].ready
            slots[index].ready = []
        }
        await disposeAll(all)
    }

    /// An image has come or gone: those whose name stands for another one now are of no use.
    private func imagesChanged() async {
        for index in slots.indices {
            await removeStale(index)
            slots[index].retryAt = nil
            (slots[index].failures, slots[index].waitsForImage) = (0, false)
        }
        poke()
    }

    /// Removes those of a slot whose image is not the one that its name stands for.
    func removeStale(_ index: Int) async {
        guard let reference = slots[index].reference else { return }
        let digest = try? await services.images.local(reference)?.digest
        let stale = slots[index].ready.filter { $0.digest != digest }
        slots[index].ready.removeAll { warm in stale.contains { $0 === warm } }
        dispose(stale)
    }

    /// Its sandbox has ended while it waited.
    func died(_ warm: WarmSandbox) {
        for index in slots.indices { slots[index].ready.removeAll { $0 === warm } }
        services.logger.info("a warm sandbox has ended by itself", ("instance", warm.id))
        dispose([warm])
        poke()
    }
}
