/// What the shell offers for a word.
package enum Completion: Sendable, Equatable {
    case none, files, directories, instances, images, secrets, kits, groups, workspaces
    case words([String])
}

/// A flag or an option with a value.
package struct Option: Sendable {
    /// What follows the name.
    package enum Kind: Sendable, Equatable {
        case flag
        /// One value; the text is its name in the help.
        case value(String)
        /// A value each time it is given.
        case values(String)
        /// Stands alone for a value of its own, or takes another one after `=`.
        case word(String, alone: String)
    }
    /// The name without dashes.
    package var name: String
    /// The letter after a single dash.
    package var short: Character?
    package var kind: Kind
    package var help: String
    /// The heading in the help.
    package var section: String
    package var completion: Completion
    /// Understood, but not offered by the help.
    package var hidden: Bool

    /// Declares an option with a short form.
    package init(
        _ name: String, _ short: Character?, _ kind: Kind, _ help: String, section: String = "Options",
        completion: Completion = .none, hidden: Bool = false
    ) {
        self.name = name
        self.short = short
        self.kind = kind
        self.help = help
        self.section = section
        self.completion = completion
        self.hidden = hidden
    }

    /// Declares an option with a name only.
    package init(
        _ name: String, _ kind: Kind, _ help: String, section: String = "Options", completion: Completion = .none,
        hidden: Bool = false
    ) {
        self.init(name, nil, kind, help, section: section, completion: completion, hidden: hidden)
    }

    /// Whether it may be given several times.
    var isRepeated: Bool {
        if case .values = kind { true } else { false }
    }

    /// The name of the value, or nil for a flag.
    package var placeholder: String? {
        switch kind {
        case .flag: nil
        case .value(let name), .values(let name), .word(let name, _): name
        }
    }
}

/// A word that a command takes by its place.
package struct Argument: Sendable {
    /// How often it may stand.
    package enum Count: Sendable, Equatable { case one, optional, many }
    package var name: String
    package var count: Count
    package var completion: Completion
    /// Declares an argument.
    package init(_ name: String, _ count: Count = .one, completion: Completion = .none) {
        self.name = name
        self.count = count
        self.completion = completion
    }
    /// `NAME`, `[NAME]` or `NAME...`
    package var usage: String {
        switch count {
        case .one: name
        case .optional: "[\(name)]"
        case .many: "\(name)..."
        }
    }
}

/// A line to try, and what it does.
package struct Example: Sendable {
    package var note: String
    package var line: String
    /// Declares an example.
    package init(_ note: String, _ line: String) {
        self.note = note
        self.line = line
    }
}

/// A verb of the CLI as a value: the help, the completion and docs/cli.md are made from the same one.
package struct Command: Sendable {
    /// Whether the words after the options are a command for the sandbox.
    package enum Trailing: Sendable, Equatable { case none, optional, required }
    /// `["instance", "start"]`
    package var path: [String]
    package var summary: String
    /// More than the summary, in lines as they are printed.
    package var details: String
    package var arguments: [Argument]
    package var options: [Option]
    package var trailing: Trailing
    package var examples: [Example]
    package var hidden: Bool
    /// Whether failures of Aegis itself end with 125, as those of `run` and `exec` (decision D35).
    package var mirrorsExitCode: Bool
    package var run: @Sendable (Invocation, Context) async throws -> Int32

    /// Declares a command.
    package init(
        _ path: String, _ summary: String, details: String = "", arguments: [Argument] = [], options: [Option] = [],
        trailing: Trailing = .none, examples: [Example] = [], hidden: Bool = false, mirrorsExitCode: Bool = false,
        run: @escaping @Sendable (Invocation, Context) async throws -> Int32
    ) {
        self.path = path.split(separator: " ").map(String.init)
        self.summary = summary
        self.details = details
        self.arguments = arguments
        self.options = options
        self.trailing = trailing
        self.examples = examples
        self.hidden = hidden
        self.mirrorsExitCode = mirrorsExitCode
        self.run = run
    }

    /// `aegis instance start`
    package var title: String { "aegis " + path.joined(separator: " ") }

    /// The line after `Usage:`.
    package var usage: String {
        var words = [title]
        if options.contains(where: { !$0.hidden }) { words.append("[options]") }
        words += arguments.map(\.usage)
        switch trailing {
        case .none: break
        case .optional: words.append("[-- CMD...]")
        case .required: words.append("-- CMD...")
        }
        return words.joined(separator: " ")
    }

    /// Its own options and those of every command.
    package var allOptions: [Option] { options + Self.global }

    /// Options that every command takes.
    package static let global: [Option] = [
        Option(
            "output", "o", .value("FORMAT"), "text, json or yaml; json and yaml are the API's own objects",
            section: "Everywhere", completion: .words(OutputFormat.allCases.map(\.rawValue))),
        Option("quiet", "q", .flag, "print only what was asked for: ids, or nothing", section: "Everywhere"),
        Option("help", "h", .flag, "this page", section: "Everywhere"),
    ]
}

/// How results are printed.
package enum OutputFormat: String, Sendable, CaseIterable { case text, json, yaml }

/// What the caller asked for, by the names of the command's declaration.
package struct Invocation: Sendable, Equatable {
    package var path: [String] = []
    package var flags: Set<String> = []
    package var values: [String: [String]] = [:]
    package var arguments: [String] = []
    /// The words for the sandbox; empty when there were none.
    package var trailing: [String] = []
    package var output = OutputFormat.text

    /// Makes an empty one.
    package init() {}

    /// Whether a flag was given.
    package func has(_ flag: String) -> Bool { flags.contains(flag) }
    /// The value of an option.
    package subscript(_ name: String) -> String? { values[name]?.last }
    /// All values of a repeated option, in the order given.
    package func all(_ name: String) -> [String] { values[name] ?? [] }
    /// Whether only results are wanted.
    package var quiet: Bool { has("quiet") }
}
