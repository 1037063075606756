internal import AegisCore
internal import AegisSandboxTypes

/// One record of the log as readers get it: a line, a piece of one, or a hole.
struct LogPiece: Sendable, Equatable {
    var time: Int64
    var key: LogKey
    var bytes: [UInt8]
    var partial = false
    var gap: UInt64?
    /// Why those bytes are not there.
    var gapReason: LogGapReason?

    var source: String {
        if key.stream == .system { return "system" }
        return key.id.isEmpty ? "server" : "exec"
    }

    var record: LogRecord {
        var record = LogRecord(
            ts: Timestamp(milliseconds: time), stream: key.stream.name, source: source)
        if !key.id.isEmpty { record.execID = String(decoding: key.id, as: UTF8.self) }
        if let gap {
            record.gap = gap
            record.gapReason = gapReason?.rawValue
        } else if let text = String(validating: bytes, as: UTF8.self) {
            record.line = text
        } else {
            record.data = Base64.encode(bytes)
        }
        if partial { record.partial = true }
        return record
    }
}

/// Puts the lines of each stream together from the log's records. Pure; at most 64 KiB per open line.
struct LineAssembler {
    private struct Open {
        var bytes: [UInt8]
        /// Bytes of the piece so far; more than `bytes` has where its beginning was not read.
        var column: Int
        var time: Int64
        var order: UInt64
    }

    private var open: [LogKey: Open] = [:]
    private var order: UInt64 = 0

    /// Takes a record and appends what it completes.
    mutating func add(_ record: ParsedRecord, to out: inout [LogPiece]) {
        let header = record.header
        switch header.kind {
        case .data: addData(record, to: &out)
        case .end: flush(header.key, time: header.time, to: &out)
        case .gap:
            flush(header.key, time: header.time, to: &out)
            let lost = record.payload.reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
            out.append(
                LogPiece(time: header.time, key: header.key, bytes: [], gap: lost, gapReason: .notWritten))
        case .streams, .run, .forget: break
        }
    }

    /// Output was missed: open lines end as pieces, and the hole is told.
    mutating func addGap(_ bytes: UInt64, _ reason: LogGapReason, time: Int64, to out: inout [LogPiece]) {
        flushAll(to: &out)
        guard bytes > 0 else { return }
        out.append(
            LogPiece(
                time: time, key: LogKey(stream: .system, run: 0, id: []), bytes: [], gap: bytes, gapReason: reason))
    }

    /// Nothing more comes: open lines are given as pieces, oldest first.
    mutating func flushAll(to out: inout [LogPiece]) {
        for (key, line) in open.sorted(by: { $0.value.order < $1.value.order }) {
            out.append(LogPiece(time: line.time, key: key, bytes: line.bytes, partial: true))
        }
        open = [:]
    }

    private mutating func flush(_ key: LogKey, time: Int64, to out: inout [LogPiece]) {
        guard let line = open.removeValue(forKey: key) else { return }
        out.append(LogPiece(time: time, key: key, bytes: line.bytes, partial: true))
    }

    private mutating func addData(_ record: ParsedRecord, to out: inout [LogPiece]) {
        let header = record.header
        var begun: [UInt8] = []
        if let line = open.removeValue(forKey: header.key) {
            // The writer's column and ours agree unless the log itself is damaged: then the old line ends here.
            if line.column == header.column {
                begun = line.bytes
            } else {
                out.append(LogPiece(time: header.time, key: header.key, bytes: line.bytes, partial: true))
            }
        }
        var rest = record.payload.startIndex
        let column = LinePhase.scan(record.payload, column: header.column) { piece in
            begun += record.payload[piece.range]
            out.append(LogPiece(time: header.time, key: header.key, bytes: begun, partial: !piece.isLine))
            begun = []
            rest = piece.range.upperBound + (piece.isLine ? 1 : 0)
        }
        guard column > 0 else { return }
        begun += record.payload[rest...]
        order += 1
        open[header.key] = Open(bytes: begun, column: column, time: header.time, order: order)
    }
}
