internal import AegisClient
internal import AegisCore
internal import AegisIO
internal import AegisJSON
internal import AegisWire

/// `aegis debug channel`
enum DebugChannel {
    static let command = Command(
        "debug channel", "print the messages between the daemon and an instance's harness, from now on",
        details: """
            One JSON object a line, both directions, until the instance is deleted or Ctrl-C. Bytes of streams are counted, values
            of variables and secrets masked. {"gap":N}: N messages were lost because they were not read fast enough.
            """,
        arguments: [Argument("X", completion: .instances)],
        examples: [
            Example("what is asked of a sandbox", "aegis debug channel web"),
            Example("how processes end", "aegis debug channel web | jq -c 'select(.method == \"exited\")'"),
        ]
    ) { invocation, context in
        let name = invocation.arguments[0]
        let response = try await context.client().stream(.get, APIClient.Route("instances", name, "channel"))
        // Said when it is true: what is done now is seen.
        if !invocation.quiet { await context.console.say("aegis: watching the channel of \(Plain.text(name))\n") }
        var lines = LineReader(response)
        while let json = try await lines.next() {
            switch invocation.output {
            case .json, .text: try await context.console.print(json.compact + [10])
            case .yaml: try await context.console.print("---\n" + json.yaml)
            }
        }
        return 0
    }
}
