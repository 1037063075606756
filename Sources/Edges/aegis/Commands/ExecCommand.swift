internal import AegisClient
internal import AegisCore
internal import AegisIO
internal import AegisJSON
internal import AegisSandboxTypes
internal import AegisWire

/// `aegis exec`
enum ExecCommand {
    static let command = Command(
        "exec", "run a command in a running instance",
        details: """
            A paused instance is resumed; a stopped one is started only with --start, because its own command then runs again.
            Ctrl-C reaches the command; a second one leaves it.
            """,
        arguments: [Argument("X", completion: .instances)],
        options: [
            Option("interactive", "i", .flag, "hand standard input on"),
            Option("tty", "t", .flag, "give the command a terminal"),
            Option("env", "e", .values("K=V"), "a variable; K alone takes the caller's"),
            Option("workdir", "w", .value("DIR"), "where the command starts"),
            Option("user", "u", .value("USER"), "who runs it: a name or uid[:gid]"),
            Option("start", .flag, "start the instance first if it is stopped"),
        ], trailing: .required,
        examples: [
            Example("one command", "aegis exec web -- ls -l /workspace"),
            Example("a shell", "aegis exec -it web -- sh"),
            Example("piped input", "aegis exec -i db -- psql < dump.sql"),
        ], mirrorsExitCode: true, run: run)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        var request = ExecRequest(command: invocation.trailing)
        request.env = try SandboxOptions.environment(invocation.all("env"), context.caller)
        request.workdir = invocation["workdir"]
        request.user = invocation["user"]
        if invocation.has("start") { request.start = true }
        let tty = invocation.has("tty")
        let interactive = invocation.has("interactive")
        try RunCommand.checkTerminal(tty: tty, interactive: interactive, context)
        if interactive { request.stdin = true }
        if tty {
            request.tty = true
            let size = Terminal.ofThisProcess
            request.columns = size?.columns
            request.rows = size?.rows
        }
        let body = try JSONValue(encoding: request)
        let instance = invocation.arguments[0]
        let client = try await context.client()
        let streams = ProcessSession.Streams(
            input: interactive ? try context.console.input() : nil, out: try context.console.out(),
            err: try context.console.err())
        let runner = StreamRunner(
            context, quiet: invocation.quiet, tty: tty, input: interactive, interruption: .forwards)
        let asked = AskedOnce()
        do {
            let exit = try await runner.run { listener in
                ProcessSession(streams, clock: context.loop.clock, listener: listener) { _, _ in
                    // The daemon hangs up on a command whose client has gone: there is nothing to come back to.
                    try asked.ask()
                    return try await client.upgrade(APIClient.Route("instances", instance, "exec"), body: body)
                }
            }
            let (code, message) = Outcome.of(exit)
            if let message { await context.console.say(ErrorText.text(message, .text)) }
            return code
        } catch is OutputClosed { throw ReaderGone() }
    }
}
