internal import AegisBackends
internal import AegisCore
package import AegisIO
internal import Synchronization

/// Counts who needs an instance awake, and reaches its sandbox; shared by the instance and everybody who holds it.
///
/// A hold of a running instance and its release are two short locked steps: the data path never waits for the actor.
final class HoldBook: Sendable {
    private struct State {
        var ledger = WakeLedger()
        var sandbox: (any Sandbox)?
        /// Counts the sandboxes there were.
        var life: UInt64 = 0
        /// Who waits for the last holder to go.
        var waiters: [UInt64: CheckedContinuation<Void, Never>] = [:]
        var nextWaiter: UInt64 = 0
    }
    private let state = Mutex(State())
    private let id: String
    private let clock: LoopClock

    init(id: String, clock: LoopClock) {
        self.id = id
        self.clock = clock
    }

    /// Monotonic time, for what must not jump with the host's clock.
    var uptime: Duration { .nanoseconds(Int64(clamping: clock.now.nanoseconds)) }

    /// Looks at the ledger, or changes it.
    func ledger<T: Sendable>(_ body: (inout WakeLedger, _ now: Duration) -> T) -> T {
        state.withLock { body(&$0.ledger, uptime) }
    }

    /// The sandbox that holds reach from now on.
    func setSandbox(_ sandbox: (any Sandbox)?) {
        state.withLock { state in
            state.sandbox = sandbox
            if sandbox != nil { state.life += 1 }
        }
    }

    fileprivate var life: UInt64 { state.withLock { $0.life } }

    fileprivate var sandbox: (any Sandbox)? { state.withLock { $0.sandbox } }

    /// Counts a holder until the returned value goes away.
    func hold(_ why: HoldReason) -> Hold {
        let admission = ledger { $0.hold(why, now: $1) }
        return Hold(book: self, id: id, reason: why, admission: admission)
    }

    fileprivate func release(_ why: HoldReason, counts: Bool) {
        let waiters = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            guard state.ledger.release(why, counts: counts, now: uptime), !state.waiters.isEmpty else { return [] }
            defer { state.waiters = [:] }
            return Array(state.waiters.values)
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Waits until nobody holds, or until the task is cancelled.
    func whenFree() async {
        let number = state.withLock { state in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isFree = state.withLock { state in
                    if state.ledger.held == 0 || Task.isCancelled { return true }
                    state.waiters[number] = continuation
                    return false
                }
                if isFree { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.waiters.removeValue(forKey: number) }?.resume()
        }
    }
}

/// One holder: the instance stays awake until this value goes away.
package struct Hold: ~Copyable, Sendable {
    private let book: HoldBook
    private let reason: HoldReason
    let admission: WakeLedger.Admission
    /// The instance's id.
    package let id: String

    fileprivate init(book: HoldBook, id: String, reason: HoldReason, admission: WakeLedger.Admission) {
        self.book = book
        self.id = id
        self.reason = reason
        self.admission = admission
    }

    deinit { book.release(reason, counts: admission.counts) }

    /// Whether the instance ran already when it was asked for.
    package var wasRunning: Bool { admission.isAwake }

    /// Whether the instance runs now: who paused it by force, or stopped it, did so in spite of this hold.
    package var isAwake: Bool { book.ledger { ledger, _ in ledger.isOpen } }

    /// The number of the instance's present sandbox: what was ready in an earlier one has to become so anew.
    package var life: UInt64 { book.life }

    /// Connects to a port inside, on loopback first, then on the instance's own address.
    ///
    /// - Throws: `port-closed`, `port-timeout`; `instance-stopped` when it was stopped in spite of the hold.
    package borrowing func dial(_ port: UInt16, deadline: Duration) async throws -> FileStream {
        guard let sandbox = book.sandbox else {
            throw AegisError.conflict("instance-stopped", "\(id) was stopped")
        }
        return try await sandbox.dial(port, deadline: deadline)
    }
}

/// A hold that several values share; given back with the last of them.
package final class SharedHold: Sendable {
    private let hold: Hold
    init(_ hold: consuming Hold) { self.hold = hold }
}
