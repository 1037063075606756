internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisWire

/// The verbs that change an instance's state: the same request, and the same answer, for each.
enum InstanceActions {
    static let commands: [Command] = [
        make("stop", "stopped", "stop instances; their files and logs stay"),
        make(
            "pause", "paused", "freeze instances, keeping their memory",
            options: [Option("force", .flag, "also while something holds it awake")]),
        make("resume", "resumed", "let paused instances go on"),
        make("restart", "restarted", "stop instances and start them again"),
        make("enable", "enabled", "let instances start again after 'disable'"),
        make("disable", "disabled", "stop instances and refuse to start them"),
    ]

    private static func make(_ verb: String, _ done: String, _ summary: String, options: [Option] = []) -> Command {
        Command(
            "instance \(verb)", summary, arguments: [Argument("X", .many, completion: .instances)], options: options,
            examples: [
                Example("one", "aegis instance \(verb) web"), Example("several", "aegis instance \(verb) web worker"),
            ]
        ) { invocation, context in
            let query = invocation.has("force") ? [("force", "1")] : []
            return try await eachInstance(invocation, context, done) { client, instance throws(AegisError) in
                try await client.call(.post, APIClient.Route("instances", instance, verb, query: query))
            }
        }
    }

    /// Does something to each instance named, goes on after a failure, and ends with the first failure's code.
    static func eachInstance(
        _ invocation: Invocation, _ context: Context, _ done: String,
        _ action: (APIClient, String) async throws(AegisError) -> JSONValue
    ) async throws -> Int32 {
        let client = try await context.client()
        var answers: [JSONValue] = []
        var failure: AegisError?
        for instance in invocation.arguments {
            do throws(AegisError) {
                answers.append(try await action(client, instance))
            } catch {
                failure = failure ?? error
                await context.console.say(ErrorText.text(error, invocation.output))
                continue
            }
            if invocation.output == .text, !invocation.quiet {
                try await context.console.print("\(Plain.text(instance)) \(done)\n")
            }
        }
        if invocation.output != .text, let first = answers.first {
            try await context.show(invocation.arguments.count == 1 ? first : .array(answers), invocation) { "" }
        }
        return failure?.kind.exitCode ?? 0
    }
}
