/// docs/cli.md, made from the table so that it cannot differ from what the program does.
package struct ReferencePage: Sendable {
    private let table: CommandTable
    /// Makes the page of a table.
    package init(_ table: CommandTable) { self.table = table }

    /// The page in Markdown.
    package var markdown: String {
        var text = """
            # The command line

            Made from the program's own table by `aegis completion markdown`; do not edit it by hand.

            Exit codes: 0 done, 1 failed, 2 usage, 3 the daemon is not running, 4 not found, 5 conflict, 6 denied. `run`,
            `exec` and `attach` end with the command's own code (128+n when it was ended by signal n), 124 after
            `--timeout`, 126 when the command is not executable, 127 when it was not found, and 125 when Aegis itself failed;
            the stable code of the error stands on stderr. For these three, 2 means that nothing was made: the words are wrong
            (an unknown option, a value of another form), or what the client itself needs is not there (a variable for
            `--env NAME`, a terminal for `-it`, a folder for artifacts). Words that are right, but name what is not there, is
            of another kind or may not be used (a workspace, a mount, a secret, an image, a backend) end with 125, as
            everything does that the daemon finds out.


            """
        for section in table.sections where section.commands.contains(where: { !$0.hidden }) {
            text += "## \(section.title)\n\n| command | |\n|---|---|\n"
            for command in section.commands where !command.hidden {
                text +=
                    "| [`\(Self.cell(command.usage))`](#\(Self.anchor(command))) | \(Self.cell(command.summary)) |\n"
            }
            text += "\n"
        }
        for command in table.visible { text += entry(command) }
        return text
    }

    private func entry(_ command: Command) -> String {
        var text = "## \(command.title)\n\n\(command.summary.prefix(1).uppercased())\(command.summary.dropFirst()).\n\n"
        text += "```\n\(command.usage)\n```\n\n"
        if !command.details.isEmpty { text += "\(command.details)\n\n" }
        let options = command.options.filter { !$0.hidden }
        if !options.isEmpty {
            text += "| option | |\n|---|---|\n"
            for option in options {
                let spelling = Help.spelling(option).drop { $0 == " " }
                text += "| `\(Self.cell(String(spelling)))` | \(Self.cell(option.help + Help.repeatable(option))) |\n"
            }
            text += "\n"
        }
        if !command.examples.isEmpty {
            text += "```sh\n" + command.examples.map { "# \($0.note)\n\($0.line)\n" }.joined() + "```\n\n"
        }
        return text
    }

    private static func cell(_ text: String) -> String {
        text.split(separator: "|", omittingEmptySubsequences: false).joined(separator: "\\|")
    }
    private static func anchor(_ command: Command) -> String { "aegis-" + command.path.joined(separator: "-") }
}
