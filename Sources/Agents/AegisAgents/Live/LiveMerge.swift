/// Puts pieces of answers among the steps of a session: all of an answer before the step that keeps it, and none before the steps that
/// it answers. Pure.
package struct LiveMerge: Sendable {
    private var pending: [LiveEvent] = []

    /// Nothing has come yet.
    package init() {}

    /// Takes pieces in, with all steps that were read after the last time.
    ///
    /// - Parameters:
    ///   - events: what was taken from the listener after the steps were read.
    ///   - steps: how many were read.
    ///   - next: the number of the first of them, or of the one that would be.
    /// - Returns: what comes before each of the steps, and after the last.
    package mutating func take(_ events: [LiveEvent], steps: Int, from next: Int) -> [[LiveEvent]] {
        pending += events
        bound()
        return (0...steps).map { index in
            // Those of a later answer wait for the steps before it, which are saved already.
            let ready = pending.prefix { $0.position <= next + index }
            pending.removeFirst(ready.count)
            return Array(ready)
        }
    }

    /// What waits for steps that are read slowly is bounded as what waits for the listener is: one mark stands for all of it.
    private mutating func bound() {
        guard pending.reduce(0, { $0 + $1.weight }) > Self.limit, let last = pending.last else { return }
        var gap = last
        gap.kind = .gap(
            bytes: pending.reduce(0) { sum, event in
                if case .gap(let lost) = event.kind { return sum + lost }
                return sum + event.textBytes
            })
        if case .end = last.kind { pending = [gap, last] } else { pending = [gap] }
    }
    static let limit = 4 * LiveBuffer.limit
}
