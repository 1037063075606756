internal import AegisAgents
internal import AegisCore
internal import AegisJSON
internal import AegisWire

/// One answer while it is written, as lines of JSON: its pieces (`kind` is `agent.delta`), then the result (`result`). What fails before
/// anything was said is an ordinary error.
struct AnswerStream: Sendable {
    private let live: LiveAnswers
    private let clock: any Clock<Duration>
    private let trace: String?

    /// The answer to a message that the caller may hear; without a trace only the result is told.
    init(_ service: AgentService, _ trace: String?) {
        live = service.services.live
        clock = service.services.clock
        self.trace = trace
    }

    /// Answers with one JSON value.
    static func respond(
        _ writer: consuming HTTPResponseWriter, _ value: JSONValue, status: Int = 200
    ) async throws {
        try await writer.respond(status, headers: JSONBody.headers, body: try JSONBody.encode(value))
    }

    /// Serves a reader until the result is there. One that goes takes the wait for the result with it. One that is only away, as a
    /// terminal that was stopped is, changes nothing of the turn: it misses pieces, and has a minute after the end to come back.
    ///
    /// - Parameters:
    ///   - writer: to the reader.
    ///   - result: waits for what comes of the message.
    /// - Throws: what `result` throws before anything was said; what the connection does when the reader is gone.
    func serve(
        _ writer: consuming HTTPResponseWriter, _ result: @escaping @Sendable () async throws -> JSONValue
    ) async throws {
        let listener = live.listen(to: trace.map { .trace($0) } ?? .nothing)
        defer { listener.finish() }
        let clock = clock
        // The reader's side is not copied into a task: it stays here, and the wait is the task.
        async let end: Result<JSONValue, any Error> = {
            defer { listener.finish() }
            do { return .success(try await result()) } catch { return .failure(error) }
        }()
        // Nothing is sent before there is something: a request that cannot be served gets its status.
        guard await listener.wait(clock) else {
            switch await end {
            case .success(let value):
                var lines = try await LineStreamWriter(writer, clock: clock)
                try await lines.send([Self.line(value)])
                return try await lines.finish()
            case .failure(let error): throw error
            }
        }
        var lines = try await LineStreamWriter(writer, clock: clock)
        repeat {
            try await lines.send(listener.take().map(\.json), until: { await listener.over() })
        } while await listener.wait(clock)
        switch await end {
        case .success(let value): try await lines.send([Self.line(value)])
        case .failure(let error):
            if error is CancellationError { throw error }
            try await lines.send([Self.line((error as? AegisError) ?? .failed("internal-error", "\(error)"))])
        }
        try await lines.finish()
    }

    private static func line(_ result: JSONValue) -> JSONValue {
        .object([.init("kind", "result")] + (result.fields ?? []))
    }

    /// Why there is no result; the status was sent by then, so the kind stands beside the code.
    private static func line(_ error: AegisError) -> JSONValue {
        var fields: [JSONValue.Field] = [
            .init("kind", .string(error.kind.rawValue)), .init("code", .string(error.code)),
            .init("message", .string(error.message)),
        ]
        if let hint = error.hint { fields.append(.init("hint", .string(hint))) }
        return ["error": .object(fields)]
    }
}
