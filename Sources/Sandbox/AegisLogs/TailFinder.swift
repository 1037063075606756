internal import LinuxSys

/// Finds where a reader has to begin, going backwards from the end: the cost follows what is asked for, not what is stored.
struct TailFinder {
    /// Where to begin, and how many of the pieces found from there on are too many.
    struct Start: Sendable, Equatable {
        /// Nil = the log's beginning.
        var cursor: LogCursor?
        var skip: Int
    }

    /// How far it goes on for the beginnings of lines once it has enough of them.
    static let headLimit: UInt64 = 8 << 20

    /// The most pieces; nil = all.
    let tail: Int?
    /// Only what was completed at this time or later counts.
    let since: Int64?

    private var pieces = 0
    /// Streams with a line that is still open, which comes after all others, and whose end was not met yet.
    private var open: Set<LogKey>
    /// Streams whose earliest record seen begins in the middle of a piece.
    private var headless: Set<LogKey> = []
    private var passedSince = false
    private var walkedEnough: UInt64 = 0

    // `open`: streams whose last line is given although it is not complete.
    init(tail: Int?, since: Int64?, open: Set<LogKey>) {
        self.tail = tail
        self.since = since
        self.open = open
    }

    /// Walks back from the end of the segments; `position` is the output up to there.
    mutating func find(_ directory: LogDirectory, _ segments: [Segment], position: UInt64) throws(Errno) -> Start {
        var position = position
        if tail == 0, let last = segments.last {
            return Start(cursor: cursor(last, last.size, position), skip: 0)
        }
        for segment in segments.reversed() {
            var reader: BackwardReader
            do throws(Errno) { reader = try BackwardReader(directory, segment.sequence) } catch {
                // Rotation has just dropped it.
                if error == .noSuchFile { return Start(cursor: nil, skip: excess) }
                throw error
            }
            var end = segment.size
            while end > UInt64(SegmentHeader.length) {
                guard let record = try reader.record(endingAt: end) else { break }
                if isEnough(UInt64(record.header.total)) {
                    return Start(cursor: cursor(segment, end, position), skip: excess)
                }
                add(record)
                end -= UInt64(record.header.total)
                if record.header.kind == .data { position -= min(position, UInt64(record.header.raw)) }
            }
        }
        return Start(cursor: nil, skip: excess)
    }

    private var excess: Int { tail.map { max(0, pieces - $0) } ?? 0 }

    private func cursor(_ segment: Segment, _ offset: UInt64, _ position: UInt64) -> LogCursor {
        var cursor = LogCursor(startOf: segment)
        cursor.offset = offset
        cursor.position = position
        return cursor
    }

    private mutating func isEnough(_ bytes: UInt64) -> Bool {
        guard passedSince || tail.map({ pieces >= $0 }) == true else { return false }
        if headless.isEmpty, passedSince || open.isEmpty { return true }
        walkedEnough += bytes
        return walkedEnough > Self.headLimit
    }

    private mutating func add(_ record: ParsedRecord) {
        let header = record.header
        if let since, header.time < since { passedSince = true }
        let counts = !passedSince
        switch header.kind {
        case .data:
            if open.remove(header.key) != nil, counts { pieces += 1 }
            if counts { pieces += LinePhase.count(record.payload, column: header.column) }
        case .end: if counts, header.column > 0 { pieces += 1 }
        case .gap: if counts { pieces += header.column > 0 ? 2 : 1 }
        case .streams, .run, .forget: return
        }
        // What is before `since` is needed only for lines that were completed after it.
        if header.column > 0, counts || headless.contains(header.key) {
            headless.insert(header.key)
        } else {
            headless.remove(header.key)
        }
    }
}

/// Reads the records of one segment from its end.
struct BackwardReader: ~Copyable {
    private let file: FileDescriptor
    private var buffer: [UInt8] = []
    private var start: UInt64 = 0

    init(_ directory: LogDirectory, _ sequence: UInt64) throws(Errno) { file = try directory.open(sequence) }

    /// The record that ends at an offset of the file; nil when there is none or it is damaged.
    mutating func record(endingAt end: UInt64) throws(Errno) -> ParsedRecord? {
        try load(end, 4)
        guard end >= start + 4, end - start <= UInt64(buffer.count) else { return nil }
        let total = Int(buffer.littleEndian32(Int(end - start) - 4))
        guard total >= RecordHeader.length + RecordHeader.trailer, total <= RecordHeader.maximumStored + 200,
            UInt64(total) + UInt64(SegmentHeader.length) <= end
        else { return nil }
        try load(end, total)
        guard end >= start + UInt64(total), end - start <= UInt64(buffer.count),
            case .record(let record, let next) = ParsedRecord.parse(buffer, at: Int(end - start) - total),
            UInt64(next) + start == end
        else { return nil }
        return record
    }

    /// Has the `count` bytes before `end` in the buffer.
    private mutating func load(_ end: UInt64, _ count: Int) throws(Errno) {
        if end >= start + UInt64(count), end - start <= UInt64(buffer.count) { return }
        let size = min(UInt64(max(count, 256 << 10)), end)
        start = end - size
        buffer = [UInt8](repeating: 0, count: Int(size))
        let got = try file.read(at: start, into: &buffer)
        buffer.removeLast(buffer.count - got)
    }
}
