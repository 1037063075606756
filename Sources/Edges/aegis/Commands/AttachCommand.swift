internal import AegisClient
internal import AegisCore
internal import AegisIO
internal import AegisSandboxTypes
internal import AegisWire

/// `aegis attach`
enum AttachCommand {
    static let command = Command(
        "attach", "connect to the command of a running instance",
        details: """
            Output comes from now on; 'aegis logs' has what was before. Ctrl-C leaves it running; at a terminal that the
            command owns, ctrl-p ctrl-q does.
            """,
        arguments: [Argument("X", completion: .instances)],
        options: [Option("no-stdin", .flag, "do not hand standard input on")],
        examples: [
            Example("see what it prints", "aegis attach web"),
            Example("only look", "aegis attach --no-stdin web"),
        ], mirrorsExitCode: true, run: run)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        let instance = invocation.arguments[0]
        let client = try await context.client()
        let types = !invocation.has("no-stdin")
        let streams = ProcessSession.Streams(
            input: types ? try context.console.input() : nil, out: try context.console.out(),
            err: try context.console.err())
        // Whether the command has a terminal is for the daemon to say.
        let runner = StreamRunner(
            context, quiet: invocation.quiet, tty: false, input: types, interruption: .leaves)
        do {
            let exit = try await runner.run { listener in
                ProcessSession(
                    streams, joinsLive: true, detachKeys: context.console.inputIsTerminal, clock: context.loop.clock,
                    listener: listener
                ) { offsets, _ in
                    try await client.upgrade(
                        APIClient.Route("instances", instance, "attach"), body: StreamBody.attach(offsets))
                }
            }
            let (code, message) = Outcome.of(exit)
            if let message { await context.console.say(ErrorText.text(message, .text)) }
            return code
        } catch is Detached {
            Terminal.restore()
            if !invocation.quiet { await context.console.say("\naegis: left \(Plain.text(instance)) running\n") }
            return 0
        } catch is OutputClosed { throw ReaderGone() }
    }
}
