internal import AegisCore
internal import AegisIO
internal import LinuxSys

/// Reads the records of a log from a place on, as they are and as they come.
///
/// Holds no file open between calls, so that a reader that has fallen asleep keeps no dropped segment on the disk.
struct RecordSource: Sendable {
    enum Step: Sendable {
        case records([ParsedRecord])
        /// So much output is not there any more.
        case gap(UInt64, LogGapReason)
        /// Everything was read.
        case end(ended: Bool)
    }

    static let window = 256 << 10

    let log: InstanceLog
    /// Nil = the log's beginning.
    var cursor: LogCursor?
    /// Where to stop although more may be there.
    var stop: Segment?
    private var wanted = Self.window

    init(log: InstanceLog, from cursor: LogCursor?, stop: Segment? = nil) {
        self.log = log
        self.cursor = cursor
        self.stop = stop
    }

    mutating func next() async throws(AegisError) -> Step {
        var missing = 0
        while true {
            switch log.place(cursor) {
            case .end(let here, let ended):
                cursor = here ?? cursor
                return .end(ended: ended)
            case .gap(let next, let bytes):
                cursor = next
                return .gap(bytes, .rotated)
            case .records(let here, let upTo):
                cursor = here
                guard let limit = limit(here, upTo) else { return .end(ended: true) }
                guard let bytes = try await read(here, upTo: limit) else {
                    // Dropped between looking and opening: looking again tells the gap. If not, somebody else removed it.
                    missing += 1
                    guard missing < 3 else { throw .failed("log-unreadable", "a part of the log has disappeared") }
                    continue
                }
                if let step = take(bytes, from: here, upTo: limit) { return step }
            }
        }
    }

    /// How far to read in the cursor's segment; nil when the stop was reached.
    private func limit(_ here: LogCursor, _ upTo: UInt64) -> UInt64? {
        guard let stop else { return upTo }
        if here.sequence > stop.sequence { return nil }
        if here.sequence < stop.sequence { return upTo }
        return here.offset < stop.size ? min(upTo, stop.size) : nil
    }

    private mutating func take(_ bytes: [UInt8], from here: LogCursor, upTo: UInt64) -> Step? {
        let batch = RecordBatch(bytes)
        guard batch.records.isEmpty else {
            wanted = Self.window
            var here = here
            for record in batch.records { here.pass(record.header) }
            cursor = here
            return .records(batch.records)
        }
        if case .incomplete(let need) = batch.stop, need > bytes.count, here.offset + UInt64(need) <= upTo {
            wanted = need
            return nil
        }
        // Damaged: the rest of this segment cannot be told from garbage.
        var here = here
        here.offset = upTo
        if case .end = log.place(here) {
            let lost = log.position - min(here.position, log.position)
            here.position += lost
            cursor = here
            return .gap(lost, .damaged)
        }
        cursor = here
        return nil
    }

    /// Reads up to the window; nil when the segment is not there.
    private func read(_ here: LogCursor, upTo: UInt64) async throws(AegisError) -> [UInt8]? {
        let count = Int(min(UInt64(wanted), upTo - here.offset))
        do {
            var bytes = [UInt8](repeating: 0, count: count)
            let file = try log.directory.open(here.sequence)
            if let got = try file.readCached(at: here.offset, into: &bytes), got > 0 {
                bytes.removeLast(count - got)
                return bytes
            }
            let directory = log.directory
            return try await BlockingPool.shared.run {
                var bytes = [UInt8](repeating: 0, count: count)
                let got = try directory.open(here.sequence).read(at: here.offset, into: &bytes)
                bytes.removeLast(count - got)
                return bytes
            }
        } catch let error as Errno where error == .noSuchFile {
            return nil
        } catch {
            throw .failed("log-unreadable", "the log cannot be read: \(error)")
        }
    }
}
