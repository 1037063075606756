package import AegisCore
internal import AegisJSON
internal import LinuxSys
internal import Synchronization

/// How large a ledger grows.
package struct LedgerSettings: Sendable {
    /// Bytes of a segment after which the next one is begun.
    package var segmentSize: UInt64 = 16 << 20
    /// Bytes of all segments; the oldest ones are dropped beyond it.
    package var retention: UInt64 = 1 << 30
    /// Records a second of kinds that may be dropped.
    package var reportsPerSecond = 200
    /// The settings as they stand.
    package init() {}
}

/// What was decided and done, as a chain of hashes in text files that only grow (decision D33).
///
/// Thread-safe. A record is *saved* when `record` returns; a checkpoint, which signs what is before it and syncs it to the disk,
/// follows within 100 ms when `Checkpoints` runs.
package final class Ledger: AuditTrail {
    struct State: ~Copyable {
        var writer: LedgerWriter
        var gate: RateGate
        /// The newest record that a checkpoint covers, the checkpoint itself included.
        var covered: UInt64
        /// The newest record that is on the disk.
        var synced: UInt64
        /// Why records are refused now; nil while they are not.
        var obstacle: AegisError?
        var isClosed = false
        /// Whose each agent and instance is that there is.
        var owners: [String: UInt32] = [:]
        var nextWaiter: UInt64 = 0
        var waiting: [UInt64: CheckedContinuation<Void, Never>] = [:]
    }

    /// Where the segments are.
    package let path: String
    /// The half of the key that checks signatures.
    package let publicKey: LedgerPublicKey
    let folder: LedgerFolder
    let settings: LedgerSettings
    private let now: @Sendable () -> Timestamp
    let state: Mutex<State>

    /// Opens a ledger and goes on where it ended; what a crash left behind is cut off and told.
    ///
    /// - Parameters:
    ///   - path: the folder of the segments; made when it is missing.
    ///   - keyFile: the file of the key; made when it is missing.
    ///   - node: the id of the node, which signatures name.
    ///   - settings: how large it grows.
    ///   - known: the newest head that was mirrored elsewhere.
    ///   - now: the time of day.
    /// - Throws: `audit-key`, `audit-unreadable`, `audit-disk-full`, `audit-not-saved`: then nothing may be done that has to be
    ///   recorded.
    package init(
        path: String, keyFile: String, node: String, settings: LedgerSettings = LedgerSettings(),
        known: LedgerHead? = nil, now: @escaping @Sendable () -> Timestamp = { .now() }
    ) throws(AegisError) {
        let key = try LedgerKey.open(keyFile)
        self.path = path
        self.settings = settings
        self.now = now
        publicKey = key.publicKey
        do throws(Errno) {
            folder = try LedgerFolder(path)
            let recovered = try RecoveredLedger(folder, key: key.publicKey, known: known)
            var writer = try LedgerWriter(
                folder: folder, node: node, key: key, writer: "aegis \(Build.version)",
                segmentSize: settings.segmentSize, recovered: recovered, now: now)
            // One node a segment, as one key.
            if recovered.isOpen, recovered.node != node { try writer.seal() }
            for note in recovered.notes { _ = try writer.append(note) }
            let covered = recovered.head.seq
            state = Mutex(
                State(
                    writer: writer, gate: RateGate(reportsPerSecond: settings.reportsPerSecond), covered: covered,
                    synced: covered))
        } catch { throw Self.explained(error, path) }
    }

    @discardableResult
    package func record(_ event: AuditEvent) throws(AegisError) -> AuditReceipt {
        let placed = WorkOrigin.current.map(event.placed) ?? event
        let (result, woken) = state.withLock {
            state -> (Result<AuditReceipt, AegisError>, [CheckedContinuation<Void, Never>]) in
            let time = now().milliseconds
            var event = placed
            if event.owner == nil, let agent = event.agent { event.owner = state.owners[agent] }
            // What is only counted has the newest record as its receipt.
            guard state.gate.admits(event, at: time) else { return (.success(state.writer.head), []) }
            do throws(AegisError) {
                let receipt = try write(event, &state)
                return (.success(receipt), state.takeWaiting())
            } catch { return (.failure(error), []) }
        }
        for one in woken { one.resume() }
        return try result.get()
    }

    package func note(_ id: String, ownedBy owner: UInt32?) { state.withLock { $0.owners[id] = owner } }

    /// Writes while the state is held.
    private func write(_ event: AuditEvent, _ state: inout State) throws(AegisError) -> AuditReceipt {
        guard !state.isClosed else { throw .failed("audit-closed", "the ledger is closed: nothing is done any more") }
        do throws(Errno) {
            let receipt = try state.writer.append(event)
            state.obstacle = nil
            return receipt
        } catch {
            let reason = Self.explained(error, path)
            state.obstacle = reason
            throw reason
        }
    }

    /// The newest record.
    package var head: LedgerHead { state.withLock { LedgerHead(seq: $0.writer.head.seq, hash: $0.writer.head.hash) } }

    /// Why records are refused now; nil while they are not.
    package var obstacle: AegisError? { state.withLock { $0.obstacle } }

    /// Signs what was recorded since the last checkpoint and syncs it to the disk. It blocks: call it from a blocking pool.
    ///
    /// - Parameter all: refusals are told whose time of counting is not over, too.
    /// - Returns: the checkpoint, or the newest one when nothing was recorded since.
    /// - Throws: as `record`; what was recorded before stays to be signed by the next one.
    @discardableResult
    package func checkpoint(all: Bool = false) throws(AegisError) -> LedgerHead {
        enum Step: ~Copyable {
            case sync(FileDescriptor?, [UInt64], newest: UInt64, isNew: Bool, AuditReceipt)
            case nothing(AuditReceipt)
            case failed(AegisError)
        }
        let step: Step = state.withLock { state in
            do throws(AegisError) {
                let time = now().milliseconds
                for debt in state.gate.debts(at: time, all: all) {
                    _ = try write(debt.event, &state)
                    state.gate.paid(debt)
                }
                guard state.writer.head.seq > state.covered else { return .nothing(state.writer.head) }
                do throws(Errno) {
                    let receipt = try state.writer.checkpoint()
                    state.covered = receipt.seq
                    let file = try state.writer.openSegment()
                    return .sync(
                        file, state.writer.unsynced, newest: state.writer.segment, isNew: state.writer.hasNewName,
                        receipt)
                } catch { throw Self.explained(error, path) }
            } catch { return .failed(error) }
        }
        switch consume step {
        case .nothing(let receipt): return LedgerHead(seq: receipt.seq, hash: receipt.hash)
        case .failed(let error): throw error
        case .sync(let file, let sealed, let newest, let isNew, let receipt):
            do throws(Errno) {
                for number in sealed { try sync(number) }
                try file?.syncData()
                if isNew { try folder.descriptor.sync() }
            } catch { throw Self.explained(error, path) }
            let woken = state.withLock { state in
                state.writer.synced(sealed, upTo: newest)
                state.synced = max(state.synced, receipt.seq)
                return state.takeWaiting()
            }
            for one in woken { one.resume() }
            return LedgerHead(seq: receipt.seq, hash: receipt.hash)
        }
    }

    private func sync(_ segment: UInt64) throws(Errno) {
        do throws(Errno) {
            try folder.descriptor.open(LedgerFolder.name(segment), [.readOnly, .noFollow]).syncData()
        } catch {
            // Dropped meanwhile.
            if error != .noSuchFile { throw error }
        }
    }

    /// Drops the oldest segments beyond what is to be kept; their seals stay. It blocks: call it from a blocking pool.
    ///
    /// - Throws: as `record`, or `audit-not-saved` when a seal cannot be kept; then its segment stays.
    package func dropOld() throws(AegisError) {
        let newest = state.withLock { $0.writer.segment }
        let dropped: [UInt64]
        do throws(Errno) {
            dropped = try SegmentRetention(folder, limit: settings.retention).keepSeals(before: newest)
        } catch {
            throw Self.explained(error, path)
        }
        guard let first = dropped.first, let last = dropped.last else { return }
        // Told before it is done, like everything.
        try record(AuditEvent(.segmentsDropped, ("first", .number(first)), ("last", .number(last))))
        for number in dropped { try? folder.descriptor.removeFile(LedgerFolder.name(number)) }
    }

    /// Writes what is counted and a last checkpoint; everything after it is refused. It blocks.
    package func close() {
        _ = try? checkpoint(all: true)
        let woken = state.withLock { state in
            state.isClosed = true
            return state.takeWaiting()
        }
        for one in woken { one.resume() }
    }

    static func explained(_ error: Errno, _ path: String) -> AegisError {
        // 122 is EDQUOT.
        error == .noSpace || error.code == 122
            ? .failed(
                "audit-disk-full", "no space left for the ledger in \(path): what cannot be recorded is not done",
                hint: "free disk space there; everything goes on by itself then")
            : .failed(
                "audit-not-saved",
                "the ledger in \(path) cannot be written: \(error); what cannot be recorded is not done")
    }
}

extension Ledger.State {
    mutating func takeWaiting() -> [CheckedContinuation<Void, Never>] {
        guard !waiting.isEmpty else { return [] }
        defer { waiting = [:] }
        return Array(waiting.values)
    }
}
