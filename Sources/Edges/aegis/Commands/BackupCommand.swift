internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisSandboxTypes

/// `aegis backup`
enum BackupCommand {
    static let command = Command(
        "backup", "write the daemon's records, secrets, ledger and configuration to a file, sealed to a passphrase",
        details: """
            The daemon may run on meanwhile. Not in the file: images, writable layers, logs, and the files of workspaces.
            """,
        arguments: [Argument("FILE", completion: .files)],
        options: [
            Passphrase.option,
            Option(
                "config", .value("FILE"), "the configuration file to save instead of the one in use", completion: .files
            ),
        ],
        examples: [
            Example("asked for a passphrase", "aegis backup aegis.backup"),
            Example("by a timer", "aegis backup --passphrase-file /root/passphrase /backup/aegis.backup"),
        ], run: run)

    /// How long it may take: most of it is the disk's.
    static let patience = Duration.seconds(3600)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        let file = context.caller.absolute(invocation.arguments[0])
        // Before anybody types anything.
        guard context.caller.fileType(file) == nil else {
            throw AegisError.conflict("file-exists", "\(file) exists already", hint: "name a file that does not exist")
        }
        let (arguments, dropped) = try await configuration(invocation, context)
        let passphrase = try await Passphrase.read(invocation, context, isNew: true)
        let answer = try await DaemonProgram.ask(
            ["--backup", file] + arguments, input: passphrase, dropping: dropped, deadline: patience, context)
        try await context.show(answer, invocation) {
            invocation.quiet ? "" : ServiceText.backup(try answer.decoded(BackupReport.self), isRestored: false)
        }
        return 0
    }

    /// Which file is the configuration: the one that was named, else that of the daemon which runs, else as at a start.
    private static func configuration(
        _ invocation: Invocation, _ context: Context
    ) async throws(AegisError) -> ([String], dropped: [String]) {
        if let named = invocation["config"] { return (["--config", named], []) }
        var location = context.location
        location.candidates = [location.socket]
        let status: JSONValue?
        do throws(AegisError) { status = try await UpCommand.running(location, context) } catch {
            // A socket that is not ours: the home's files will say so, too.
            status = nil
        }
        guard let status else { return ([], []) }
        return (status["configuration"]?.text.map { ["--config", $0] } ?? [], ["AEGIS_CONFIG"])
    }
}
