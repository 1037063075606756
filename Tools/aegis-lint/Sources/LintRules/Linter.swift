import SwiftParser
import SwiftSyntax

/// Checks one file against the house rules (decision D57 and `CONTRIBUTING.md`).
package struct Linter: Sendable {
    /// A file of more lines than this is warned about.
    package static let longFile = 400
    /// A file of more lines than this fails, unless it says why: `// Long file: REASON`.
    package static let tooLongFile = 500
    /// A function of more lines than this is warned about.
    package static let longFunction = 60

    private let house: House

    package init(house: House) { self.house = house }

    /// Everything that is wrong with a file, from top to bottom.
    ///
    /// - Parameters:
    ///   - source: its text.
    ///   - path: relative to the package, with `/`. Files under `Tests/` answer for their length only.
    /// - Returns: findings in the order of the file; empty when the file is clean.
    package func check(_ source: String, path: String) -> [Finding] {
        let tree = Parser.parse(source: source)
        let converter = SourceLocationConverter(fileName: path, tree: tree)
        var findings = length(source, path)
        if path.hasPrefix("Sources/") {
            let visitor = RuleVisitor(path: path, converter: converter, house: house)
            visitor.walk(tree)
            visitor.checkDocumentation(of: tree.statements)
            findings += visitor.findings
        }
        return findings.sorted()
    }

    private func length(_ source: String, _ path: String) -> [Finding] {
        let lines = source.split(separator: "\n", omittingEmptySubsequences: false)
        // A final newline ends the last line and starts none.
        let count = lines.last?.isEmpty == true ? lines.count - 1 : lines.count
        guard count > Self.longFile else { return [] }
        let mark = "// Long file: "
        guard !lines.contains(where: { $0.hasPrefix(mark) && $0.count > mark.count }) else { return [] }
        let severity: Finding.Severity = count > Self.tooLongFile ? .error : .warning
        let limit = severity == .error ? Self.tooLongFile : Self.longFile
        return [
            Finding(
                path: path, line: 1, column: 1, severity: severity, rule: "file-length",
                message: "\(count) lines, more than \(limit): split it, or say why not in a line '// Long file: REASON'"
            )
        ]
    }
}
