/// One place that breaks a house rule.
package struct Finding: Equatable, Comparable, CustomStringConvertible, Sendable {
    /// Whether it fails the run.
    package enum Severity: String, Sendable { case warning, error }

    package let path: String
    package let line: Int
    package let column: Int
    package let severity: Severity
    /// The rule's name, as its test and the documentation call it.
    package let rule: String
    package let message: String

    /// In the form that editors and CI understand.
    package var description: String { "\(path):\(line):\(column): \(severity.rawValue): \(message) [\(rule)]" }

    package static func < (a: Finding, b: Finding) -> Bool {
        (a.path, a.line, a.column, a.rule) < (b.path, b.line, b.column, b.rule)
    }
}
