package import AegisChannel
package import AegisCore
internal import Synchronization

/// Where a relay saves what a process writes, before anybody sees it.
package protocol OutputJournal: Sendable {
    /// Saves bytes at their offset; bytes below what was saved before are skipped by the journal.
    ///
    /// - Returns: the offset below which nothing need be sent again (a journal may hold some bytes back).
    func save(_ kind: OutputKind, offset: UInt64, bytes: ArraySlice<UInt8>) -> UInt64
    /// The stream has ended: what was held back is saved too.
    func finish(_ kind: OutputKind)
}

/// The output of one process on its way to those who watch it.
///
/// Bytes are saved first. They stay here until everyone attached has consumed them; only then the keeper may forget
/// them, so that a daemon that dies loses nothing which a client has not seen. The keeper's credit (256 KiB a stream)
/// is therefore the bound of this buffer, and a watcher that stalls stalls the process, never the daemon.
package final class ProcessRelay: Sendable {
    /// A piece for a watcher.
    package enum Piece: Sendable {
        case bytes(OutputKind, offset: UInt64, ArraySlice<UInt8>)
        case exited(ProcessExited)
        /// The sandbox ended without an exit record of this process.
        case lost
    }

    /// Who watches, and how far it got.
    private struct Watcher {
        var sent: [OutputKind: UInt64]
        var consumed: [OutputKind: UInt64]
        var waiter: CheckedContinuation<Void, Never>?
    }
    private struct Lane {
        /// Retained pieces, contiguous from `start` to `received`.
        var pieces: [ArraySlice<UInt8>] = []
        var start: UInt64 = 0
        var received: UInt64 = 0
        var acknowledged: UInt64 = 0
        /// What the journal has saved.
        var saved: UInt64 = 0
    }
    private struct State {
        var lanes: [OutputKind: Lane] = [.stdout: Lane(), .stderr: Lane()]
        var watchers: [UInt64: Watcher] = [:]
        var nextWatcher: UInt64 = 1
        var end: Piece?
        var endWaiters: [CheckedContinuation<Piece, Never>] = []
    }

    /// The process number on the channel.
    package let number: UInt16
    /// Whether bytes wait for a watcher even while none is attached.
    private let holdsForWatcher: Bool
    private let journal: (any OutputJournal)?
    private let acknowledge: @Sendable (OutputKind, UInt64) -> Void
    private let state: Mutex<State>

    /// Makes a relay; offsets start at what the keeper says was acknowledged.
    ///
    /// - Parameters:
    ///   - number: the process number on the channel.
    ///   - journal: where output is saved first; nil saves nothing.
    ///   - holdsForWatcher: keep bytes (and so stall the process) until a watcher has consumed them, also while nobody
    ///     is attached: for processes that live by their client's stream.
    ///   - stdoutFrom: the first offset of stdout that is still to come.
    ///   - stderrFrom: the first offset of stderr that is still to come.
    ///   - acknowledge: gets each offset below which nothing need be sent again.
    package init(
        number: UInt16, journal: (any OutputJournal)?, holdsForWatcher: Bool, stdoutFrom: UInt64 = 0,
        stderrFrom: UInt64 = 0,
        acknowledge: @escaping @Sendable (OutputKind, UInt64) -> Void
    ) {
        self.number = number
        self.journal = journal
        self.holdsForWatcher = holdsForWatcher
        self.acknowledge = acknowledge
        var state = State()
        state.lanes[.stdout] = Lane(
            start: stdoutFrom, received: stdoutFrom, acknowledged: stdoutFrom, saved: stdoutFrom)
        state.lanes[.stderr] = Lane(
            start: stderrFrom, received: stderrFrom, acknowledged: stderrFrom, saved: stderrFrom)
        self.state = Mutex(state)
    }

    // MARK: From the channel

    /// Takes bytes of the process; what was received before (a re-sent frame) is skipped.
    package func output(_ kind: OutputKind, offset: UInt64, bytes: ArraySlice<UInt8>) {
        let saved = journal?.save(kind, offset: offset, bytes: bytes) ?? (offset + UInt64(bytes.count))
        let (acknowledged, waiters) = state.withLock { state -> (UInt64?, [CheckedContinuation<Void, Never>]) in
            guard var lane = state.lanes[kind] else { return (nil, []) }
            let end = offset + UInt64(bytes.count)
            lane.saved = max(lane.saved, saved)
            state.lanes[kind] = lane
            guard end > lane.received, offset <= lane.received else { return (nil, []) }
            lane.pieces.append(bytes.dropFirst(Int(lane.received - offset)))
            lane.received = end
            state.lanes[kind] = lane
            return (settle(&state, kind), wakeAll(&state))
        }
        if let acknowledged { acknowledge(kind, acknowledged) }
        for waiter in waiters { waiter.resume() }
    }

    /// The process has ended; everything that it wrote came before.
    package func exited(_ end: ProcessExited) {
        for kind in OutputKind.allCases { journal?.finish(kind) }
        finish(.exited(end))
    }

    /// The sandbox is gone; a process without an exit record is lost.
    package func sandboxEnded() {
        if state.withLock({ $0.end == nil }) { for kind in OutputKind.allCases { journal?.finish(kind) } }
        finish(.lost)
    }

    private func finish(_ end: Piece) {
        let (watchers, waiters) = state.withLock { state in
            guard state.end == nil else {
                return ([], []) as ([CheckedContinuation<Void, Never>], [CheckedContinuation<Piece, Never>])
            }
            state.end = end
            defer { state.endWaiters = [] }
            return (wakeAll(&state), state.endWaiters)
        }
        for waiter in watchers { waiter.resume() }
        for waiter in waiters { waiter.resume(returning: end) }
    }

    // MARK: For those who watch

    /// Starts to watch from given offsets (of a client that comes back), or from what comes next.
    ///
    /// - Returns: the watcher's number and the offsets at which it starts.
    /// - Throws: `output-gone` if bytes from such an offset on are no longer here.
    package func attach(from offsets: [OutputKind: UInt64]?) throws(AegisError) -> (
        watcher: UInt64, offsets: [OutputKind: UInt64]
    ) {
        typealias Attached = (watcher: UInt64, offsets: [OutputKind: UInt64], acks: [(OutputKind, UInt64)])
        let result = state.withLock { state -> Result<Attached, AegisError> in
            var at: [OutputKind: UInt64] = [:]
            for (kind, lane) in state.lanes {
                let wanted = offsets?[kind] ?? (holdsForWatcher ? lane.start : lane.received)
                // After a restart of the daemon a client may be ahead of what the keeper has sent again by now.
                let ahead = holdsForWatcher && state.end == nil ? Channel.window : 0
                guard wanted >= lane.start, wanted <= lane.received + ahead else {
                    return .failure(
                        .conflict(
                            "output-gone", "bytes from offset \(wanted) on are no longer held",
                            hint: "read the rest with 'aegis logs'"))
                }
                at[kind] = wanted
            }
            let number = state.nextWatcher
            state.nextWatcher += 1
            state.watchers[number] = Watcher(sent: at, consumed: at)
            // What a client has from before counts as consumed. The keeper must hear of it now: it may wait for just
            // that before it sends more, and the client acknowledges only what comes.
            let acks = OutputKind.allCases.compactMap { kind in settle(&state, kind).map { (kind, $0) } }
            return .success((number, at, acks))
        }
        let attached = try result.get()
        for (kind, offset) in attached.acks { acknowledge(kind, offset) }
        return (attached.watcher, attached.offsets)
    }

    /// Ends a watch. Unless the process lives by its watcher, what it did not consume is no longer held for it.
    package func detach(_ watcher: UInt64) {
        let (acks, waiter) = state.withLock { state -> ([(OutputKind, UInt64)], CheckedContinuation<Void, Never>?) in
            let gone = state.watchers.removeValue(forKey: watcher)
            let acks = OutputKind.allCases.compactMap { kind in settle(&state, kind).map { (kind, $0) } }
            return (acks, gone?.waiter)
        }
        for (kind, offset) in acks { acknowledge(kind, offset) }
        waiter?.resume()
    }

    /// A watcher has consumed everything of a stream below an offset.
    package func consumed(_ watcher: UInt64, _ kind: OutputKind, upTo offset: UInt64) {
        let acknowledged = state.withLock { state -> UInt64? in
            guard var entry = state.watchers[watcher], let sent = entry.sent[kind], offset <= sent else { return nil }
            entry.consumed[kind] = max(entry.consumed[kind] ?? 0, offset)
            state.watchers[watcher] = entry
            return settle(&state, kind)
        }
        if let acknowledged { acknowledge(kind, acknowledged) }
    }

    /// The next piece for a watcher; waits for one. Nil when the watch has ended or the task was cancelled.
    package func next(_ watcher: UInt64) async -> Piece? {
        while true {
            if Task.isCancelled { return nil }
            switch state.withLock({ take(&$0, watcher) }) {
            case .piece(let piece): return piece
            case .gone: return nil
            case .wait: break
            }
            await withTaskCancellationHandler {
                await withCheckedContinuation { continuation in
                    let now = state.withLock { state -> Bool in
                        guard var entry = state.watchers[watcher], !hasNews(state, entry), !Task.isCancelled else {
                            return true
                        }
                        entry.waiter = continuation
                        state.watchers[watcher] = entry
                        return false
                    }
                    if now { continuation.resume() }
                }
            } onCancel: {
                let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
                    defer { state.watchers[watcher]?.waiter = nil }
                    return state.watchers[watcher]?.waiter
                }
                waiter?.resume()
            }
        }
    }

    /// Whether the end of the process is known.
    package var hasEnded: Bool { state.withLock { $0.end != nil } }

    /// Waits for the end of the process.
    package func ended() async -> Piece {
        await withCheckedContinuation { continuation in
            let end = state.withLock { state -> Piece? in
                if state.end == nil { state.endWaiters.append(continuation) }
                return state.end
            }
            if let end { continuation.resume(returning: end) }
        }
    }

    /// Discards what the process writes until it has ended, or the task is cancelled.
    package func drain() async {
        guard let watcher = try? attach(from: nil).watcher else { return }
        while case .bytes(let kind, let offset, let bytes)? = await next(watcher) {
            consumed(watcher, kind, upTo: offset + UInt64(bytes.count))
        }
        detach(watcher)
    }

    // MARK: Inside the lock

    private enum Next { case piece(Piece), gone, wait }

    private func take(_ state: inout State, _ watcher: UInt64) -> Next {
        guard var entry = state.watchers[watcher] else { return .gone }
        for kind in OutputKind.allCases {
            guard let lane = state.lanes[kind], let sent = entry.sent[kind], sent < lane.received else { continue }
            var at = lane.start
            for piece in lane.pieces {
                let end = at + UInt64(piece.count)
                if sent < end {
                    entry.sent[kind] = end
                    state.watchers[watcher] = entry
                    return .piece(.bytes(kind, offset: sent, piece.dropFirst(Int(sent - at))))
                }
                at = end
            }
        }
        return state.end.map { .piece($0) } ?? .wait
    }

    private func hasNews(_ state: State, _ entry: Watcher) -> Bool {
        state.end != nil || OutputKind.allCases.contains { (entry.sent[$0] ?? 0) < (state.lanes[$0]?.received ?? 0) }
    }

    private func wakeAll(_ state: inout State) -> [CheckedContinuation<Void, Never>] {
        var waiters: [CheckedContinuation<Void, Never>] = []
        for number in Array(state.watchers.keys) {
            if let waiter = state.watchers[number]?.waiter {
                waiters.append(waiter)
                state.watchers[number]?.waiter = nil
            }
        }
        return waiters
    }

    /// Drops what nobody needs any more; returns the new offset to acknowledge, if it moved.
    private func settle(_ state: inout State, _ kind: OutputKind) -> UInt64? {
        guard var lane = state.lanes[kind] else { return nil }
        let slowest = state.watchers.values.compactMap { $0.consumed[kind] }.min()
        let wanted = slowest ?? (holdsForWatcher ? lane.acknowledged : lane.received)
        let target = min(wanted, lane.saved)
        guard target > lane.acknowledged else { return nil }
        while let first = lane.pieces.first, lane.start + UInt64(first.count) <= target {
            lane.start += UInt64(first.count)
            lane.pieces.removeFirst()
        }
        lane.acknowledged = target
        state.lanes[kind] = lane
        return target
    }
}
