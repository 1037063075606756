internal import AegisAPI
internal import AegisAudit
internal import AegisCapabilities
internal import AegisCore
internal import AegisHTTPClient
internal import AegisIO
internal import AegisJSON
internal import AegisNetwork
internal import AegisStore
internal import LinuxSys
internal import Synchronization

/// Hands the ledger's records on to one sink. What a sink does not take it loses, and the daemon's log says so.
private final class Feed: Sendable {
    private struct State {
        var cursor: LedgerCursor
        var isFailing = false
    }
    let name: String
    private let sink: any AuditSink
    private let reader: LedgerReader
    private let logger: Logger
    private let state: Mutex<State>

    init(name: String, sink: any AuditSink, reader: LedgerReader, from cursor: LedgerCursor, logger: Logger) {
        self.name = name
        self.sink = sink
        self.reader = reader
        self.logger = logger
        state = Mutex(State(cursor: cursor))
    }

    /// Runs until the task is cancelled.
    func run(_ ledger: Ledger) async {
        while !Task.isCancelled {
            await ledger.wait(after: state.withLock { $0.cursor.seq })
            guard !Task.isCancelled else { return }
            // The rest is passed on at the end.
            guard (try? await BlockingPool.shared.run { self.pass() }) == true else { return }
        }
    }

    /// Passes on what there is. It blocks; one at a time does it.
    ///
    /// - Returns: whether there can be more; not, when the ledger cannot be read.
    @discardableResult func pass() -> Bool {
        while true {
            let cursor = state.withLock { $0.cursor }
            do {
                let batch = try reader.next(cursor, AuditFilter())
                guard batch.cursor != cursor else { return true }
                state.withLock { $0.cursor = batch.cursor }
                let gap = batch.lost > 0 ? Array("{\"gap\":\(batch.lost)}\n".utf8) : []
                if !gap.isEmpty || !batch.lines.isEmpty { try sink.take(gap + batch.lines) }
                state.withLock { $0.isFailing = false }
            } catch {
                let isNew = state.withLock { state in
                    defer { state.isFailing = true }
                    return !state.isFailing
                }
                if isNew { logger.warning("a sink of the ledger takes nothing", ("sink", name), ("error", "\(error)")) }
                if error is AegisError { return false }
            }
        }
    }
}

/// The node's ledger with all that belongs to it: key, mirrors, sinks and the journal of grants.
struct DaemonAudit: Sendable {
    let ledger: Ledger
    let service: AuditService
    private let mirrors: HeadMirrors
    /// The server that gets heads; nil where there is none.
    let witness: HeadWitness?
    private let sinks: [Feed]
    private let logger: Logger

    /// Opens the ledger; without one no daemon runs.
    init(
        _ settings: AuditSection, authorities: [UInt8]?, home: DaemonHome, database: Database, loop: EventLoop,
        logger: Logger
    ) throws {
        let heads = HeadStore(database)
        ledger = try Ledger(
            path: "\(home.path)/\(DaemonHome.auditFolder)", keyFile: "\(home.path)/\(DaemonHome.auditKey)",
            node: home.node, settings: settings.settings, known: try heads.load())
        service = try AuditService(ledger, heads: heads)
        let journal = JournalSink(node: home.node, path: settings.journalSocket)
        witness = try Self.witness(settings.witness, authorities, loop, logger)
        mirrors = HeadMirrors(
            node: home.node, store: heads, witness: settings.witness.file, server: witness, journal: journal
        ) { logger.warning("heads of the ledger are not mirrored", ("error", $0)) }
        // What comes from here on, the start of the daemon included.
        let reader = try LedgerReader(path: ledger.path)
        let begin = try reader.tail(0, AuditFilter()).cursor
        var sinks: [(name: String, sink: any AuditSink)] = []
        if settings.sinks.contains("stdout") { sinks.append(("stdout", LineSink(descriptor: 1))) }
        if settings.sinks.contains("journald") { sinks.append(("journald", journal)) }
        self.sinks = sinks.map { Feed(name: $0.name, sink: $0.sink, reader: reader, from: begin, logger: logger) }
        self.logger = logger
        try ledger.record(
            AuditEvent(
                .daemonStarted, ("version", .string(Build.version)), ("pid", .number(CurrentProcess.pid)),
                ("node", .string(home.node))))
        _ = try ledger.checkpoint()
    }

    private static func witness(
        _ setting: WitnessSetting, _ authorities: [UInt8]?, _ loop: EventLoop, _ logger: Logger
    ) throws -> HeadWitness? {
        guard let url = setting.url else { return nil }
        let server = try WitnessServer(url, credential: setting.credential, authorities: authorities, on: loop)
        // An address may be a secret of its own.
        let name = url.origin
        return HeadWitness(name, clock: loop.clock, send: { try await server.post($0) }) { obstacle in
            if let obstacle {
                logger.warning("the witness takes no heads of the ledger", ("witness", name), ("error", obstacle))
            } else {
                logger.info("the witness takes heads of the ledger again", ("witness", name))
            }
        }
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
        for feed in sinks { scope.spawn("audit-\(feed.name)") { await feed.run(ledger) } }
        if let witness { scope.spawn("audit-witness") { await witness.run() } }
    }

    /// The last record, checkpoint and head; what `start` started has ended.
    func close(_ loop: EventLoop) async {
        _ = try? ledger.record(AuditEvent(.daemonStopped, ("pid", .number(CurrentProcess.pid))))
        ledger.close()
        for feed in sinks { feed.pass() }
        mirrors.take(ledger.head)
        mirrors.flush()
        guard let witness else { return }
        // The end of the daemon waits for no server.
        _ = try? await withDeadline(WitnessServer.farewell, clock: loop.clock) { await witness.finish() }
    }
}
