internal import AegisCore
internal import LinuxSys

// The files of a log. A segment is a header and records; all numbers are little-endian.
//
//   segment  8 "AEGISLOG" | 2 version | 2 header length | 4 CRC | 8 sequence | 8 position | 8 made at (ms)
//   record   1 0xA7 | 1 kind | 1 stream | 1 id length | 4 stored | 4 raw | 4 CRC | 8 time (ms) | 8 offset | 4 run
//            | 4 column | id | payload | 4 length of the whole record
//
// The length at the end lets a reader go backwards. The CRC covers everything but itself and that length. The position of a
// segment counts the output (raw bytes) of all segments before it: a reader that was overtaken knows how much it missed.

/// Which stream of which process.
struct LogKey: Hashable, Sendable {
    var stream: LogStream
    var run: UInt32
    /// Empty for the instance's own command and for Aegis.
    var id: [UInt8]

    init(stream: LogStream, run: UInt32, id: [UInt8]) {
        self.stream = stream
        self.run = run
        self.id = id
    }

    init(_ process: LogProcess, _ stream: LogStream) {
        self.stream = stream
        run = process.run
        id = Array((process.execID ?? "").utf8.prefix(LogProcess.maximumIDLength))
    }
}

/// What a record is.
enum RecordKind: UInt8, Sendable {
    /// Output of a process.
    case data = 1
    /// The stream has ended; its last line may lack a newline.
    case end = 2
    /// Output that was lost (payload: how many bytes) because nothing could be written.
    case gap = 3
    /// Where each stream stands (payload), at the start of a segment.
    case streams = 4
    /// The instance was started; streams of earlier runs are forgotten.
    case run = 5
    /// The stream is forgotten.
    case forget = 6
}

/// A record without its payload.
struct RecordHeader: Sendable, Equatable {
    static let length = 40
    static let trailer = 4
    static let marker: UInt8 = 0xA7
    /// No record of ours is longer.
    static let maximumStored = 1 << 21

    var kind: RecordKind
    var key: LogKey
    /// Bytes of the payload.
    var stored: Int
    /// Bytes of output that the payload stands for (masking may change the length).
    var raw: Int
    var time: Int64
    /// Where in its stream the output begins.
    var offset: UInt64
    /// How many bytes of the current piece of a line come before it.
    var column: Int

    /// Bytes of the whole record.
    var total: Int { Self.length + key.id.count + stored + Self.trailer }

    /// Writes header and id, with the checksum over them and the payload.
    func encode(payload: Span<UInt8>, into out: inout [UInt8]) {
        out.removeAll(keepingCapacity: true)
        out.append(Self.marker)
        out.append(kind.rawValue)
        out.append(key.stream.rawValue)
        out.append(UInt8(key.id.count))
        out.append(littleEndian: UInt32(stored))
        out.append(littleEndian: UInt32(raw))
        out.append(littleEndian: 0 as UInt32)
        out.append(littleEndian: UInt64(bitPattern: time))
        out.append(littleEndian: offset)
        out.append(littleEndian: key.run)
        out.append(littleEndian: UInt32(column))
        out += key.id
        let checksum = CRC32C.of(payload, after: CRC32C.of(out.span))
        for i in 0..<4 { out[12 + i] = UInt8(truncatingIfNeeded: checksum >> (8 * UInt32(i))) }
    }
}

/// A record in a buffer that was read.
struct ParsedRecord: Sendable {
    var header: RecordHeader
    var payload: ArraySlice<UInt8>
}

/// What stands at a place of a buffer.
enum RecordParse: Sendable {
    case record(ParsedRecord, next: Int)
    /// The record goes on beyond the buffer; so many bytes are needed from its start.
    case incomplete(need: Int)
    case corrupt
}

extension ParsedRecord {
    /// Reads the record at `at`, checking its checksum.
    static func parse(_ bytes: [UInt8], at: Int) -> RecordParse {
        guard bytes.count - at >= RecordHeader.length else { return .incomplete(need: RecordHeader.length) }
        guard bytes[at] == RecordHeader.marker, let kind = RecordKind(rawValue: bytes[at + 1]),
            let stream = LogStream(rawValue: bytes[at + 2])
        else { return .corrupt }
        let idLength = Int(bytes[at + 3])
        let stored = Int(bytes.littleEndian32(at + 4))
        guard stored <= RecordHeader.maximumStored, idLength <= LogProcess.maximumIDLength else { return .corrupt }
        let payloadAt = at + RecordHeader.length + idLength
        let end = payloadAt + stored
        guard bytes.count >= end + RecordHeader.trailer else {
            return .incomplete(need: end + RecordHeader.trailer - at)
        }
        guard bytes.littleEndian32(end) == UInt32(end + RecordHeader.trailer - at) else { return .corrupt }
        let span = bytes.span
        var checksum = CRC32C.of(span.extracting(at..<at + 12))
        checksum = CRC32C.of([0, 0, 0, 0].span, after: checksum)
        checksum = CRC32C.of(span.extracting(at + 16..<end), after: checksum)
        guard checksum == bytes.littleEndian32(at + 12) else { return .corrupt }
        let header = RecordHeader(
            kind: kind,
            key: LogKey(
                stream: stream, run: bytes.littleEndian32(at + 32),
                id: idLength == 0 ? [] : Array(bytes[at + RecordHeader.length..<payloadAt])),
            stored: stored, raw: Int(bytes.littleEndian32(at + 8)),
            time: Int64(bitPattern: bytes.littleEndian64(at + 16)), offset: bytes.littleEndian64(at + 24),
            column: Int(bytes.littleEndian32(at + 36)))
        return .record(ParsedRecord(header: header, payload: bytes[payloadAt..<end]), next: end + RecordHeader.trailer)
    }
}

/// The first bytes of a segment.
struct SegmentHeader: Sendable, Equatable {
    static let length = 40
    static let version: UInt16 = 1
    static let magic = Array("AEGISLOG".utf8)

    var sequence: UInt64
    var position: UInt64
    var madeAt: Int64

    enum Parse: Equatable {
        case header(SegmentHeader)
        case newer(UInt16)
        case corrupt
    }

    func encode() -> [UInt8] {
        var out = Self.magic
        out.append(littleEndian: UInt32(Self.version) | UInt32(Self.length) << 16)
        out.append(littleEndian: 0 as UInt32)
        out.append(littleEndian: sequence)
        out.append(littleEndian: position)
        out.append(littleEndian: UInt64(bitPattern: madeAt))
        let checksum = CRC32C.of(out.span)
        for i in 0..<4 { out[12 + i] = UInt8(truncatingIfNeeded: checksum >> (8 * UInt32(i))) }
        return out
    }

    static func parse(_ bytes: [UInt8]) -> Parse {
        guard bytes.count >= length, bytes.starts(with: magic) else { return .corrupt }
        let version = UInt16(truncatingIfNeeded: bytes.littleEndian32(8))
        guard version <= Self.version else { return .newer(version) }
        var plain = Array(bytes[..<length])
        for i in 12..<16 { plain[i] = 0 }
        guard version == Self.version, CRC32C.of(plain.span) == bytes.littleEndian32(12) else { return .corrupt }
        return .header(
            SegmentHeader(
                sequence: bytes.littleEndian64(16), position: bytes.littleEndian64(24),
                madeAt: Int64(bitPattern: bytes.littleEndian64(32))))
    }
}

extension [UInt8] {
    mutating func append(littleEndian value: UInt32) {
        for i: UInt32 in 0..<4 { append(UInt8(truncatingIfNeeded: value >> (8 * i))) }
    }
    mutating func append(littleEndian value: UInt64) {
        for i: UInt64 in 0..<8 { append(UInt8(truncatingIfNeeded: value >> (8 * i))) }
    }
    func littleEndian32(_ at: Int) -> UInt32 {
        UInt32(self[at]) | UInt32(self[at + 1]) << 8 | UInt32(self[at + 2]) << 16 | UInt32(self[at + 3]) << 24
    }
    func littleEndian64(_ at: Int) -> UInt64 { UInt64(littleEndian32(at)) | UInt64(littleEndian32(at + 4)) << 32 }
}
