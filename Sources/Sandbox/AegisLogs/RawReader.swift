package import AegisCore
internal import AegisIO
internal import LinuxSys

/// Stored output of one stream, byte by byte.
package enum RawOutput: Sendable, Equatable {
    /// Output that begins at an offset of the stream.
    case bytes([UInt8], offset: UInt64)
    /// So many bytes are not in the log (dropped by rotation, or never written).
    case gap(UInt64)
}

/// Reads one stream's exact bytes from an offset on: how an attached client goes on after a crash of the daemon.
///
/// Where a mask has hidden a secret the hidden form is read; its length counts as that of the output it replaced.
package struct RawReader: Sendable {
    private let log: InstanceLog
    private let key: LogKey
    private var source: RecordSource
    private var prepared = false
    /// The stream's offset that comes next.
    package private(set) var offset: UInt64
    private var queue: [RawOutput] = []

    init(log: InstanceLog, key: LogKey, from offset: UInt64) {
        self.log = log
        self.key = key
        self.offset = offset
        source = RecordSource(log: log, from: nil)
    }

    /// The next output; nil when everything that is saved now was read. Ask again when there may be more.
    package mutating func next() async throws(AegisError) -> RawOutput? {
        if !prepared { try await prepare() }
        while queue.isEmpty {
            switch try await source.next() {
            case .records(let records): for record in records where record.header.key == key { take(record) }
            // Whether this stream has lost anything shows in its next record.
            case .gap: continue
            case .end: return nil
            }
        }
        return queue.removeFirst()
    }

    private mutating func take(_ record: ParsedRecord) {
        let header = record.header
        if header.kind == .gap || header.kind == .end {
            if header.offset > offset {
                queue.append(.gap(header.offset - offset))
                offset = header.offset
            }
            return
        }
        let end = header.offset + UInt64(header.raw)
        guard header.kind == .data, end > offset || header.raw == 0 else { return }
        if header.offset > offset {
            queue.append(.gap(header.offset - offset))
            offset = header.offset
        }
        let known = Int(offset - header.offset)
        // Masking can change the length: then bytes cannot be told apart, and what is stored counts from its start.
        let bytes = Array(record.payload.dropFirst(known))
        if !bytes.isEmpty { queue.append(.bytes(bytes, offset: offset)) }
        offset = end
    }

    /// Goes back to the last record that begins at or before the offset.
    private mutating func prepare() async throws(AegisError) {
        prepared = true
        let (segments, position, _) = log.snapshot
        let directory = log.directory
        let (key, offset) = (key, offset)
        do {
            source.cursor = try await BlockingPool.shared.run {
                try Self.find(directory, segments, position, key, offset)
            }
        } catch { throw .failed("log-unreadable", "the log cannot be read: \(error)") }
    }

    private static func find(
        _ directory: LogDirectory, _ segments: [Segment], _ position: UInt64, _ key: LogKey, _ offset: UInt64
    ) throws(Errno) -> LogCursor? {
        var position = position
        for segment in segments.reversed() {
            var reader: BackwardReader
            do throws(Errno) { reader = try BackwardReader(directory, segment.sequence) } catch {
                if error == .noSuchFile { return nil }
                throw error
            }
            var end = segment.size
            while end > UInt64(SegmentHeader.length), let record = try reader.record(endingAt: end) {
                let header = record.header
                end -= UInt64(header.total)
                if header.kind == .data { position -= min(position, UInt64(header.raw)) }
                guard header.key == key, header.kind == .data || header.kind == .gap, header.offset <= offset else {
                    continue
                }
                var cursor = LogCursor(startOf: segment)
                cursor.offset = end
                cursor.position = position
                return cursor
            }
        }
        return nil
    }
}

extension InstanceLog {
    /// The exact bytes of a stream from an offset on, up to what is saved.
    package func rawBytes(of process: LogProcess, _ stream: LogStream, from offset: UInt64) -> RawReader {
        RawReader(log: self, key: LogKey(process, stream), from: offset)
    }
}
