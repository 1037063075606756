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
    /// The line that each target is in the middle of.
    private var open: [Target: Source] = [:]

    /// - Parameter coloured: whether marks of exec and system lines are coloured (a terminal reads).
    package init(coloured: Bool) { self.coloured = coloured }

    /// The bytes of one record, for the target it belongs to; `data` that is no base64 counts as empty.
    package mutating func piece(of record: LogRecord) -> Piece {
        if let gap = record.gap {
            let note = "[\(gap) bytes are gone: the log was rotated meanwhile]\n"
            return Piece(target: .stderr, bytes: Array(note.utf8))
        }
        let source = Source(stream: record.stream, source: record.source, execID: record.execID)
        let target: Target = record.stream == "stdout" ? .stdout : .stderr
        var out: [UInt8] = []
        if let interrupted = open[target], interrupted != source {
            out.append(10)
            open[target] = nil
        }
        if open[target] == nil { out.append(contentsOf: mark(record.source).utf8) }
        if let line = record.line {
            out.append(contentsOf: line.utf8)
        } else if let data = record.data {
            out.append(contentsOf: Base64.decode(data) ?? [])
        }
        if record.partial == true {
            open[target] = source
        } else {
            out.append(10)
            open[target] = nil
        }
        return Piece(target: target, bytes: out)
    }

    private func mark(_ source: String) -> String {
        switch source {
        case "exec": coloured ? "\u{1b}[36m[exec]\u{1b}[0m " : "[exec] "
        case "system": coloured ? "\u{1b}[33m[system]\u{1b}[0m " : "[system] "
        default: ""
        }
    }
}
