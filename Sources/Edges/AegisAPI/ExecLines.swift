internal import AegisCore
internal import AegisLogs
internal import AegisSandboxTypes

/// Cuts the output of a process into log records, for scripts (decision D10).
struct ExecLines: Sendable {
    /// A longer line comes in pieces.
    static let pieceLimit = 64 << 10

    private let execID: String
    private var open: [String: [UInt8]] = [:]

    init(execID: String) { self.execID = execID }

    /// Takes bytes; gives the lines that are complete now and pieces of lines that are too long.
    mutating func feed(_ bytes: ArraySlice<UInt8>, stream: String) -> [LogRecord] {
        var records: [LogRecord] = []
        var line = open.removeValue(forKey: stream) ?? []
        var rest = bytes
        while !rest.isEmpty {
            let end = rest.firstIndex(of: 10)
            let room = Self.pieceLimit - line.count
            let part = rest[rest.startIndex..<(end ?? rest.endIndex)].prefix(room)
            line += part
            rest = rest.dropFirst(part.count)
            if rest.first == 10 {
                records.append(record(line, stream, partial: false))
                line = []
                rest = rest.dropFirst()
            } else if line.count == Self.pieceLimit {
                records.append(record(line, stream, partial: true))
                line = []
            }
        }
        if !line.isEmpty { open[stream] = line }
        return records
    }

    /// The last lines, which have no newline.
    mutating func finish() -> [LogRecord] {
        defer { open = [:] }
        return open.sorted { $0.key < $1.key }.map { record($0.value, $0.key, partial: true) }
    }

    private func record(_ line: [UInt8], _ stream: String, partial: Bool) -> LogRecord {
        var record = LogRecord(ts: .now(), stream: stream, source: "exec")
        record.execID = execID
        if let text = String(validating: line, as: UTF8.self) {
            record.line = text
        } else {
            record.data = Base64.encode(line)
        }
        if partial { record.partial = true }
        return record
    }
}
