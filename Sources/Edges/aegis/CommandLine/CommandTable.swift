internal import AegisCore

/// All commands, in the order of the help.
package struct CommandTable: Sendable {
    /// A heading of the help, with its commands.
    package struct Section: Sendable {
        package var title: String
        package var commands: [Command]
        /// Declares a section.
        package init(_ title: String, _ commands: [Command]) {
            self.title = title
            self.commands = commands
        }
    }
    package var sections: [Section]
    /// One line for each group of commands, by its word.
    package var groups: [String: String]

    /// Makes a table.
    package init(_ sections: [Section], groups: [String: String]) {
        self.sections = sections
        self.groups = groups
    }

    /// Every command, the hidden ones too.
    package var commands: [Command] { sections.flatMap(\.commands) }
    /// The commands that the help offers.
    package var visible: [Command] { commands.filter { !$0.hidden } }

    /// The command with exactly that path.
    package func command(_ path: [String]) -> Command? { commands.first { $0.path == path } }

    /// Whether more words make a command of it.
    package func isGroup(_ path: [String]) -> Bool {
        commands.contains { $0.path.count > path.count && Array($0.path.prefix(path.count)) == path }
    }

    /// The visible commands under a group's word.
    package func members(of path: [String]) -> [Command] {
        visible.filter { $0.path.count > path.count && Array($0.path.prefix(path.count)) == path }
    }

    /// The error for a word that is no command, naming the nearest.
    func unknown(_ path: [String]) -> AegisError {
        let parent = Array(path.dropLast())
        let word = path.last ?? ""
        var words: [String] = []
        for command in members(of: parent) where !words.contains(command.path[parent.count]) {
            words.append(command.path[parent.count])
        }
        let hint =
            Habits.command(parent, word, known: words) ?? elsewhere(parent, word)
            ?? nearest(word, in: words).map { near in
                "did you mean '\((["aegis"] + parent + [near]).joined(separator: " "))'?"
            }
        return AegisError(
            .usage, "unknown-command", "'\((["aegis"] + path).joined(separator: " "))' is not a command",
            hint: hint ?? "see '\((["aegis"] + parent).joined(separator: " ")) --help'")
    }

    /// The same word in another place: `aegis start` without the group, `aegis instance logs` with one too many.
    private func elsewhere(_ parent: [String], _ word: String) -> String? {
        let titles =
            parent.isEmpty
            ? visible.filter { $0.path.count == 2 && $0.path[1] == word }.map(\.title)
            : visible.filter { $0.path == [word] }.map(\.title)
        return titles.isEmpty ? nil : "did you mean '\(titles.joined(separator: "' or '"))'?"
    }

    /// The error for a group's word alone.
    func incomplete(_ path: [String]) -> AegisError {
        let words = members(of: path).map { $0.path[path.count] }
        return AegisError(
            .usage, "missing-command",
            "'aegis \(path.joined(separator: " "))' needs one of: \(words.joined(separator: ", "))",
            hint: "see 'aegis \(path.joined(separator: " ")) --help'")
    }
}
