internal import AegisCore

/// What a shell may offer at a place of a command line. The shells' scripts ask the program itself, so that they never
/// know less than it does.
package struct Completer: Sendable {
    private let table: CommandTable
    /// Makes a completer for a table.
    package init(_ table: CommandTable) { self.table = table }

    /// What fits at the last word.
    package enum Offer: Sendable, Equatable {
        case words([String])
        /// The shell's own offer of files or folders.
        case files, directories
        /// Names that only the daemon knows.
        case instances, images, secrets, kits, groups, workspaces
    }

    /// Decides by the words after `aegis`; the last one is the one being written, perhaps empty.
    package func offer(_ words: [String]) -> Offer {
        let current = words.last ?? ""
        var before = words.dropLast()
        var path: [String] = []
        while let word = before.first, table.command(path) == nil || table.command(path + [word]) != nil {
            if word.hasPrefix("-") { break }
            guard table.isGroup(path + [word]) || table.command(path + [word]) != nil else { return .words([]) }
            path.append(word)
            before = before.dropFirst()
        }
        guard let command = table.command(path) else {
            return current.hasPrefix("-")
                ? options(Command.global, current) : .words(nextWords(path).filter { $0.hasPrefix(current) })
        }
        if before.isEmpty, table.isGroup(path), !current.hasPrefix("-") {
            return .words(nextWords(path).filter { $0.hasPrefix(current) })
        }
        return offer(command, Array(before), current)
    }

    private func offer(_ command: Command, _ before: [String], _ current: String) -> Offer {
        var places = 0
        var pending: Option?
        for word in before {
            if pending != nil {
                pending = nil
            } else if word == "--" {
                return .files
            } else if word.hasPrefix("-"), word != "-" {
                pending = valueOption(word, command)
            } else {
                places += 1
            }
        }
        if let pending { return values(pending.completion, current) }
        if current.hasPrefix("-") { return options(command.allOptions, current) }
        if let last = command.arguments.last, places >= command.arguments.count {
            if last.count == .many { return values(last.completion, current) }
            return command.trailing == .none ? .words([]) : .files
        }
        guard places < command.arguments.count else { return command.trailing == .none ? .words([]) : .files }
        return values(command.arguments[places].completion, current)
    }

    /// The option that a word begins and whose value is still to come.
    private func valueOption(_ word: String, _ command: Command) -> Option? {
        guard !word.contains("=") else { return nil }
        let option =
            word.hasPrefix("--")
            ? command.allOptions.first { "--\($0.name)" == word }
            : command.allOptions.first { $0.short == word.last }
        if case .word? = option?.kind { return nil }
        return option?.placeholder == nil ? nil : option
    }

    private func values(_ completion: Completion, _ current: String) -> Offer {
        switch completion {
        case .none: .words([])
        case .files: .files
        case .directories: .directories
        case .instances: .instances
        case .images: .images
        case .secrets: .secrets
        case .kits: .kits
        case .groups: .groups
        case .workspaces: .workspaces
        case .words(let words): .words(words.filter { $0.hasPrefix(current) })
        }
    }

    private func options(_ options: [Option], _ current: String) -> Offer {
        .words(options.filter { !$0.hidden }.map { "--\($0.name)" }.filter { $0.hasPrefix(current) })
    }

    private func nextWords(_ path: [String]) -> [String] {
        var words: [String] = []
        for command in table.members(of: path) where !words.contains(command.path[path.count]) {
            words.append(command.path[path.count])
        }
        return words
    }
}
