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
    func setSandbox(_ sandbox: (any Sandbox)?) { state.withLock { $0.sandbox = sandbox } }

    fileprivate var sandbox: (any Sandbox)? { state.withLock { $0.sandbox } }

    /// Counts a holder until the returned value goes away.
    func hold(_ why: HoldReason) -> Hold {
        let admission = ledger { $0.hold(why, now: $1) }
        return Hold(book: self, id: id, reason: why, admission: admission)
    }

    fileprivate func release(_ why: HoldReason, counts: Bool) {
        ledger { _ = $0.release(why, counts: counts, now: $1) }
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
