/// Refuses to start an instance that keeps crashing: 5 quick failures within 2 minutes.
///
/// A crash is an end with a code other than 0 within 10 s of the start. Time is counted from the start of the
/// command, never from its last activity, and any clean or longer life forgets what was before.
package struct CrashLoop: Sendable, Equatable {
    /// Crashes that are needed.
    package static let limit = 5
    /// The window that they must fall into.
    package static let window = Duration.seconds(120)
    /// A life at least this long is no crash.
    package static let healthy = Duration.seconds(10)

    private var crashes: [Duration] = []

    /// Nothing has crashed yet, or what an earlier daemon saw.
    ///
    /// - Parameters:
    ///   - ages: how long ago crashes happened, by a clock that counts on while no daemon runs. Those of the future, which
    ///     only a clock that was set can tell of, happened now.
    ///   - now: the time of the monotonic clock.
    package init(ages: [Duration] = [], now: Duration = .zero) {
        crashes = ages.map { now - max(.zero, $0) }.sorted().suffix(Self.limit)
    }

    /// How long ago the crashes that count happened, oldest first.
    package func ages(now: Duration) -> [Duration] { crashes.map { now - $0 } }

    /// Records the end of a run; times are those of one monotonic clock.
    package mutating func ended(code: Int32?, started: Duration, now: Duration) {
        guard code != 0, now - started < Self.healthy else {
            crashes.removeAll()
            return
        }
        crashes.append(now)
        if crashes.count > Self.limit { crashes.removeFirst(crashes.count - Self.limit) }
    }

    /// How long starts are refused still; nil when a start is fine.
    package func refusal(now: Duration) -> Duration? {
        guard crashes.count == Self.limit, let first = crashes.first, let last = crashes.last,
            last - first <= Self.window
        else { return nil }
        let until = last + Self.window
        return until > now ? until - now : nil
    }
}
