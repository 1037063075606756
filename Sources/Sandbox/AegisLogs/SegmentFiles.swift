internal import AegisCore
internal import LinuxSys

/// A segment that is there.
struct Segment: Sendable, Equatable {
    var sequence: UInt64
    /// Output in all segments before it, in bytes.
    var position: UInt64
    var madeAt: Int64
    /// Bytes of the file that hold whole records; the newest one grows.
    var size: UInt64
}

/// A place in a log.
struct LogCursor: Sendable, Equatable {
    var sequence: UInt64
    /// In the segment's file.
    var offset: UInt64
    /// Output before this place, in bytes.
    var position: UInt64

    /// The first record of a segment.
    init(startOf segment: Segment) {
        sequence = segment.sequence
        offset = UInt64(SegmentHeader.length)
        position = segment.position
    }

    mutating func pass(_ header: RecordHeader) {
        offset += UInt64(header.total)
        if header.kind == .data { position += UInt64(header.raw) }
    }
}

/// The directory of one log; shared by the writer and its readers.
final class LogDirectory: Sendable {
    let descriptor: FileDescriptor

    init(_ path: String) throws(Errno) {
        try Files.makeDirectories(path, mode: 0o700)
        descriptor = try FileDescriptor.open(path, [.readOnly, .directory, .noFollow])
    }

    static func name(_ sequence: UInt64) -> String {
        let digits = String(sequence, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits + ".log"
    }

    static func sequence(_ name: String) -> UInt64? {
        guard name.hasSuffix(".log"), name.utf8.count == 20 else { return nil }
        return UInt64(name.dropLast(4), radix: 16)
    }

    func open(_ sequence: UInt64, writing: Bool = false) throws(Errno) -> FileDescriptor {
        try descriptor.open(Self.name(sequence), [writing ? .readWrite : .readOnly, .noFollow])
    }

    func remove(_ sequence: UInt64) { try? descriptor.removeFile(Self.name(sequence)) }
}

/// Whole records at the start of a buffer.
struct RecordBatch: Sendable {
    enum Stop: Equatable {
        /// All of the buffer was used.
        case end
        /// A record goes on beyond the buffer and needs so many bytes.
        case incomplete(need: Int)
        case corrupt
    }
    var records: [ParsedRecord] = []
    /// Bytes of the buffer that the records take.
    var used = 0
    var stop = Stop.end

    init(_ bytes: [UInt8]) {
        while used < bytes.count {
            switch ParsedRecord.parse(bytes, at: used) {
            case .record(let record, let next):
                records.append(record)
                used = next
            case .incomplete(let need):
                stop = .incomplete(need: need)
                return
            case .corrupt:
                stop = .corrupt
                return
            }
        }
    }
}

/// What was found in a log's directory.
struct RecoveredLog {
    var segments: [Segment] = []
    var streams = StreamTable()
    var run: UInt32 = 0
    var lastTime: Int64 = 0
    /// Output in the log, in bytes.
    var position: UInt64 = 0

    /// Reads a directory: what was torn by a crash is cut off, what was never finished is removed.
    ///
    /// - Throws: `log-version` for a log of a newer Aegis; `log-unreadable`.
    init(_ directory: LogDirectory) throws(AegisError) {
        do {
            var sequences: [UInt64] = []
            for entry in try directory.descriptor.entries(limit: 10_000) {
                if let sequence = LogDirectory.sequence(entry.name) {
                    sequences.append(sequence)
                } else if entry.name.hasSuffix(".new") {
                    try directory.descriptor.removeFile(entry.name)
                }
            }
            for sequence in sequences.sorted() { try add(sequence, in: directory) }
            try recoverNewest(in: directory)
        } catch let error as AegisError { throw error } catch {
            throw .failed("log-unreadable", "a stored log cannot be read: \(error)")
        }
    }

    private mutating func add(_ sequence: UInt64, in directory: LogDirectory) throws {
        let file = try directory.open(sequence)
        var bytes = [UInt8](repeating: 0, count: SegmentHeader.length)
        let count = try file.read(at: 0, into: &bytes)
        switch SegmentHeader.parse(count == bytes.count ? bytes : []) {
        case .newer(let version):
            throw AegisError.failed(
                "log-version", "the log was written by a newer Aegis (log format \(version))",
                hint: "use that version, or delete the instance")
        case .header(let header) where header.sequence == sequence:
            segments.append(
                Segment(
                    sequence: sequence, position: header.position, madeAt: header.madeAt,
                    size: try file.status().size))
        default:
            // Only a power loss leaves this: the name was on the disk before the content.
            directory.remove(sequence)
        }
    }

    private mutating func recoverNewest(in directory: LogDirectory) throws {
        guard let newest = segments.last else { return }
        let file = try directory.open(newest.sequence, writing: true)
        var cursor = LogCursor(startOf: newest)
        var wanted = 256 << 10
        while cursor.offset < newest.size {
            var buffer = [UInt8](repeating: 0, count: Int(min(UInt64(wanted), newest.size - cursor.offset)))
            let count = try file.read(at: cursor.offset, into: &buffer)
            buffer.removeLast(buffer.count - count)
            let batch = RecordBatch(buffer)
            for record in batch.records {
                streams.replay(record)
                lastTime = max(lastTime, record.header.time)
                run = max(run, record.header.key.run)
                cursor.pass(record.header)
            }
            if !batch.records.isEmpty { continue }
            guard case .incomplete(let need) = batch.stop, need > buffer.count,
                UInt64(need) <= newest.size - cursor.offset
            else { break }
            wanted = need
        }
        if cursor.offset < newest.size { try file.truncate(to: cursor.offset) }
        segments[segments.count - 1].size = cursor.offset
        position = cursor.position
        lastTime = max(lastTime, newest.madeAt)
    }
}
