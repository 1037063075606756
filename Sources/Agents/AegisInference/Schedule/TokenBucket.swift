/// Something that a minute has a number of: it fills at an even pace up to one minute's worth, and may be overdrawn once.
///
/// Whole numbers only: it never drifts, however often it is asked.
struct TokenBucket: Sendable {
    /// Parts of one token: filling for one nanosecond adds `perMinute` of them.
    private static let unit: Int64 = 60_000_000_000
    let perMinute: Int64
    private var level: Int64
    private var filledAt: Int64

    /// A full one. `perMinute` is from 1 to 100 million.
    init(perMinute: Int, at now: Duration) {
        self.perMinute = Int64(min(max(perMinute, 1), 100_000_000))
        level = self.perMinute * Self.unit
        filledAt = now.nanoseconds
    }

    private var capacity: Int64 { perMinute * Self.unit }

    /// Adds what the time since the last call has brought.
    mutating func fill(at now: Duration) {
        let now = now.nanoseconds
        guard now > filledAt else { return }
        level = min(capacity, level.saturatingAdd((now - filledAt).saturatingMultiply(perMinute)))
        filledAt = now
    }

    /// What has to be there for a number to be taken: the number, or all that it can hold.
    private func needed(_ count: Int) -> Int64 { min(capacity, Int64(count).saturatingMultiply(Self.unit)) }

    /// How long until so many can be taken; zero is now. Call `fill` first.
    func wait(for count: Int) -> Duration {
        let missing = needed(count) - level
        guard missing > 0 else { return .zero }
        return .nanoseconds(missing / perMinute + (missing % perMinute == 0 ? 0 : 1))
    }

    /// Takes so many, beyond what is there if need be: later ones wait until it has filled again.
    mutating func take(_ count: Int) {
        level = level.saturatingAdd(-Int64(count).saturatingMultiply(Self.unit))
    }
    /// Gives back what was not used after all.
    mutating func giveBack(_ count: Int) {
        level = min(capacity, level.saturatingAdd(Int64(count).saturatingMultiply(Self.unit)))
    }
}
