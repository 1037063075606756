/// The daemon's own log: a level, a constant message and data beside it.
package struct Logger: Sendable {
    /// How much a record matters.
    package enum Level: Int, Sendable, Comparable, CaseIterable {
        case debug, info, warning, error
        package static func < (a: Level, b: Level) -> Bool { a.rawValue < b.rawValue }
    }
    /// One record, as a handler gets it.
    package struct Record: Sendable {
        package var time: Timestamp
        package var level: Level
        package var message: String
        package var fields: [(String, String)]
    }

    private let minimum: Level
    private let fields: [(String, String)]
    private let sink: @Sendable (Record) -> Void

    /// Makes a logger that hands records of at least `minimum` to `sink`.
    package init(minimum: Level = .info, sink: @escaping @Sendable (Record) -> Void) {
        self.init(minimum: minimum, fields: [], sink: sink)
    }
    private init(minimum: Level, fields: [(String, String)], sink: @escaping @Sendable (Record) -> Void) {
        self.minimum = minimum
        self.fields = fields
        self.sink = sink
    }

    /// A logger that drops everything.
    package static let none = Logger(minimum: .error) { _ in }

    /// The same logger with a field on every record.
    package func with(_ key: String, _ value: String) -> Logger {
        Logger(minimum: minimum, fields: fields + [(key, value)], sink: sink)
    }
    /// Writes one record.
    package func log(_ level: Level, _ message: String, _ more: [(String, String)] = []) {
        guard level >= minimum else { return }
        sink(Record(time: .now(), level: level, message: message, fields: fields + more))
    }
    /// Writes a debug record.
    package func debug(_ message: String, _ more: (String, String)...) { log(.debug, message, more) }
    /// Writes an info record.
    package func info(_ message: String, _ more: (String, String)...) { log(.info, message, more) }
    /// Writes a warning.
    package func warning(_ message: String, _ more: (String, String)...) { log(.warning, message, more) }
    /// Writes an error.
    package func error(_ message: String, _ more: (String, String)...) { log(.error, message, more) }
}

extension Logger.Record: CustomStringConvertible {
    /// One line: time, level, message, `key=value` pairs; control characters in values are escaped.
    package var description: String {
        var line = "\(time) \(level) \(message)"
        for (key, value) in fields {
            var plain = true
            var escaped = ""
            for scalar in value.unicodeScalars {
                if scalar.value < 0x20 || scalar.value == 0x7f || scalar == "\"" || scalar == "\\" || scalar == " " {
                    plain = false
                }
                escaped +=
                    scalar.value < 0x20 || scalar.value == 0x7f || scalar == "\"" || scalar == "\\"
                    ? scalar.escaped(asASCII: false) : String(scalar)
            }
            line += plain && !value.isEmpty ? " \(key)=\(value)" : " \(key)=\"\(escaped)\""
        }
        return line
    }
}
