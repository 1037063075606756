internal import AegisCore
internal import AegisJSON
internal import AegisWire

/// An answer of server-sent events (the HTML standard, 9.2).
struct EventStreamWriter: ~Copyable {
    private var body: HTTPBodyWriter
    private let clock: any Clock<Duration>
    /// How long a reader may take nothing before its connection is closed; it can come back and go on where it was.
    static let patience = LineStreamWriter.patience

    /// Begins the answer.
    init(_ writer: consuming HTTPResponseWriter, clock: any Clock<Duration>) async throws {
        var begun = try await writer.stream(
            200, headers: ["Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store"])
        // At once, so that a reader knows that it is connected.
        try await begun.write(Array(": aegis\nretry: 2000\n\n".utf8), within: Self.patience, clock: clock)
        body = begun
        self.clock = clock
    }

    /// Whether a request wants such an answer.
    static func isWanted(_ request: HTTPServerRequest) -> Bool {
        request.headers.elements("Accept").contains {
            $0.split(separator: ";").first?.lowercased() == "text/event-stream"
        }
    }

    /// The number after which a reader goes on: what its last answer said, or else what it asks for.
    ///
    /// - Throws: `invalid-argument` for one that is no number.
    static func last(_ context: RequestContext) throws(AegisError) -> UInt64? {
        guard let text = context.request.headers.first("Last-Event-ID") ?? context.query["after"], !text.isEmpty else {
            return nil
        }
        guard let number = UInt64(text) else {
            throw .usage("'\(text)' is not the number of an event", hint: "give the id of the last one seen")
        }
        return number
    }

    /// Sends one event; its data is one line, for JSON has no others.
    mutating func send(_ name: String, id: UInt64?, _ data: JSONValue) async throws {
        let head = (id.map { "id: \($0)\n" } ?? "") + "event: \(name)\ndata: "
        try await body.write(Array(head.utf8) + data.compact + [10, 10], within: Self.patience, clock: clock)
    }

    /// Says that nothing has happened.
    mutating func beat() async throws { try await write(":\n\n") }

    private mutating func write(_ text: String) async throws {
        try await body.write(Array(text.utf8), within: Self.patience, clock: clock)
    }

    /// Ends the answer.
    consuming func finish() async throws { try await body.finish() }
}

/// An answer of lines of JSON that goes on for as long as its reader reads.
struct LineStreamWriter: ~Copyable {
    private var body: HTTPBodyWriter
    private let clock: any Clock<Duration>
    /// How long a reader may take nothing before its connection is closed.
    static let patience = Duration.seconds(60)

    /// Begins the answer.
    init(_ writer: consuming HTTPResponseWriter, clock: any Clock<Duration>) async throws {
        body = try await writer.stream(200, headers: ["Content-Type": "application/x-ndjson"])
        self.clock = clock
    }

    /// Sends a line for each value.
    mutating func send(_ values: [JSONValue]) async throws {
        try await send(Array(values.map { $0.compact + [10] }.joined()))
    }

    /// Sends lines that end with a line feed each.
    mutating func send(_ lines: [UInt8]) async throws {
        if !lines.isEmpty { try await body.write(lines, within: Self.patience, clock: clock) }
    }

    /// Sends a line for each value to a reader who may be away until something has happened, and is not waited for long after it.
    mutating func send(_ values: [JSONValue], until event: @escaping @Sendable () async -> Void) async throws {
        guard !values.isEmpty else { return }
        let clock = clock
        try await body.write(Array(values.map { $0.compact + [10] }.joined())) {
            await event()
            try await clock.sleep(for: Self.patience)
        }
    }

    /// Ends the answer.
    consuming func finish() async throws { try await body.finish() }
}

extension LedgerEvents {
    /// What a request wants to hear, and from where on.
    private func begin(_ context: RequestContext) async throws -> (Wish, Listener) {
        guard context.query["instance"] == nil else {
            throw AegisError.usage("'instance' is for events of instances alone", hint: "use 'agent' with its id")
        }
        let types = (context.query["types"] ?? "").split(separator: ",").map(String.init)
        let agent = try await subject(context.query["agent"], context.caller)
        let wish = try Wish(context.caller, types: types, agent: agent)
        guard let text = context.query["tail"] else {
            return (wish, try await listen(after: try EventStreamWriter.last(context)))
        }
        guard let count = UInt64(text), count <= Self.longestTail else {
            throw AegisError.usage(
                "'\(text)' is not a number of records", hint: "give 0 to \(Self.longestTail): so many are looked at")
        }
        return (wish, try await listen(back: count))
    }

    /// Serves a reader of server-sent events until it goes or the daemon ends.
    func serve(_ context: RequestContext, _ writer: consuming HTTPResponseWriter) async throws {
        var (wish, listener) = try await begin(context)
        var stream = try await EventStreamWriter(writer, clock: clock)
        while !Task.isCancelled {
            let batch = try await next(&listener, wish)
            if batch.lost > 0 { try await stream.send("gap", id: nil, ["lost": .number(batch.lost)]) }
            for event in batch.events { try await stream.send(event.kind, id: event.seq, event.json) }
            if batch.isOver { break }
            if batch.isQuiet { try await stream.beat() }
        }
        try await stream.finish()
    }

    /// Serves the same as lines: what there is, and with `follow` what comes.
    func serveLines(_ context: RequestContext, _ writer: consuming HTTPResponseWriter) async throws {
        let follows = try context.flag("follow")
        var (wish, listener) = try await begin(context)
        var lines = try await LineStreamWriter(writer, clock: clock)
        while !Task.isCancelled {
            guard follows || hasMore(after: listener.seq) else { break }
            let batch = try await next(&listener, wish)
            if batch.lost > 0 { try await lines.send([["gap": .number(batch.lost)]]) }
            try await lines.send(batch.events.map(\.json))
            if batch.isOver { break }
        }
        try await lines.finish()
    }
}
