internal import LinuxSys

/// Time that passes on an event loop: its sleeps are timers of the loop and need no thread.
package struct LoopClock: Clock, Sendable {
    /// A point of `CLOCK_MONOTONIC`.
    package struct Instant: InstantProtocol {
        /// Nanoseconds since a start that is only the same within one boot.
        package var nanoseconds: UInt64

        /// A point from its nanoseconds.
        package init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }
        /// This much later; clamped at the ends of the range.
        package func advanced(by duration: Duration) -> Instant {
            let shift = duration.clampedNanoseconds
            let (sum, overflow) =
                shift >= 0
                ? nanoseconds.addingReportingOverflow(UInt64(shift))
                : nanoseconds.subtractingReportingOverflow(shift.magnitude)
            return Instant(nanoseconds: overflow ? (shift >= 0 ? .max : 0) : sum)
        }
        /// How much later the other point is.
        package func duration(to other: Instant) -> Duration {
            other >= self
                ? .nanoseconds(Int64(clamping: other.nanoseconds - nanoseconds))
                : .zero - .nanoseconds(Int64(clamping: nanoseconds - other.nanoseconds))
        }
        package static func < (a: Instant, b: Instant) -> Bool { a.nanoseconds < b.nanoseconds }
    }

    /// The loop whose timers are used.
    package let loop: EventLoop

    package var now: Instant { Instant(nanoseconds: SystemTime.monotonic) }
    package var minimumResolution: Duration { .nanoseconds(1) }

    /// Sleeps until a point; at once when it has passed.
    ///
    /// - Throws: `CancellationError` when the task is cancelled or the loop ends.
    package func sleep(until deadline: Instant, tolerance: Duration? = nil) async throws {
        let shot = OneShot<Bool>()
        let timer = loop.schedule(at: deadline.nanoseconds) { shot.finish($0) }
        let fired = await withTaskCancellationHandler {
            await shot.value()
        } onCancel: {
            if shot.finish(false) { loop.cancelTimer(timer) }
        }
        if !fired { throw CancellationError() }
    }
}

extension Duration {
    /// In nanoseconds, clamped to what fits (292 years).
    var clampedNanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (whole, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, carry) = whole.addingReportingOverflow(attoseconds / 1_000_000_000)
        return overflow || carry ? (seconds < 0 ? .min : .max) : sum
    }
}
