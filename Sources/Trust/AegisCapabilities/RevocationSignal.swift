import Synchronization

/// Wakes those who wait for something to be taken back: work that only waits passes no gate by itself.
final class RevocationSignal: Sendable {
    private struct State {
        var count: UInt64 = 0
        var waiters: [UInt64: CheckedContinuation<Void, Never>] = [:]
        var next: UInt64 = 0
    }
    private let state = Mutex(State())

    /// How often something was taken back.
    var count: UInt64 { state.withLock { $0.count } }

    /// Says that something was.
    func raise() {
        let waiters = state.withLock { state in
            state.count += 1
            defer { state.waiters = [:] }
            return Array(state.waiters.values)
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Waits for the next time after a count; returns early when the task is cancelled.
    func wait(after count: UInt64) async {
        let id = state.withLock { state in
            state.next += 1
            return state.next
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isOver = state.withLock { state in
                    if state.count != count || Task.isCancelled { return true }
                    state.waiters[id] = continuation
                    return false
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.waiters.removeValue(forKey: id) }?.resume()
        }
    }
}

extension GrantBook {
    /// Waits until a grant is taken back or forgotten.
    ///
    /// - Parameter grant: the grant that allowed the work.
    /// - Returns: false when the waiting task was cancelled first.
    package func revocation(of grant: GrantID) async -> Bool {
        while true {
            let mark = revocations.count
            guard record(grant).map({ $0.revoked == nil }) == true else { return true }
            guard !Task.isCancelled else { return false }
            await revocations.wait(after: mark)
        }
    }

    /// Waits until a grant is taken back or forgotten, or a holder has none any more that allows an action. Time and counters are
    /// not looked at: what was admitted stays admitted.
    ///
    /// - Parameters:
    ///   - grant: the grant that allowed the work.
    ///   - action: what else must be allowed all the while.
    ///   - holder: whose grants.
    /// - Returns: false when the waiting task was cancelled first.
    package func revocation(of grant: GrantID, or action: Action, of holder: HolderID) async -> Bool {
        while true {
            let mark = revocations.count
            let isWhole =
                record(grant).map { $0.revoked == nil } == true
                && records(of: holder).contains { $0.terms.capability.allows(action) }
            guard isWhole else { return true }
            guard !Task.isCancelled else { return false }
            await revocations.wait(after: mark)
        }
    }
}
