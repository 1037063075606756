package import AegisSandboxTypes

/// Turns log records back into the bytes that the process wrote.
///
/// Pieces of a long line are joined as they come, so that no line is too long; a last line without newline stays
/// without one.
package struct LogText: Sendable {
    /// Where a piece of output belongs.
    package enum Target: Sendable { case stdout, stderr }
    /// Bytes to print.
    package struct Piece: Sendable, Equatable {
        package var target: Target
        package var bytes: [UInt8]
    }

    private struct Source: Equatable {
        var stream: String
        var source: String
        var execID: String?
    }
    private let coloured: Bool
    private let merged: Bool
    /// The line that each target is in the middle of; all are one when they are merged.
    private var open: [Target: Source] = [:]

    /// - Parameters:
    ///   - coloured: whether marks of exec and system lines are coloured (a terminal reads).
    ///   - merged: whether both targets lead to one place, as a terminal, where lines of one must not run into the other's.
    package init(coloured: Bool, merged: Bool = false) {
        self.coloured = coloured
        self.merged = merged
    }

    /// The bytes of one record, for the target it belongs to; `data` that is no base64 counts as empty.
    package mutating func piece(of record: LogRecord) -> Piece {
        if let gap = record.gap {
            var out: [UInt8] = []
            if merged, open.removeValue(forKey: .stdout) != nil { out.append(10) }
            out.append(contentsOf: "[\(gap) bytes are missing\(Self.why(record.gapReason))]\n".utf8)
            return Piece(target: .stderr, bytes: out)
        }
        let target: Target = record.stream == "stdout" ? .stdout : .stderr
        // Where they are merged, a process may end on one stream the line that it began on the other, as on its terminal.
        let source = Source(stream: merged ? "" : record.stream, source: record.source, execID: record.execID)
        let line: Target = merged ? .stdout : target
        var out: [UInt8] = []
        if let interrupted = open[line], interrupted != source {
            out.append(10)
            open[line] = nil
        }
        if open[line] == nil { out.append(contentsOf: mark(record.source).utf8) }
        if let line = record.line {
            out.append(contentsOf: line.utf8)
        } else if let data = record.data {
            out.append(contentsOf: Base64.decode(data) ?? [])
        }
        if record.partial == true {
            open[line] = source
        } else {
            out.append(10)
            open[line] = nil
        }
        return Piece(target: target, bytes: out)
    }

    private static func why(_ reason: String?) -> String {
        switch reason {
        case "rotated": ": the log was rotated meanwhile"
        case "not-written": ": they could not be written to the log, as on a full disk"
        case "damaged": ": the log is damaged there"
        default: ""
        }
    }

    private func mark(_ source: String) -> String {
        switch source {
        case "exec": coloured ? "\u{1b}[36m[exec]\u{1b}[0m " : "[exec] "
        case "system": coloured ? "\u{1b}[33m[system]\u{1b}[0m " : "[system] "
        default: ""
        }
    }
}
