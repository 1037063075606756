internal import AegisClient
internal import AegisCore
internal import AegisJSON

/// `aegis completion`, and the hidden command that its scripts ask.
enum CompletionCommand {
    static let command = Command(
        "completion", "print a script that completes command lines in your shell",
        arguments: [Argument("SHELL", completion: .words(CompletionScripts.shells))],
        examples: [
            Example("in ~/.bashrc", "source <(aegis completion bash)"),
            Example("in ~/.zshrc", "source <(aegis completion zsh)"),
            Example("in ~/.config/fish/config.fish", "aegis completion fish | source"),
        ]
    ) { invocation, context in
        let shell = invocation.arguments[0]
        if shell == "markdown" {
            try await context.console.print(ReferencePage(Commands.table).markdown)
            return 0
        }
        guard let script = CompletionScripts.script(shell) else {
            throw AegisError.usage(
                "there is no completion for '\(shell)'",
                hint: nearest(shell, in: CompletionScripts.shells).map { "did you mean '\($0)'?" }
                    ?? "use one of: \(CompletionScripts.shells.joined(separator: ", "))")
        }
        try await context.console.print(script)
        return 0
    }

    static let answer = Command(
        "__complete", "answer a shell's question", trailing: .optional, hidden: true
    ) { invocation, context in
        let words = invocation.trailing
        let offered: [String]
        switch Completer(Commands.table).offer(words) {
        case .words(let words): offered = words
        case .files: offered = [":files"]
        case .directories: offered = [":directories"]
        case .instances: offered = await names(context, "instances") { $0["name"]?.text ?? $0["id"]?.text }
        case .images: offered = await names(context, "images") { $0["reference"]?.text }
        case .secrets: offered = await names(context, "secrets") { $0["name"]?.text }
        case .kits: offered = await names(context, "kits") { $0["name"]?.text }
        case .groups: offered = await names(context, "groups") { $0["name"]?.text }
        case .workspaces: offered = await names(context, "workspaces") { $0["name"]?.text }
        }
        try await context.console.print(offered.map { $0 + "\n" }.joined())
        return 0
    }

    /// Without a daemon there is nothing to offer, and a shell is no place for an error.
    private static func names(_ context: Context, _ list: String, _ name: (JSONValue) -> String?) async -> [String] {
        guard let client = try? await context.client(), let items = try? await client.list(APIClient.Route(list)) else {
            return []
        }
        return items.compactMap(name)
    }
}
