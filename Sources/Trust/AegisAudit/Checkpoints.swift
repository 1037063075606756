package import AegisCore
internal import AegisIO

/// Signs and syncs a ledger while it grows, one commit for all that came within 100 ms, and mirrors its heads elsewhere.
package struct Checkpoints: Sendable {
    /// The shortest time between two.
    package static let interval = Duration.milliseconds(100)
    /// How long refusals are counted before they are told, and how long a full disk is waited for.
    private static let pause = Duration.seconds(1)

    private let ledger: Ledger
    private let clock: any Clock<Duration>
    private let mirrors: @Sendable (LedgerHead) -> Void
    private let failed: @Sendable (AegisError?) -> Void

    /// Prepares them.
    ///
    /// - Parameters:
    ///   - ledger: what is signed.
    ///   - clock: measures the pauses.
    ///   - mirrors: gets each head that is on the disk; called where it may block.
    ///   - failed: gets the reason when nothing can be signed, and nil when that works again.
    package init(
        of ledger: Ledger, clock: any Clock<Duration>, mirrors: @escaping @Sendable (LedgerHead) -> Void,
        failed: @escaping @Sendable (AegisError?) -> Void
    ) {
        self.ledger = ledger
        self.clock = clock
        self.mirrors = mirrors
        self.failed = failed
    }

    /// Runs until the task is cancelled.
    package func run() async {
        var seen: UInt64 = 0
        var isFailing = false
        var segment: UInt64 = 0
        while !Task.isCancelled {
            if ledger.owes { try? await clock.sleep(for: Self.pause) } else { await ledger.wait(after: seen) }
            guard !Task.isCancelled else { return }
            let before = segment
            do {
                let (head, now) = try await BlockingPool.shared.run { [ledger, mirrors] in
                    let head = try ledger.checkpoint()
                    mirrors(head)
                    let now = ledger.segment
                    if now != before { try ledger.dropOld() }
                    return (head, now)
                }
                seen = head.seq
                segment = now
                if isFailing { failed(nil) }
                isFailing = false
                try? await clock.sleep(for: Self.interval)
            } catch {
                if !isFailing { failed(error as? AegisError) }
                isFailing = true
                try? await clock.sleep(for: Self.pause)
            }
        }
    }
}
