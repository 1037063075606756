/// Tells when a burst of work is over, from counting jobs: a loop that idles, or does a little all the time, needs no timer.
struct QuietWatch {
    /// What to do when the timer that was asked for is due.
    enum Verdict: Equatable { case quiet, lookAgain }

    /// Jobs since the last quiet moment that make a burst: about a hundred requests.
    static var burst: UInt64 { 1024 }
    /// Jobs between two looks that are no burst any more.
    static var calm: UInt64 { 256 }

    /// Jobs since the last quiet moment.
    private var jobs: UInt64 = 0
    /// What that was when the timer was set; nil while none is.
    private var seen: UInt64?

    /// Counts jobs that have run.
    ///
    /// - Returns: whether a timer is wanted now.
    mutating func ran(_ count: Int) -> Bool {
        jobs += UInt64(count)
        guard seen == nil, jobs >= Self.burst else { return false }
        seen = jobs
        return true
    }

    /// The timer is due; for `lookAgain` another one is wanted.
    mutating func due() -> Verdict {
        guard let before = seen, jobs - before <= Self.calm else {
            seen = jobs
            return .lookAgain
        }
        jobs = 0
        seen = nil
        return .quiet
    }
}
