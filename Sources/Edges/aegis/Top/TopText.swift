/// Text that fills so many columns of a terminal and never more.
package enum TopText {
    /// How many columns a terminal gives a character.
    static func columns(of character: Character) -> Int {
        guard let first = character.unicodeScalars.first?.value else { return 0 }
        switch first {
        case 0x300...0x36f, 0x200b...0x200f, 0xfe00...0xfe0f, 0xfeff: return 0
        case 0x1100...0x115f, 0x2e80...0x303e, 0x3041...0xa4cf, 0xac00...0xd7a3, 0xf900...0xfaff, 0xfe30...0xfe6f,
            0xff00...0xff60, 0xffe0...0xffe6, 0x1f300...0x1faff, 0x20000...0x3fffd:
            return 2
        default: return 1
        }
    }

    /// How many columns a text takes.
    package static func columns(of text: String) -> Int { text.reduce(0) { $0 + columns(of: $1) } }

    /// Somebody's text in exactly so many columns: cut with a sign, or filled with spaces; controls are spelled out.
    package static func cell(_ text: String, _ width: Int, right: Bool = false) -> String {
        guard width > 0 else { return "" }
        let plain = Plain.text(text)
        let used = columns(of: plain)
        guard used > width else {
            let space = String(repeating: " ", count: width - used)
            return right ? space + plain : plain + space
        }
        var out = ""
        var left = width - 1
        for character in plain {
            let width = columns(of: character)
            guard width <= left else { break }
            out.append(character)
            left -= width
        }
        return out + "…" + String(repeating: " ", count: left)
    }

    /// Lines of somebody's text, broken where they are too wide.
    package static func wrapped(_ text: String, _ width: Int) -> [String] {
        var lines: [String] = []
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            var rest = Substring(Plain.text(String(line.replacing("\t", with: "    "))))
            repeat {
                var part = ""
                var left = max(2, width)
                while let next = rest.first, columns(of: next) <= left {
                    left -= columns(of: next)
                    part.append(rest.removeFirst())
                }
                lines.append(part)
            } while !rest.isEmpty
        }
        while lines.last?.isEmpty == true { lines.removeLast() }
        return lines
    }

    /// A number as short as it can be read: `999`, `12.3k`, `4.5M`.
    package static func short(_ number: Int64) -> String {
        var scaled = number < 0 ? 0 : number
        guard scaled >= 1000 else { return "\(scaled)" }
        var unit = -1
        scaled *= 10
        while scaled >= 10_000, unit < 3 {
            scaled /= 1000
            unit += 1
        }
        let word = ["k", "M", "G", "T"][unit]
        return scaled >= 1000 ? "\(scaled / 10)\(word)" : "\(scaled / 10).\(scaled % 10)\(word)"
    }
}
