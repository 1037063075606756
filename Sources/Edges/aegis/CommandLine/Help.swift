/// Pages of help, as text.
package struct Help: Sendable {
    private let table: CommandTable
    /// Makes the help of a table.
    package init(_ table: CommandTable) { self.table = table }

    /// The page of a command, a group, or of everything when the path is empty.
    package func page(_ path: [String]) -> String {
        if let command = table.command(path) {
            guard table.isGroup(path) else { return page(of: command) }
            let verbs = table.members(of: path).map {
                line($0.path.dropFirst(path.count).joined(separator: " "), $0.summary)
            }
            return page(of: command) + "\nCommands:\n" + verbs.joined()
        }
        return path.isEmpty ? overview : group(path)
    }

    private static let width = 26

    private func line(_ left: String, _ right: String) -> String {
        let pad = String(repeating: " ", count: max(2, Self.width - left.count))
        return left.count > Self.width - 2
            ? "  \(left)\n  \(String(repeating: " ", count: Self.width))\(right)\n" : "  \(left)\(pad)\(right)\n"
    }

    private var overview: String {
        var text = "aegis - run real work in a real sandbox\n\nUsage:\n  aegis COMMAND [options]\n"
        for section in table.sections where section.commands.contains(where: { !$0.hidden }) {
            text += "\n\(section.title):\n"
            var seen: [String] = []
            for command in section.commands where !command.hidden && !seen.contains(command.path[0]) {
                seen.append(command.path[0])
                text += line(
                    command.path[0], command.path.count == 1 ? command.summary : table.groups[command.path[0]] ?? "")
            }
        }
        text += """

            Examples:
              aegis up
              aegis run --workspace . -- python analyze.py
              aegis exec -it web -- sh

            'aegis COMMAND --help' tells more, with examples.

            """
        return text
    }

    private func group(_ path: [String]) -> String {
        let name = path.joined(separator: " ")
        var text =
            "aegis \(name) - \(table.groups[path[0]] ?? "")\n\nUsage:\n  aegis \(name) COMMAND [options]\n\nCommands:\n"
        let members = table.members(of: path)
        for command in members {
            text += line(command.path.dropFirst(path.count).joined(separator: " "), command.summary)
        }
        let examples = members.compactMap(\.examples.first)
        if !examples.isEmpty { text += "\nExamples:\n" + examples.map { "  \($0.line)\n" }.joined() }
        return text + "\n'aegis \(name) COMMAND --help' tells more.\n"
    }

    private func page(of command: Command) -> String {
        var text = "\(command.title) - \(command.summary)\n\nUsage:\n  \(command.usage)\n"
        if !command.details.isEmpty { text += "\n\(command.details)\n" }
        var sections: [String] = []
        for option in command.allOptions where !option.hidden && !sections.contains(option.section) {
            sections.append(option.section)
        }
        for section in sections {
            text += "\n\(section):\n"
            for option in command.allOptions where option.section == section && !option.hidden {
                text += line(Self.spelling(option), option.help + Self.repeatable(option))
            }
        }
        if !command.examples.isEmpty {
            text += "\nExamples:\n"
            for example in command.examples { text += "  # \(example.note)\n  \(example.line)\n" }
        }
        return text
    }

    /// `-e, --env K=V`
    static func spelling(_ option: Option) -> String {
        let name = (option.short.map { "-\($0), " } ?? "    ") + "--\(option.name)"
        if case .word(let other, _) = option.kind { return "\(name)[=\(other)]" }
        return name + (option.placeholder.map { " \($0)" } ?? "")
    }

    /// What is said of an option that may be given more than once.
    static func repeatable(_ option: Option) -> String {
        if case .values = option.kind { return " (repeatable)" }
        return ""
    }
}
