import Foundation

/// The examples of a page of the documentation: its fenced blocks, as what stands behind the ``` says.
///
/// - `console run`: a session. Lines with `$ ` are commands (`> ` goes on with one), the others are what they print, output and
///   errors as they come. A line `...` stands for any number of lines, `...` within a line for any text. Commands succeed.
/// - `sh run`: a script that succeeds, whatever it prints.
/// - `sh skip="why"`, `console skip="why"`: not run, and why.
/// - `KIND file=NAME`: the contents of a file, there from that point of the page on.
///
/// Everything else of kind `sh` and `console` is a mistake. All of a page is run in one shell, from its top to its end.
struct DocsPage {
    /// One command, or one script.
    struct Step {
        var line: Int
        var text: String
        /// What it prints; nil is anything.
        var expected: [String]?
    }
    /// What happens at a point of the page.
    enum Part {
        case step(Step)
        case file(name: String, text: String)
    }

    let name: String
    private(set) var parts: [Part] = []
    private(set) var skipped: [(line: Int, reason: String)] = []
    private(set) var mistakes: [String] = []

    var steps: [Step] { parts.compactMap { if case .step(let step) = $0 { step } else { nil } } }

    init(_ name: String, text: String) {
        self.name = name
        var block: (line: Int, info: String, lines: [String])?
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            guard line.hasPrefix("```") else {
                block?.lines.append(String(line))
                continue
            }
            if let whole = block {
                take(whole.info, whole.lines, at: whole.line)
                block = nil
            } else {
                block = (index + 1, String(line.dropFirst(3)), [])
            }
        }
        if let block { mistakes.append("\(name):\(block.line): the block has no end") }
    }

    private mutating func take(_ info: String, _ lines: [String], at line: Int) {
        let kind = info.prefix { $0 != " " }
        let rest = info.dropFirst(kind.count).trimmingCharacters(in: .whitespaces)
        if rest.hasPrefix("file=") {
            parts.append(.file(name: String(rest.dropFirst(5)), text: lines.joined(separator: "\n") + "\n"))
        } else if kind != "sh", kind != "console" {
            return
        } else if rest.hasPrefix("skip=\""), rest.hasSuffix("\""), rest.count > 7 {
            skipped.append((line, String(rest.dropFirst(6).dropLast())))
        } else if rest != "run" {
            mistakes.append("\(name):\(line): '```\(info)' says neither 'run' nor 'skip=\"why\"'")
        } else if kind == "sh" {
            parts.append(.step(Step(line: line + 1, text: lines.joined(separator: "\n"), expected: nil)))
        } else {
            takeSession(lines, from: line + 1)
        }
    }

    private mutating func takeSession(_ lines: [String], from first: Int) {
        var step: Step?
        for (offset, line) in lines.enumerated() {
            if line.hasPrefix("$ ") {
                if let step { parts.append(.step(step)) }
                step = Step(line: first + offset, text: String(line.dropFirst(2)), expected: [])
            } else if line.hasPrefix("> ") || line == ">", step?.expected == [] {
                step?.text += "\n" + line.dropFirst(2)
            } else if step == nil {
                mistakes.append("\(name):\(first + offset): output without a command")
            } else {
                step?.expected?.append(line)
            }
        }
        if let step { parts.append(.step(step)) }
    }

    // MARK: Running

    /// One script of all steps: what each printed goes to `FOLDER/N.out`, its exit code to `FOLDER/N.code`.
    func script(in folder: String) -> String {
        var script = ""
        var number = 0
        for part in parts {
            switch part {
            case .file(let name, let text):
                script += "mkdir -p \"$(dirname '\(name)')\"; cat >'\(name)' <<'END_OF_FILE'\n\(text)END_OF_FILE\n"
            case .step(let step):
                // A script ends at its first failure, and the page with it; a session shows the next prompt.
                let (before, after) = step.expected == nil ? ("set -e; ", "; set +e") : ("", "")
                script += """
                    \(before){ \(step.text)
                    } >'\(folder)/\(number).out' 2>&1 </dev/null\(after)
                    echo $? >'\(folder)/\(number).code'

                    """
                number += 1
            }
        }
        return script
    }

    /// Whether what was printed is what the page says.
    static func matches(_ printed: [String], _ expected: [String]) -> Bool {
        // The furthest that any reading of the wildcards has come, line by line.
        var reached: Set<Int> = [0]
        for line in expected {
            if line == "...", let first = reached.min() {
                reached = Set(first...printed.count)
            } else {
                reached = Set(reached.filter { $0 < printed.count && fits(printed[$0], line) }.map { $0 + 1 })
            }
        }
        return reached.contains(printed.count)
    }

    private static func fits(_ line: String, _ pattern: String) -> Bool {
        let pieces = pattern.components(separatedBy: "...")
        guard pieces.count > 1, let last = pieces.last else { return line == pattern }
        guard line.hasPrefix(pieces[0]) else { return false }
        var rest = line.dropFirst(pieces[0].count)
        for piece in pieces.dropFirst().dropLast() where !piece.isEmpty {
            guard let place = rest.range(of: piece) else { return false }
            rest = rest[place.upperBound...]
        }
        return rest.hasSuffix(last)
    }
}
