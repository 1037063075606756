internal import Synchronization

/// Why an instance must run.
package enum HoldReason: String, Sendable, Hashable, CaseIterable { case connection, exec, terminal, copy, lease }

/// Counts who needs an instance awake. The only thing that pausing looks at (decision D25).
package final class HoldCounter: Sendable {
    private let counts = Mutex<[HoldReason: Int]>([:])

    /// Nobody holds yet.
    package init() {}

    /// Holders by reason; reasons nobody has are absent.
    package var current: [HoldReason: Int] { counts.withLock { $0 } }

    /// Counts one holder until the returned value goes away.
    package func hold(_ reason: HoldReason) -> Hold {
        counts.withLock { $0[reason, default: 0] += 1 }
        return Hold(counter: self, reason: reason)
    }

    func release(_ reason: HoldReason) {
        counts.withLock { counts in
            let count = (counts[reason] ?? 1) - 1
            counts[reason] = count > 0 ? count : nil
        }
    }
}

/// One holder; gives the instance free when it goes away.
package struct Hold: ~Copyable, Sendable {
    private let counter: HoldCounter
    private let reason: HoldReason
    init(counter: HoldCounter, reason: HoldReason) {
        self.counter = counter
        self.reason = reason
    }
    deinit { counter.release(reason) }
}
