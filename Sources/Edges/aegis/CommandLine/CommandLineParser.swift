package import AegisCore

/// Reads the words of a command line by a table of commands. Pure: it neither reads files nor prints.
package struct CommandLineParser: Sendable {
    /// What the words ask for.
    package enum Parsed: Sendable {
        case run(Command, Invocation)
        /// The help of a command, of a group (its word), or of everything.
        case help([String])
        case version
    }

    private let table: CommandTable
    /// Makes a parser for a table.
    package init(_ table: CommandTable) { self.table = table }

    /// Reads the words after the program's name.
    ///
    /// - Throws: `unknown-command`, `unknown-option`, `missing-command` or `invalid-argument`, each with a hint.
    package func parse(_ words: [String]) throws(AegisError) -> Parsed {
        var reader = WordReader(words: words)
        var invocation = Invocation()
        var path: [String] = []
        var command: Command?
        while command == nil, let word = reader.next() {
            if word == "help", path.isEmpty { return try help(reader.rest) }
            if word == "--version" || word == "-V", path.isEmpty { return .version }
            if word.hasPrefix("-"), word != "-" {
                if try take(word, &reader, Command.global, of: "aegis", &invocation) { return .help(path) }
                continue
            }
            path.append(word)
            command = table.command(path)
            // A command that takes a text may have verbs, too: `aegis goal list` is one of them.
            if command != nil, let verb = reader.rest.first, table.command(path + [verb]) != nil { command = nil }
            if command == nil, !table.isGroup(path) { throw table.unknown(path) }
        }
        guard let command else {
            guard !path.isEmpty else { return .help([]) }
            throw table.incomplete(path)
        }
        invocation.path = command.path
        if try arguments(of: command, &reader, &invocation) { return .help(command.path) }
        try check(command, invocation)
        return .run(command, invocation)
    }

    private func help(_ words: [String]) throws(AegisError) -> Parsed {
        let path = words.filter { !$0.hasPrefix("-") }
        guard path.isEmpty || table.command(path) != nil || table.isGroup(path) else { throw table.unknown(path) }
        return .help(path)
    }

    /// Options, arguments and the words for the sandbox; true when help was asked for.
    private func arguments(
        of command: Command, _ reader: inout WordReader, _ invocation: inout Invocation
    ) throws(AegisError) -> Bool {
        let places = command.arguments.contains { $0.count == .many } ? Int.max : command.arguments.count
        while let word = reader.next() {
            if word == "--" {
                let rest = reader.rest
                if command.trailing == .none {
                    invocation.arguments += rest
                } else {
                    invocation.trailing = rest
                }
                return false
            }
            if word.hasPrefix("-"), word != "-" {
                if try take(word, &reader, command.allOptions, of: command.title, &invocation) { return true }
                continue
            }
            if invocation.arguments.count >= places, command.trailing != .none {
                invocation.trailing = try bareCommand([word] + reader.rest, command)
                return false
            }
            invocation.arguments.append(word)
        }
        return false
    }

    /// A command without `--` in front of it; with one inside it cannot be told what was meant.
    private func bareCommand(_ words: [String], _ command: Command) throws(AegisError) -> [String] {
        guard let dashes = words.firstIndex(of: "--") else { return words }
        let before = words[..<dashes].joined(separator: " ")
        throw AegisError(
            .usage, "ambiguous-command", "'\(before)' stands before '--', where only options of \(command.title) may",
            hint: command.options.contains { $0.name == "image" }
                ? "an image is named with --image; to hand '--' on, begin with it: \(command.title) -- \(before) -- ..."
                : "begin the command with '--': \(command.title) \(command.arguments.map(\.usage).joined(separator: " "))"
                    + " -- \(before) -- ...")
    }

    private func check(_ command: Command, _ invocation: Invocation) throws(AegisError) {
        let needed = command.arguments.filter { $0.count != .optional }
        let given = invocation.arguments.count
        if given < needed.count {
            throw .usage(
                "\(command.title) needs \(needed[given].name)", hint: "usage: \(command.usage)")
        }
        if !command.arguments.contains(where: { $0.count == .many }), given > command.arguments.count {
            throw .usage(
                "unexpected argument '\(invocation.arguments[command.arguments.count])' for \(command.title)",
                hint: Habits.arguments(of: command.path) ?? "usage: \(command.usage)")
        }
        for (index, value) in invocation.arguments.enumerated() {
            guard let argument = command.arguments.dropFirst(index).first ?? command.arguments.last else { continue }
            try check(value, argument, command)
        }
        if command.trailing == .required, invocation.trailing.isEmpty {
            throw AegisError(
                .usage, "missing-command", "no command was given",
                hint: "write it after '--', for example: \(command.examples.first?.line ?? command.usage)")
        }
    }

    /// An empty word is a variable of the caller's that is not set; the only one that may be is a value.
    private func check(_ value: String, _ argument: Argument, _ command: Command) throws(AegisError) {
        let isValue = argument.count == .optional && argument.completion == .none
        guard !value.isEmpty || isValue else {
            throw .usage(
                "\(argument.name) is empty", hint: "is a variable not set? usage: \(command.usage)")
        }
        let named: [Completion] = [.instances, .images, .secrets, .kits, .groups, .workspaces]
        guard named.contains(argument.completion), value == "." || value == ".." else { return }
        throw .usage("'\(value)' is a folder's name, and cannot be \(argument.name)", hint: "usage: \(command.usage)")
    }
}

/// The words not read yet.
struct WordReader {
    private var words: ArraySlice<String>
    init(words: [String]) { self.words = words[...] }
    mutating func next() -> String? { words.popFirst() }
    var peek: String? { words.first }
    var rest: [String] { Array(words) }
}

extension CommandLineParser {
    /// Reads one word of options with the value that belongs to it; true when it asks for help.
    private func take(
        _ word: String, _ reader: inout WordReader, _ known: [Option], of title: String, _ invocation: inout Invocation
    ) throws(AegisError) -> Bool {
        if word.hasPrefix("--") {
            let parts = word.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(parts[0])
            guard let option = known.first(where: { $0.name == name }) else {
                let error = unknownOption("--\(name)", known, title)
                // Others may have a value behind them.
                throw ["rm", "privileged"].contains(name) ? imageHint(reader, known, error) : error
            }
            let value = parts.count == 2 ? String(parts[1]) : nil
            return try apply(option, "--\(name)", value, &reader, known, &invocation)
        }
        // Letters may stand together (`-it`); the last may take a value, joined (`-eK=V`) or as the next word.
        var letters = Substring(word.dropFirst())
        while let letter = letters.popFirst() {
            guard let option = known.first(where: { $0.short == letter }) else {
                throw unknownOption("-\(letter)", known, title, word)
            }
            var value: String?
            if option.placeholder != nil, !letters.isEmpty {
                value = String(letters.first == "=" ? letters.dropFirst() : letters)
                letters = ""
            }
            if try apply(option, "-\(letter)", value, &reader, known, &invocation) { return true }
        }
        return false
    }

    /// `run --rm ubuntu`: the option is not the only mistake.
    private func imageHint(_ reader: WordReader, _ known: [Option], _ error: AegisError) -> AegisError {
        let rest = reader.rest.prefix { $0 != "--" }.drop { $0.hasPrefix("-") }
        guard known.contains(where: { $0.name == "image" }), let word = rest.first, ImageWord.isLikely(word) else {
            return error
        }
        let hint = [error.hint, ImageWord.hint(Array(rest))].compactMap(\.self).joined(separator: "; ")
        return AegisError(error.kind, error.code, error.message, hint: hint)
    }

    private func apply(
        _ option: Option, _ spelling: String, _ value: String?, _ reader: inout WordReader, _ known: [Option],
        _ invocation: inout Invocation
    ) throws(AegisError) -> Bool {
        guard let placeholder = option.placeholder else {
            guard value == nil else {
                throw .usage("option '\(spelling)' takes no value", hint: "write \(spelling) alone")
            }
            invocation.flags.insert(option.name)
            return option.name == "help"
        }
        var value = value
        if value == nil, case .word(_, let alone) = option.kind { value = alone }
        if value == nil, let next = reader.peek, next != "--", !looksLikeOption(next, known) { value = reader.next() }
        guard let value else {
            throw .usage("option '\(spelling)' needs a value", hint: "write \(spelling) \(placeholder)")
        }
        if !option.isRepeated, invocation.values[option.name] != nil {
            throw .usage("option '--\(option.name)' was given twice", hint: "give it once")
        }
        invocation.values[option.name, default: []].append(value)
        if option.name == "output" {
            guard let format = OutputFormat(rawValue: value) else {
                let known = OutputFormat.allCases.map(\.rawValue)
                throw .usage(
                    "'\(value)' is not an output format",
                    hint: nearest(value, in: known).map { "did you mean '\($0)'?" } ?? "use text, json or yaml")
            }
            invocation.output = format
        }
        return false
    }

    /// Whether a word where a value should stand is an option that the caller surely meant as one.
    private func looksLikeOption(_ word: String, _ known: [Option]) -> Bool {
        guard word.hasPrefix("--") else { return false }
        let name = word.dropFirst(2).prefix { $0 != "=" }
        return known.contains { $0.name == name }
    }

    private func unknownOption(
        _ spelling: String, _ known: [Option], _ title: String, _ word: String? = nil
    ) -> AegisError {
        let inside = word.flatMap { $0.dropFirst(2).isEmpty ? nil : " in '\($0)'" } ?? ""
        let visible = known.filter { !$0.hidden }
        var hint: String?
        if let habit = Habits.options[spelling],
            visible.contains(where: { $0.name == habit.name }) || habit.name.isEmpty
        {
            hint = habit.hint
        } else if let near = nearest(String(spelling.drop { $0 == "-" }), in: visible.map(\.name)) {
            hint = "did you mean '--\(near)'?"
        }
        return AegisError(
            .usage, "unknown-option", "unknown option '\(spelling)'\(inside) for \(title)",
            hint: hint ?? "see '\(title) --help'")
    }
}
