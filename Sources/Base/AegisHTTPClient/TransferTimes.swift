/// Which limit of time a transfer is under, and when it is passed. Pure: times are nanoseconds of one clock.
struct TransferTimes: Sendable {
    enum Phase: Sendable, Equatable { case connecting, waiting, receiving, paused }

    private let start: UInt64
    private let limits: ClientTimeouts
    private(set) var phase = Phase.connecting
    /// When the phase began, or bytes last came in it.
    private var since: UInt64

    init(_ limits: ClientTimeouts, now: UInt64) {
        self.limits = limits
        start = now
        since = now
    }

    /// The phase changes, or goes on because something has come.
    mutating func enter(_ next: Phase, now: UInt64) {
        phase = next
        since = now
    }

    /// The limit that is reached first, and when.
    var next: (limit: HTTPClientError.Limit, at: UInt64) {
        let whole = Self.add(start, limits.total)
        let part: (HTTPClientError.Limit, UInt64)? =
            switch phase {
            case .connecting: (.connect, Self.add(since, limits.connect))
            case .waiting: (.firstByte, Self.add(since, limits.firstByte))
            case .receiving: (.idle, Self.add(since, limits.idle))
            case .paused: nil
            }
        guard let part, part.1 < whole else { return (.total, whole) }
        return part
    }

    /// The limit that was passed.
    func passed(now: UInt64) -> HTTPClientError.Limit? {
        let (limit, at) = next
        return now >= at ? limit : nil
    }

    /// How long a limit is.
    func length(of limit: HTTPClientError.Limit) -> Duration {
        switch limit {
        case .connect: limits.connect
        case .firstByte: limits.firstByte
        case .idle: limits.idle
        case .total: limits.total
        }
    }

    private static func add(_ point: UInt64, _ duration: Duration) -> UInt64 {
        let (seconds, attoseconds) = duration.components
        guard seconds >= 0, seconds < 1 << 33 else { return seconds < 0 ? point : .max }
        let (sum, overflow) = point.addingReportingOverflow(
            UInt64(seconds) * 1_000_000_000 + UInt64(max(0, attoseconds)) / 1_000_000_000)
        return overflow ? .max : sum
    }
}
