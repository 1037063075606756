internal import Synchronization

/// Counts what a stream moves, and says when it is enough.
package protocol StreamMeter: Sendable {
    /// Takes leave to move bytes.
    ///
    /// - Parameter wanted: how many would be moved at most.
    /// - Returns: how many may be, up to `wanted`; 0 when none are left.
    func take(_ wanted: Int) -> Int

    /// Takes back what was not moved.
    func giveBack(_ count: Int)

    /// Ends the stream because more would be moved than is left.
    ///
    /// - Returns: what whoever moves bytes is told.
    func overrun() -> IOError
}

extension FileStream {
    /// From now on what the stream reads and writes is counted, and ends where the meter says so.
    package func setMeter(_ meter: any StreamMeter) {
        self.meter.withLock { $0 = meter }
        isMetered.store(true, ordering: .releasing)
    }

    /// Reads, within what the meter lets.
    ///
    /// - Parameters:
    ///   - limit: how many bytes would be read at most.
    ///   - body: reads up to so many, and says how many it has read: nil when there are none now, 0 at the end.
    /// - Returns: what `body` said.
    /// - Throws: what `body` throws; what the meter says once more is there than is left.
    func metered(reading limit: Int, _ body: (Int) throws(IOError) -> Int?) throws(IOError) -> Int? {
        guard isMetered.load(ordering: .acquiring), let meter = meter.withLock({ $0 }) else { return try body(limit) }
        let allowed = meter.take(limit)
        // Where nothing is left, the end may still come.
        let count = try Self.returning(allowed, to: meter) { () throws(IOError) in try body(max(1, allowed)) }
        guard allowed > 0 || (count ?? 0) == 0 else { throw meter.overrun() }
        return count
    }

    /// Writes, within what the meter lets.
    ///
    /// - Parameters:
    ///   - count: how many bytes there are, at least one.
    ///   - body: writes up to so many, and says how many it has written; nil when there is no room now.
    /// - Returns: what `body` said.
    /// - Throws: what `body` throws; what the meter says when nothing is left.
    func metered(writing count: Int, _ body: (Int) throws(IOError) -> Int?) throws(IOError) -> Int? {
        guard isMetered.load(ordering: .acquiring), let meter = meter.withLock({ $0 }) else { return try body(count) }
        let allowed = meter.take(count)
        guard allowed > 0 else { throw meter.overrun() }
        return try Self.returning(allowed, to: meter) { () throws(IOError) in try body(allowed) }
    }

    private static func returning(
        _ allowed: Int, to meter: any StreamMeter, _ body: () throws(IOError) -> Int?
    ) throws(IOError) -> Int? {
        let count: Int?
        do throws(IOError) { count = try body() } catch {
            meter.giveBack(allowed)
            throw error
        }
        meter.giveBack(max(0, allowed - (count ?? 0)))
        return count
    }
}
