internal import AegisAudit
internal import AegisCapabilities
internal import AegisCore
internal import AegisIO
internal import AegisJSON
internal import AegisNetwork
internal import AegisStore
internal import LinuxSys

extension AuditKind {
    /// A daemon begins to work in this home.
    static let daemonStarted = AuditKind("daemon_started")
    /// A daemon ends as it should.
    static let daemonStopped = AuditKind("daemon_stopped")
}

/// The node's ledger with all that belongs to it: key, mirrors, sinks and the journal of grants.
struct DaemonAudit: Sendable {
    let ledger: Ledger
    let service: AuditService
    private let mirrors: HeadMirrors
    private let sinks: [(name: String, sink: any AuditSink)]
    private let logger: Logger

    /// Opens the ledger; without one no daemon runs.
    init(_ settings: AuditSection, home: DaemonHome, database: Database, logger: Logger) throws {
        let heads = HeadStore(database)
        ledger = try Ledger(
            path: "\(home.path)/\(DaemonHome.auditFolder)", keyFile: "\(home.path)/\(DaemonHome.auditKey)",
            node: home.node, settings: settings.settings, known: try heads.load())
        service = try AuditService(ledger, heads: heads)
        let journal = JournalSink(node: home.node)
        mirrors = HeadMirrors(
            node: home.node, store: heads, witness: settings.witness,
            journal: journal
        ) { logger.warning("heads of the ledger are not mirrored", ("error", $0)) }
        var sinks: [(name: String, sink: any AuditSink)] = []
        if settings.sinks.contains("stdout") { sinks.append(("stdout", LineSink(descriptor: 1))) }
        if settings.sinks.contains("journald") { sinks.append(("journald", journal)) }
        self.sinks = sinks
        self.logger = logger
        try ledger.record(
            AuditEvent(
                .daemonStarted, ("version", .string(Build.version)), ("pid", .number(CurrentProcess.pid)),
                ("node", .string(home.node))))
        _ = try ledger.checkpoint()
    }

    /// What a book of grants writes to; one for each book.
    func makeJournal() -> GrantLedger {
        let logger = logger
        return GrantLedger(
            ledger, ignoresUse: { $0.isProbeOfNetwork },
            // The network tells of its own refusals, and knows which were those of a probe.
            ignoresDenial: { if case .connect(_, nil) = $0 { true } else { false } },
            failed: { logger.error("a refusal is not in the ledger", ("error", $0.message)) })
    }

    /// Starts what signs, mirrors and passes on.
    func start(_ scope: TaskScope, clock: LoopClock) {
        let (ledger, mirrors, logger) = (ledger, mirrors, logger)
        let checkpoints = Checkpoints(of: ledger, clock: clock, mirrors: { mirrors.take($0) }) { error in
            if let error {
                logger.error("the ledger is not signed", ("error", error.message))
            } else {
                logger.info("the ledger is signed again")
            }
        }
        scope.spawn("audit-checkpoints") { await checkpoints.run() }
        for (name, sink) in sinks { scope.spawn("audit-\(name)") { await feed(name, sink) } }
    }

    /// Hands on what comes; a sink that takes nothing loses what it did not take, and the daemon's log says so.
    private func feed(_ name: String, _ sink: any AuditSink) async {
        var isFailing = false
        do {
            var cursor = try await service.tail(0, AuditFilter()).cursor
            while !Task.isCancelled {
                let batch = try await service.next(cursor, AuditFilter())
                cursor = batch.cursor
                guard !batch.lines.isEmpty || batch.lost > 0 else { continue }
                do {
                    let gap = batch.lost > 0 ? Array("{\"gap\":\(batch.lost)}\n".utf8) : []
                    let lines = gap + batch.lines
                    try await BlockingPool.shared.run { try sink.take(lines) }
                    isFailing = false
                } catch {
                    if !isFailing {
                        logger.warning("a sink of the ledger takes nothing", ("sink", name), ("error", "\(error)"))
                    }
                    isFailing = true
                }
            }
        } catch { logger.error("a sink of the ledger ends", ("sink", name), ("error", "\(error)")) }
    }

    /// The last record, checkpoint and head.
    func close() {
        _ = try? ledger.record(AuditEvent(.daemonStopped, ("pid", .number(CurrentProcess.pid))))
        ledger.close()
        mirrors.take(ledger.head)
        mirrors.flush()
    }
}
