import AegisCore

/// The uses of the last minute: at most so many in **any** 60 seconds, exactly.
struct RateWindow: Sendable {
    private static let minute: Int64 = 60_000
    private let limit: Int
    /// Milliseconds, oldest first; those before `start` are over.
    private var times: [Int64]
    private var start = 0

    init(limit: UInt32, recent: [Timestamp] = []) {
        self.limit = Int(limit)
        times = recent.map(\.milliseconds)
    }

    /// The uses that still count after the newest of them, oldest first.
    var recent: [Timestamp] { times[start...].map { Timestamp(milliseconds: $0) } }

    /// When one more is allowed; nil is now.
    func next(at now: Timestamp) -> Timestamp? {
        guard times.count - start >= limit else { return nil }
        // Where a clock stands at its end, the sum stops there.
        let (next, overflow) = times[times.count - limit].addingReportingOverflow(Self.minute)
        return overflow || next > now.milliseconds ? Timestamp(milliseconds: overflow ? .max : next) : nil
    }

    /// Counts one.
    mutating func add(_ now: Timestamp) {
        while start < times.count, now.milliseconds - times[start] >= Self.minute { start += 1 }
        if start > 32, start * 2 > times.count {
            times.removeFirst(start)
            start = 0
        }
        times.append(now.milliseconds)
    }

    /// Takes one back that was counted at a moment.
    mutating func remove(_ time: Timestamp) {
        guard let index = times[start...].lastIndex(of: time.milliseconds) else { return }
        times.remove(at: index)
    }
}
