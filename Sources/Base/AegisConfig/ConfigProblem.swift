package import AegisCore

/// A place in a text file, counted from 1 as editors do.
package struct SourceMark: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// The file's name as the user gave it.
    package let file: String
    /// The line, from 1.
    package let line: Int
    /// The column in characters, from 1.
    package let column: Int

    /// Makes a mark.
    package init(file: String, line: Int, column: Int) {
        self.file = file
        self.line = line
        self.column = column
    }

    package var description: String { "\(file):\(line):\(column)" }
    package static func < (a: SourceMark, b: SourceMark) -> Bool {
        (a.file, a.line, a.column) < (b.file, b.line, b.column)
    }
}

/// Where a value comes from.
package enum ConfigOrigin: Sendable, Hashable, CustomStringConvertible {
    /// A flag of the command line, as it is spelled: `--port`.
    case flag(String)
    /// An environment variable.
    case environment(String)
    /// A configuration file.
    case file(SourceMark)
    /// Nothing was said about it.
    case standard

    /// Whether it is a place in a file.
    package var isFile: Bool {
        if case .file = self { true } else { false }
    }

    package var description: String {
        switch self {
        case .flag(let name): name
        case .environment(let name): name
        case .file(let mark): mark.description
        case .standard: "default"
        }
    }
}

/// One thing that is wrong with a configuration.
package struct ConfigProblem: Sendable, Equatable, CustomStringConvertible {
    /// Where it was found.
    package let origin: ConfigOrigin
    /// What is wrong and what would be right.
    package let message: String

    /// `aegis-config.yaml:7:5: unknown key 'prot' in spec.network; did you mean 'port'?`
    package var description: String { origin == .standard ? message : "\(origin): \(message)" }
}

/// Everything that is wrong with a configuration, in the order of the file.
package struct ConfigErrors: Error, Sendable, Equatable, CustomStringConvertible {
    /// At least one.
    package let problems: [ConfigProblem]

    init(_ problems: [ConfigProblem]) {
        // Flags and variables first, then the file from top to bottom; equal marks keep their order.
        self.problems = problems.enumerated().sorted { a, b in
            switch (a.element.origin, b.element.origin) {
            case (.file(let first), .file(let second)): (first, a.offset) < (second, b.offset)
            case (.file, _): false
            case (_, .file): true
            default: a.offset < b.offset
            }
        }.map(\.element)
    }

    package var description: String { problems.map(\.description).joined(separator: "\n") }

    /// The same in the shape that users see: one problem a line.
    package var aegisError: AegisError { AegisError(.usage, "invalid-config", description) }
}
