package import AegisCore
internal import Synchronization

extension Ledger {
    /// Waits until there is a record after a number, the ledger is closed, or the task is cancelled.
    package func wait(after seq: UInt64) async { await wait { $0.writer.head.seq > seq } }

    /// Waits until a record is *synced*: it survives a loss of power then (decision D12). `Checkpoints` has to run.
    ///
    /// - Throws: `audit-not-saved` when the ledger was closed before.
    package func synced(_ receipt: AuditReceipt) async throws(AegisError) {
        while !isSynced(receipt) {
            guard !Task.isCancelled, state.withLock({ !$0.isClosed }) else {
                throw .failed("audit-not-saved", "the daemon ends before record \(receipt.seq) is on the disk")
            }
            await wait { $0.synced >= receipt.seq }
        }
    }

    private func isSynced(_ receipt: AuditReceipt) -> Bool { state.withLock { $0.synced >= receipt.seq } }

    private func wait(until isThere: @Sendable (borrowing State) -> Bool) async {
        let id = state.withLock { state -> UInt64 in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let goesOn = state.withLock { state -> Bool in
                    if isThere(state) || state.isClosed || Task.isCancelled { return true }
                    state.waiting[id] = continuation
                    return false
                }
                if goesOn { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.waiting.removeValue(forKey: id) }?.resume()
        }
    }

    /// Whether nothing is recorded any more.
    package var isClosed: Bool { state.withLock { $0.isClosed } }

    /// Whether something is counted that no record tells yet.
    var owes: Bool { state.withLock { $0.gate.owes } }
}

extension Ledger {
    /// The number of the newest segment.
    var segment: UInt64 { state.withLock { $0.writer.segment } }
}
