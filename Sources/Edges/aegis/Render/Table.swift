/// Text in columns for people, as plain as `ps` prints it.
package struct Table: Sendable {
    private let header: [String]
    private var rows: [[String]] = []
    /// Makes a table with a head.
    package init(_ header: [String]) { self.header = header }

    /// Adds a row with as many cells as the head has.
    package mutating func add(_ cells: [String]) { rows.append(cells.map(Plain.text)) }

    /// The lines; columns are as wide as their widest cell, three spaces apart.
    package var text: String {
        let all = [header] + rows
        let widths = header.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
        var out = ""
        for row in all {
            var line = ""
            for (column, cell) in row.enumerated() {
                line += cell
                if column < row.count - 1 { line += String(repeating: " ", count: widths[column] - cell.count + 3) }
            }
            out += trimmed(line) + "\n"
        }
        return out
    }

    private func trimmed(_ line: String) -> Substring {
        var line = Substring(line)
        while line.hasSuffix(" ") { line.removeLast() }
        return line
    }
}

/// `key: value` lines, the values in one column.
package struct Fields: Sendable {
    private var lines: [(String, String)] = []
    /// Makes an empty list.
    package init() {}
    /// Adds a line; nil and empty values leave it out.
    package mutating func add(_ key: String, _ value: String?) {
        guard let value, !value.isEmpty else { return }
        lines.append((key, Plain.text(value)))
    }
    /// The lines.
    package var text: String {
        let width = (lines.map(\.0.count).max() ?? 0) + 3
        return lines.map { key, value in
            "\(key):\(String(repeating: " ", count: max(1, width - key.count - 1)))\(value)\n"
        }.joined()
    }
}

/// Text that came from somewhere and goes to a terminal.
package enum Plain {
    /// The text with control characters (C0, DEL, C1) and line separators spelled out, so that none is acted on.
    package static func text(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: isControl) else { return text }
        var out = ""
        for scalar in text.unicodeScalars {
            switch scalar.value {
            case 10: out += "\\n"
            case 13: out += "\\r"
            case 9: out += "\\t"
            case 27: out += "\\e"
            default:
                if isControl(scalar) {
                    out += "\\u{\(String(scalar.value, radix: 16))}"
                } else {
                    out.unicodeScalars.append(scalar)
                }
            }
        }
        return out
    }

    /// Lines of somebody else, with line breaks and tabs as they are and an end of line at the end.
    package static func block(_ lines: String) -> String {
        let parts = lines.split(separator: "\n", omittingEmptySubsequences: false).map { line in
            line.split(separator: "\t", omittingEmptySubsequences: false).map { text(String($0)) }.joined(
                separator: "\t")
        }
        let whole = parts.joined(separator: "\n")
        return whole.hasSuffix("\n") ? whole : whole + "\n"
    }

    /// A piece of somebody else's lines, as `block` shows them.
    package static func piece(_ text: String) -> String {
        let lines = block(text)
        return text.hasSuffix("\n") ? lines : String(lines.dropLast())
    }

    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value < 0x20 || (0x7f..<0xa0).contains(scalar.value) || scalar.value == 0x2028 || scalar.value == 0x2029
            || (0x202a...0x202e).contains(scalar.value) || (0x2066...0x2069).contains(scalar.value)
    }

    /// The text cut to a width, with a sign that it was.
    package static func cut(_ text: String, to width: Int) -> String {
        text.count <= width ? text : text.prefix(width - 1) + "…"
    }

    /// Words as a shell would take them.
    package static func command(_ words: [String]) -> String {
        words.map { word in
            let safe = { (byte: UInt8) -> Bool in
                switch byte {
                case 48...57, 65...90, 97...122: true
                default: "-_./:=,@%+".utf8.contains(byte)
                }
            }
            if !word.isEmpty, word.utf8.allSatisfy(safe) { return word }
            return "'" + word.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
        }.joined(separator: " ")
    }

    /// A size as people read it: `12.4 KiB`.
    package static func size(_ bytes: UInt64) -> String {
        var unit = 0
        var scaled = bytes * 10
        while scaled >= 10240, unit < 4 {
            scaled /= 1024
            unit += 1
        }
        guard unit > 0 else { return "\(bytes) B" }
        return "\(scaled / 10).\(scaled % 10) \(["B", "KiB", "MiB", "GiB", "TiB"][unit])"
    }

    /// How long ago, in the largest unit that fits: `5s`, `3m`, `2h`, `4d`.
    package static func age(_ milliseconds: Int64) -> String {
        let seconds = max(0, milliseconds) / 1000
        switch seconds {
        case ..<60: return "\(seconds)s"
        case ..<3600: return "\(seconds / 60)m"
        case ..<86_400: return "\(seconds / 3600)h"
        default: return "\(seconds / 86_400)d"
        }
    }
}
