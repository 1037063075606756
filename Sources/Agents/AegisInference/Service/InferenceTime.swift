package import AegisCore

/// The time of everything here: a clock that only runs forward for waiting, and the wall's for periods of budgets.
package struct InferenceTime: Sendable {
    private let offset: @Sendable () -> Duration
    private let pause: @Sendable (Duration) async throws -> Void
    private let wallClock: @Sendable () -> Timestamp

    /// Takes time from a clock; tests give one that they move, and a wall that they set.
    package init<C: Clock>(
        clock: C = ContinuousClock(), wall: @escaping @Sendable () -> Timestamp = { Timestamp.now() }
    ) where C.Duration == Duration {
        let start = clock.now
        offset = { start.duration(to: clock.now) }
        pause = { try await clock.sleep(until: clock.now.advanced(by: $0), tolerance: nil) }
        wallClock = wall
    }

    /// How long ago this value was made; it never runs backward.
    package var now: Duration { offset() }
    /// The wall's time.
    package var wall: Timestamp { wallClock() }
    /// Waits, or throws when the task is cancelled.
    package func sleep(for duration: Duration) async throws { try await pause(duration) }
}

extension Duration {
    /// Whole milliseconds, rounded down; what does not fit is the largest.
    package var milliseconds: Int64 {
        let (seconds, attoseconds) = components
        return seconds.saturatingMultiply(1000).saturatingAdd(attoseconds / 1_000_000_000_000_000)
    }
    /// Whole nanoseconds, rounded down; what does not fit is the largest.
    var nanoseconds: Int64 {
        let (seconds, attoseconds) = components
        return seconds.saturatingMultiply(1_000_000_000).saturatingAdd(attoseconds / 1_000_000_000)
    }
    /// As messages say it: `1m30s`, `250ms`.
    var words: String { TimeSpan(milliseconds: milliseconds).description }
}
