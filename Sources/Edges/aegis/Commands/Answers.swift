internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisWire

/// Prints what agents answer: once it is there, or while it is written.
enum Answers {
    /// Whether answers are printed while they are written: on a terminal, for people; elsewhere for who asks.
    static func areLive(_ invocation: Invocation, _ context: Context) -> Bool {
        invocation.has("stream")
            || (context.console.outIsTerminal && invocation.output == .text && !invocation.quiet)
    }

    /// Sends a request whose result is an agent's answer, waits for it and prints it.
    ///
    /// - Parameters:
    ///   - method: of the request.
    ///   - route: of the request.
    ///   - body: of the request.
    ///   - agent: whose reply can be fetched later; nil for one that goes with its answer.
    ///   - waiting: what the route is told to wait, where it has to be.
    ///   - invocation: how the answer is printed.
    ///   - context: where.
    /// - Returns: the exit code: 0 for a turn that was completed.
    /// - Throws: what the daemon says; `connection-lost` when it has gone.
    static func wait(
        _ method: HTTPMethod, _ route: APIClient.Route, _ body: JSONValue?, agent: String?,
        waiting: [(String, String)] = [("wait", "1")],
        _ invocation: Invocation, _ context: Context
    ) async throws -> Int32 {
        var route = route
        guard areLive(invocation, context) else {
            route.query += waiting
            return try await print(
                try await context.client().call(method, route, body: body), invocation, context)
        }
        route.query.append(("stream", "1"))
        // The last line has the whole answer.
        var lines = LineReader(
            try await context.client().stream(method, route, body: body), limit: APIClient.answerLimit)
        var text = AnswerText()
        var last = JSONValue.null
        while let json = try await next(&lines, agent, after: last) {
            last = json
            if json["kind"] == nil, let error = json["error"], error != .null { throw StreamJSON.error(error) }
            let isResult = json["kind"]?.text == "result"
            switch invocation.output {
            case .json: try await context.console.print(json.compact + [10])
            case .yaml: try await context.console.print("---\n" + json.yaml)
            case .text where isResult: try await context.console.print(text.end(json["response"]?.text ?? ""))
            case .text:
                let piece = text.take(json)
                try await context.console.print(piece.out)
                if !invocation.quiet { await context.console.say(piece.note) }
            }
            if isResult { return await code(json, invocation, context) }
        }
        throw lost(AegisError(.unavailable, "connection-lost", "the daemon has ended before the answer"), agent, last)
    }

    private static func next(
        _ lines: inout LineReader, _ agent: String?, after last: JSONValue
    ) async throws(AegisError) -> JSONValue? {
        do throws(AegisError) { return try await lines.next() } catch { throw lost(error, agent, last) }
    }

    /// The daemon may be gone; or it has waited long enough for a terminal that was stopped, and has the answer.
    private static func lost(_ error: AegisError, _ agent: String?, _ last: JSONValue) -> AegisError {
        guard error.code == "connection-lost" else { return error }
        var hint = "see aegisd.log"
        if let trace = last["trace_id"]?.text, let id = last["agent_id"]?.text {
            hint =
                agent.map { "'aegis agent reply --wait \(Plain.text($0)) \(Plain.text(trace))' prints what came of it" }
                ?? "'aegis agent logs \(Plain.text(id))' has what it said"
        }
        return AegisError(error.kind, error.code, error.message, hint: hint)
    }

    /// Prints an answer that is there.
    static func print(_ answer: JSONValue, _ invocation: Invocation, _ context: Context) async throws -> Int32 {
        try await context.show(answer, invocation) { Plain.block(answer["response"]?.text ?? "") }
        return await code(answer, invocation, context)
    }

    /// Whoever reads only the exit code learns whether the answer is whole.
    private static func code(_ answer: JSONValue, _ invocation: Invocation, _ context: Context) async -> Int32 {
        let stop = answer["stop_reason"]?.text ?? ""
        guard stop != "complete" else { return 0 }
        let why = answer["error"]?["message"]?.text.map { ": \(Plain.text($0))" } ?? ""
        if invocation.output == .text {
            let hint = answer["error"]?["hint"]?.text.map { "  hint: \(Plain.text($0))\n" } ?? ""
            await context.console.say("aegis: the turn ended with \(Plain.text(stop))\(why)\n\(hint)")
        }
        return 1
    }
}
