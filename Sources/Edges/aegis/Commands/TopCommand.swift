internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisWire

/// `aegis top`
enum TopCommand {
    static let command = Command(
        "top", "watch agents, budgets, approvals, goals and tool calls",
        details: """
            On a terminal it stays, and is up to date within a second: arrows or j and k select, enter shows all of it, a
            approves and d denies what waits for you, l shows an agent's steps and what it says, q quits. Only what was
            shown whole can be approved. Anywhere else, and with --once, it is printed once. NO_COLOR is kept to.
            """,
        options: [
            Option("once", .flag, "print it once, as text"),
            Option("json", .flag, "print it once, as JSON: the same as --output json"),
        ],
        examples: [
            Example("live", "aegis top"), Example("once", "aegis top --once"),
            Example("for programs", "aegis top --json"),
        ], run: run)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        let client = try await context.client()
        let feed = TopFeed(client: client, now: context.now)
        let isPlain = invocation.output != .text || invocation.has("json") || invocation.has("once")
        guard !isPlain, context.console.outIsTerminal, context.console.inputIsTerminal else {
            var invocation = invocation
            if invocation.has("json") { invocation.output = .json }
            let model = try await feed.refreshed(TopModel(time: context.now()))
            try await context.show(model.json, invocation) { TopReport.text(model) }
            return 0
        }
        try await TopSession(context, feed, hasColor: hasColor(context)).run()
        return 0
    }

    private static func hasColor(_ context: Context) -> Bool {
        // Set and not empty (no-color.org), whatever it says.
        (context.caller.variable("NO_COLOR") ?? "").isEmpty && context.caller.variable("TERM") != "dumb"
    }
}
