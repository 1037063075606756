internal import AegisClient
internal import AegisCore
internal import AegisIO
internal import AegisJSON
internal import AegisSandboxTypes
internal import AegisWire

/// `aegis logs`
enum LogsCommand {
    static let command = Command(
        "logs", "print what an instance has written",
        details: """
            Stdout goes to stdout and stderr to stderr, as they were written; lines of 'aegis exec' are marked [exec], Aegis's
            own words [system].
            """,
        arguments: [Argument("X", completion: .instances)],
        options: [
            Option("follow", "f", .flag, "go on with what comes"),
            Option("since", .value("T"), "only after a time (RFC 3339), or as long ago as 10m"),
            Option("tail", "n", .value("N"), "only the last N lines"),
        ],
        examples: [
            Example("everything", "aegis logs web"),
            Example("the end, and what comes", "aegis logs web --tail 20 --follow"),
            Example("the last ten minutes", "aegis logs web --since 10m"),
        ], run: run)

    /// The parameters of the request.
    ///
    /// - Throws: `invalid-argument` with the right form.
    static func query(_ invocation: Invocation, now: Timestamp) throws(AegisError) -> [(String, String)] {
        var query: [(String, String)] = []
        if invocation.has("follow") { query.append(("follow", "1")) }
        if let text = invocation["since"] {
            if let time = Timestamp(parsing: text) {
                query.append(("since", time.description))
            } else if let span = try? TimeSpan(parsing: text) {
                query.append(("since", Timestamp(milliseconds: now.milliseconds - span.milliseconds).description))
            } else {
                throw .usage(
                    "'\(text)' is not a time", hint: "write --since 10m, or a time such as 2026-11-20T10:30:00Z")
            }
        }
        if let text = invocation["tail"] {
            guard let count = Int(text), count >= 0 else {
                throw .usage("'\(text)' is not a number of lines", hint: "write --tail 100")
            }
            query.append(("tail", String(count)))
        }
        return query
    }

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        let query = try query(invocation, now: context.now())
        let response = try await context.client().stream(
            .get, APIClient.Route("instances", invocation.arguments[0], "logs", query: query))
        var lines = LineReader(response)
        var text = LogText(
            coloured: context.console.outIsTerminal, merged: context.console.outAndErrAreOne)
        while let json = try await lines.next() {
            if let error = json["error"], error != .null { throw StreamJSON.error(error) }
            switch invocation.output {
            case .json: try await context.console.print(json.compact + [10])
            case .yaml: try await context.console.print("---\n" + json.yaml)
            case .text:
                let piece = text.piece(of: try json.decoded(LogRecord.self))
                switch piece.target {
                case .stdout: try await context.console.print(piece.bytes[...])
                case .stderr: await context.console.say(piece.bytes)
                }
            }
        }
        return 0
    }
}
