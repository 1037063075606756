internal import AegisAPI
internal import AegisAgents
internal import AegisAudit
internal import AegisBackends
internal import AegisCapabilities
internal import AegisConfig
internal import AegisCore
internal import AegisFiles
internal import AegisIO
internal import AegisImages
internal import AegisInstances
internal import AegisKits
internal import AegisNetwork
internal import AegisSandboxTypes
internal import AegisSecrets
internal import AegisStore
internal import LinuxSys

/// Every service of the daemon, made once.
struct DaemonServices: Sendable {
    /// Marks our database among all SQLite files: the letters AEGI.
    private static let applicationID: Int32 = 0x4145_4749

    /// Every step that ever led to the database of this release.
    static let migrations =
        [SecretStore.migration] + InstanceStore.migrations + [HeadStore.migration]
        + AgentPlane.migrations

    /// Opens the database of a path, as this release has it.
    static func openDatabase(_ path: String) throws(AegisError) -> Database {
        try Database.open(path: path, applicationID: applicationID, migrations: migrations)
    }

    let records: RecordsPlace
    let database: Database
    let audit: DaemonAudit
    let grants: GrantBook
    let secrets: SecretStore
    let images: ImageStore
    let drivers: [OCIBackend]
    let backends: BackendSet
    let disk: DiskPool
    let cgroups: CgroupManager
    let network: NetworkService
    let directory: InstanceDirectory
    let kits: Kits
    let loop: EventLoop

    init(settings: DaemonSettings, home: DaemonHome, loop: EventLoop, scope: TaskScope, logger: Logger) throws {
        self.loop = loop
        records = try RecordsPlace(settings.database.url, home: home.path)
        database = try Self.openDatabase(records.file)
        try records.remember()
        secrets = try SecretStore(database: database, keyFile: "\(home.path)/secrets.key")
        audit = try DaemonAudit(
            settings.audit, authorities: settings.tls.authorities, home: home, database: database, loop: loop,
            logger: logger)
        let program = try Files.readLink("/proc/self/exe")
        let folder = Files.split(program).directory
        let imageSettings = Self.imageSettings(settings)
        images = try ImageStore(
            root: "\(home.path)/images", helper: HelperProgram(executable: program), settings: imageSettings, loop: loop
        )
        cgroups = try CgroupManager.detect(node: home.node, logger: logger)
        let reserve = settings.instances.diskReserve.map { DiskReserve(share: 1, most: $0.bytes) } ?? DiskReserve()
        disk = DiskPool(
            file: "\(home.path)/disks.btrfs", mountPoint: "\(home.runDirectory)/disks", reserve: reserve,
            known: { [database] in try InstanceStore(database).ids() }, loop: loop, logger: logger)
        let pool = IDPool(folder: "/run/aegis/ids")
        let cache = ProbeCache(path: "\(home.path)/probes.json")
        let (cgroups, disk) = (cgroups, disk)
        drivers = [OCIRuntime.runsc, .runc, .crun].map { runtime in
            OCIBackend(
                runtime: runtime, runDirectory: home.runDirectory, scratch: "\(home.path)/probes",
                harnessPath: "\(folder)/aegis-harness", shims: "\(home.path)/shims", idPool: pool, cgroups: cgroups,
                disk: disk, cache: cache, loop: loop, logger: logger)
        }
        backends = BackendSet(drivers)
        let journal = audit.makeJournal()
        let kept = try GrantStore(database, before: journal)
        journal.know(kept.snapshot.grants)
        let own = [home.path, home.sockets, home.runDirectory] + [settings.file, records.folder].compactMap(\.self)
        let protected = Self.protected(own, programs: folder)
        let grants = GrantBook(kept.snapshot, protected: protected, journal: kept)
        self.grants = grants
        network = NetworkService(
            node: home.node, runDirectory: home.runDirectory, grants: grants,
            proofInterval: settings.network.proofInterval.duration, authorities: settings.tls.authorities, on: loop,
            scope: scope, logger: logger)
        directory = InstanceDirectory(
            services: InstanceServices(
                node: home.node, home: home.path, bootID: home.bootID, defaults: Self.defaults(settings, cgroups),
                store: InstanceStore(database), backends: backends, disk: disk, images: images,
                defaultRegistry: imageSettings.defaultRegistry,
                workspaces: try WorkspaceStore(home: home.path),
                opener: UserView(
                    home: home.path, runDirectory: home.runDirectory, records: records.folder,
                    helper: (program, ["--helper", "open"]), on: loop),
                secrets: secrets, network: network, grants: grants, audit: audit.ledger,
                scope: scope,
                clock: loop.clock, logger: logger))
        kits = try Kits(
            home: home.path, directory: directory,
            inflater: Inflater(helper: HelperProgram(executable: program), on: loop))
    }

    private static func imageSettings(_ settings: DaemonSettings) -> ImageSettings {
        var imageSettings = ImageSettings(environment: ProcessEnvironment.all)
        imageSettings.insecureRegistries = Set(settings.registries.filter(\.insecure).map(\.name))
        imageSettings.authFile = settings.registries.compactMap(\.authFile).first
        imageSettings.limits.pullTime = settings.images.pullTimeout.duration
        imageSettings.limits.stallTime = settings.images.stallTimeout.duration
        imageSettings.authorities = settings.tls.authorities
        return imageSettings
    }

    /// No grant reaches Aegis itself (decision D31).
    private static func protected(_ own: [String], programs folder: String) -> ProtectedPaths {
        let programs = ["aegis", "aegisd", "aegis-harness", "aegis-shim"].map { "\(folder)/\($0)" }
        return ProtectedPaths(closed: (own + programs).compactMap { CanonicalPath($0) })
    }

    /// D38: what an instance gets that names no limits of its own.
    private static func defaults(_ settings: DaemonSettings, _ cgroups: CgroupManager) -> NodeDefaults {
        let machine = MachineDefaults(totalMemory: cgroups.totalMemory)
        var limits = settings.instances.limits
        limits.memory = limits.memory ?? machine.limits.memory
        limits.pids = limits.pids ?? machine.limits.pids
        var defaults = NodeDefaults(limits: limits)
        defaults.isolation = settings.runtime.isolation
        defaults.minIsolation = Grade(rawValue: settings.runtime.minIsolation) ?? .namespaces
        defaults.pull = settings.runtime.pullPolicy
        defaults.maxInstances = settings.instances.max
        defaults.logLimit = settings.instances.logLimit.bytes
        defaults.idlePause = settings.instances.idlePause.duration
        defaults.idleStop = settings.instances.idleStop.duration
        defaults.warm = settings.instances.warm
        defaults.warmMemory = (settings.instances.warmMemory ?? machine.warmMemory).bytes
        defaults.warmReserve = (settings.instances.warmReserve ?? machine.warmReserve).bytes
        defaults.clientPatience = settings.instances.clientPatience.duration
        return defaults
    }

    /// Begins to write down what is decided.
    func start(_ scope: TaskScope) {
        audit.start(scope, clock: loop.clock)
        scope.spawn("revocations") { await grants.keepRevocations(every: .seconds(5), clock: loop.clock) }
    }

    /// Probes the backends; what is kept ready is made once they are known.
    func prove() async {
        await backends.probeAll()
        await directory.warm.start()
        CurrentProcess.releaseCode()
        for pause in [20, 60, 300] {
            do { try await loop.clock.sleep(for: .seconds(pause)) } catch { return }
            guard await backends.probeLate() else { return }
        }
    }

    /// Removes sandboxes that earlier daemons of this node left and no record knows: also those of instances, which a daemon
    /// was about to make when it was killed, and which would be in the way of the next start.
    func sweep() async throws {
        let known = try InstanceStore(database).withSandbox()
        for driver in drivers.prefix(1) { await driver.sweep(keeping: known) }
    }

    /// Removes the files of what was kept ready.
    func sweepWarm() async { await directory.warm.sweep(keeping: await directory.ids()) }

    /// Gives back what belongs to the node as a whole.
    func close(keepingInstances keep: Bool) async {
        await network.close(keeping: keep)
        if !keep {
            await disk.close()
            cgroups.removeParent()
        }
        await audit.close(loop)
        database.close()
    }

    /// What the API says of the daemon itself.
    func facts(home: DaemonHome, settings: DaemonSettings, ports: [String: String], ending: Ending) -> SystemFacts {
        let startedAt = Timestamp.now()
        let (directory, backends, cgroups, loop) = (directory, backends, cgroups, loop)
        let (database, witness) = (records.file, audit.witness)
        return SystemFacts(
            status: {
                var report = StatusReport(
                    version: Build.version, pid: CurrentProcess.pid, node: home.node, home: home.path,
                    runDirectory: home.runDirectory, socket: home.socket, ports: ports, startedAt: startedAt,
                    instances: await directory.counts(), backends: backends.knownReports, configuration: settings.file)
                report.database = database
                let warm = await directory.warm.report()
                if !warm.isEmpty { report.warm = warm }
                report.standby = directory.standbys
                return report
            },
            doctor: { fresh in
                await Doctor(backends: backends, cgroups: cgroups, home: home, witness: witness, loop: loop)
                    .report(fresh: fresh)
            },
            missing: {
                let anything = backends.knownReports
                return !anything.isEmpty && !anything.contains(where: \.available)
                    ? ["isolation": "no backend works here"] : [:]
            },
            configuration: { settings.shown.listening(on: ports) },
            shutdown: { keep in ending.begin(keepingInstances: keep) })
    }
}
