internal import AegisClient
internal import AegisSandboxTypes

/// `aegis restore`
enum RestoreCommand {
    static let command = Command(
        "restore", "bring back what 'aegis backup' wrote, into a home that no daemon uses",
        details: """
            Everything is brought back or nothing. Afterwards 'aegis up' shows all instances, stopped.
            """,
        arguments: [Argument("FILE", completion: .files)],
        options: [
            Passphrase.option,
            Option("force", .flag, "put aside what the home holds: it is moved to a folder in it, not deleted"),
        ],
        examples: [
            Example("on a new machine", "aegis restore aegis.backup && aegis up"),
            Example("in place of what is there", "aegis down && aegis restore --force aegis.backup && aegis up"),
        ]
    ) { invocation, context in
        let file = context.caller.absolute(invocation.arguments[0])
        let passphrase = try await Passphrase.read(invocation, context, isNew: false)
        let answer = try await DaemonProgram.ask(
            ["--restore", file] + (invocation.has("force") ? ["--force"] : []), input: passphrase,
            deadline: BackupCommand.patience, context)
        try await context.show(answer, invocation) {
            invocation.quiet ? "" : ServiceText.backup(try answer.decoded(BackupReport.self), isRestored: true)
        }
        return 0
    }
}
