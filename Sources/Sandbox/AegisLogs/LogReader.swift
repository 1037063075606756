package import AegisCore
internal import AegisIO
package import AegisSandboxTypes
internal import LinuxSys

/// Pulls the pieces of a log: a batch at a time, at the reader's pace.
struct LogReader: Sendable {
    private let log: InstanceLog
    private let query: LogQuery
    private var source: RecordSource
    private var assembler = LineAssembler()
    private var skip = 0
    private var prepared = false
    private var ended = false

    init(log: InstanceLog, query: LogQuery) {
        self.log = log
        self.query = query
        source = RecordSource(log: log, from: nil)
    }

    /// The next pieces, at least one; nil at the end.
    mutating func next() async throws(AegisError) -> [LogPiece]? {
        if !prepared { try await prepare() }
        while !ended {
            let version = log.changes.version
            var pieces: [LogPiece] = []
            switch try await source.next() {
            case .records(let records):
                for record in records { assembler.add(record, to: &pieces) }
            case .gap(let bytes, let reason):
                skip = 0
                assembler.addGap(bytes, reason, time: Timestamp.now().milliseconds, to: &pieces)
            case .end(let isOver):
                if query.follow, !isOver {
                    await log.changes.wait(after: version)
                    if Task.isCancelled { return nil }
                    continue
                }
                ended = true
                assembler.flushAll(to: &pieces)
            }
            pieces = wanted(pieces)
            if !pieces.isEmpty { return pieces }
        }
        return nil
    }

    private mutating func wanted(_ pieces: [LogPiece]) -> [LogPiece] {
        var found = pieces
        if let since = query.since?.milliseconds { found.removeAll { $0.time < since } }
        let dropped = min(skip, found.count)
        skip -= dropped
        found.removeFirst(dropped)
        return found
    }

    private mutating func prepare() async throws(AegisError) {
        prepared = true
        let (segments, position, open) = log.snapshot
        // Without following, what comes later is not waited for, however fast it comes.
        if !query.follow { source.stop = segments.last }
        if !query.follow, segments.isEmpty { ended = true }
        guard query.tail != nil || query.since != nil else { return }
        let directory = log.directory
        let query = query
        do {
            let start = try await BlockingPool.shared.run {
                var finder = TailFinder(
                    tail: query.tail, since: query.since?.milliseconds, open: query.follow ? [] : open)
                return try finder.find(directory, segments, position: position)
            }
            source.cursor = start.cursor
            skip = start.skip
        } catch {
            throw .failed("log-unreadable", "the log cannot be read: \(error)")
        }
    }
}

extension InstanceLog {
    /// The log as records, pulled one by one; see `LogRecords`.
    package func records(_ query: LogQuery = LogQuery()) -> LogRecords { LogRecords(log: self, query: query) }

    /// The log as NDJSON, pulled in chunks of some hundred KiB.
    package func lines(_ query: LogQuery = LogQuery()) -> LogLines { LogLines(log: self, query: query) }
}

/// The records of a log, for `for try await`. Each iteration starts anew; the writer never waits for one.
///
/// With `follow` it goes on until the log is marked ended, closed or deleted, or the task is cancelled. What is stored and
/// what comes later follow each other without hole or overlap; whom rotation overtakes gets a record with `gap`.
package struct LogRecords: AsyncSequence, Sendable {
    package typealias Element = LogRecord
    package typealias Failure = AegisError

    /// Pulls one record at a time.
    package struct Iterator: AsyncIteratorProtocol {
        private var reader: LogReader
        private var batch: ArraySlice<LogPiece> = []

        init(_ reader: LogReader) { self.reader = reader }

        /// The next record; nil at the end.
        package mutating func next() async throws(AegisError) -> LogRecord? {
            if batch.isEmpty {
                guard let pieces = try await reader.next() else { return nil }
                batch = pieces[...]
            }
            return batch.popFirst()?.record
        }

        /// The next record; nil at the end.
        package mutating func next(isolation actor: isolated (any Actor)?) async throws(AegisError) -> LogRecord? {
            try await next()
        }
    }

    let log: InstanceLog
    let query: LogQuery

    package func makeAsyncIterator() -> Iterator { Iterator(LogReader(log: log, query: query)) }
}

/// The records of a log in their NDJSON form.
package struct LogLines: Sendable {
    private var reader: LogReader

    init(log: InstanceLog, query: LogQuery) { reader = LogReader(log: log, query: query) }

    /// Whole lines of JSON, at least one; nil at the end.
    package mutating func next() async throws(AegisError) -> [UInt8]? {
        guard let pieces = try await reader.next() else { return nil }
        var out: [UInt8] = []
        out.reserveCapacity(pieces.reduce(0) { $0 + $1.bytes.count + 128 })
        for piece in pieces { JSONLines.append(piece, to: &out) }
        return out
    }
}
