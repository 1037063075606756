package import AegisCore
package import AegisHTTPClient
package import AegisIO
internal import AegisJSON
internal import AegisWire
internal import Synchronization

/// JSON-RPC over streamable HTTP: each message is a POST, answered by one body or by a stream of events.
package final class MCPHTTPTransport: MCPTransport {
    private struct State {
        var next: Int64 = 0
        /// What the server wants told with each request of a session.
        var session: String?
        var end: AegisError?
        /// Whether that is because the server does not know the session any more.
        var isSessionLost = false
        /// Whether the server has told something by itself, or would have.
        var isListened = false
        var streams: [TaskScope.Handle] = []
    }

    private let server: String
    private let url: WebURL
    private let headers: [(name: String, value: String)]
    private let client: HTTPClient
    private let scope: TaskScope
    private let clock: any Clock<Duration>
    private let largest: Int
    private let onNotice: @Sendable (MCPNotice) -> Void
    private let state = Mutex(State())

    /// Makes a way to a server; nothing is sent yet.
    ///
    /// - Parameters:
    ///   - server: its name, for messages.
    ///   - url: its address.
    ///   - headers: fields that go with each message.
    ///   - client: what does the work.
    ///   - scope: owns the tasks that this takes.
    ///   - clock: whose time limits requests.
    ///   - largest: the most bytes of a message.
    ///   - onNotice: hears what the server says by itself.
    /// - Throws: `mcp-unavailable` when the address is none.
    package init(
        _ server: String, _ url: String, headers: [(name: String, value: String)], client: HTTPClient,
        scope: TaskScope, clock: any Clock<Duration>, largest: Int = 8 << 20,
        onNotice: @escaping @Sendable (MCPNotice) -> Void
    ) throws {
        self.server = server
        do { self.url = try WebURL(url) } catch { throw MCPFault.unavailable(server, error.message) }
        self.headers = headers
        self.client = client
        self.scope = scope
        self.clock = clock
        self.largest = largest
        self.onNotice = onNotice
    }

    package var end: AegisError? { state.withLock { $0.end } }
    package var remarks: String { "" }

    package func close() async {
        let (session, streams) = state.withLock { state -> (String?, [TaskScope.Handle]) in
            defer {
                state.streams = []
                state.session = nil
            }
            if state.end == nil { state.end = MCPFault.unavailable(server, "it was stopped") }
            return (state.session, state.streams)
        }
        for stream in streams {
            stream.cancel()
            await stream.wait()
        }
        guard let session else { return }
        var fields = HTTPHeaders(headers)
        fields.add("Mcp-Session-Id", session)
        var request = ClientRequest(.delete, url, headers: fields)
        request.timeouts = ClientTimeouts(
            connect: .seconds(2), firstByte: .seconds(2), idle: .seconds(2), total: .seconds(3))
        // A server need not know how to end a session.
        _ = try? await client.fetch(request)
    }

    // MARK: Asking

    package func request(_ request: MCPRequest) async throws -> MCPAnswer {
        let id = try state.withLock { state in
            if let end = state.end { throw state.isSessionLost ? MCPSessionEnded(end) : end as any Error }
            state.next += 1
            return state.next
        }
        do {
            return try await withDeadline(request.timeout, clock: clock) { try await self.exchange(id, request) }
        } catch {
            var error = error
            if let failed = error as? HTTPClientError { error = fault(failed, request) }
            if let late = error as? IOError, late.kind == .timeout {
                error = MCPFault.timeout(server, request.method, request.timeout)
            }
            // "Disconnection SHOULD NOT be interpreted as the client cancelling its request" (2025-11-25): then it is not done here.
            if (error as? AegisError)?.code != "mcp-unavailable" { cancel(id, request) }
            throw error
        }
    }

    package func notify(_ method: String, revision: String) async throws {
        let message = MCPOutgoing.notification(method, nil)
        do {
            try await post(message, revision: revision, method: method, timeout: .seconds(30)) { response in
                guard (200..<300).contains(response.status) else {
                    throw MCPFault.protocolBroken(
                        self.server, "'\(method)' was answered with status \(response.status)")
                }
            }
        } catch let error as HTTPClientError {
            throw MCPFault.unavailable(server, error.message)
        }
    }

    package func listen(_ request: MCPRequest) {
        again { if case .failure = try await self.request(request) { throw Silent() } }
    }

    package func listen(revision: String) {
        again {
            var fields = HTTPHeaders(self.headers)
            fields.add("Accept", "text/event-stream")
            fields.add("MCP-Protocol-Version", revision)
            if let session = self.state.withLock({ $0.session }) { fields.add("Mcp-Session-Id", session) }
            var request = ClientRequest(.get, self.url, headers: fields)
            request.timeouts = ClientTimeouts(
                connect: .seconds(10), firstByte: .seconds(60), idle: .seconds(86_400), total: .seconds(86_400))
            request.maximumBody = .max
            try await self.client.send(request) { response in
                let kind = response.headers.first("content-type")?.lowercased() ?? ""
                guard response.status == 200, kind.hasPrefix("text/event-stream") else {
                    // One that never had such a stream may answer so as well.
                    if response.status == 404, self.state.withLock({ $0.isListened }) { _ = self.sessionEnded() }
                    throw Silent()
                }
                self.state.withLock { $0.isListened = true }
                _ = try await self.events(response, 0, MCPRequest("", .null, revision: revision, timeout: .zero))
            }
        }
    }

    /// The server does not tell anything by itself.
    private struct Silent: Error {}

    /// Listens again whenever a stream has ended, as long as the server is spoken to and has one.
    private func again(_ listen: @escaping @Sendable () async throws -> Void) {
        let handle = scope.spawn("mcp \(server): listening") { [clock] in
            while self.end == nil {
                do { try await listen() } catch is Silent { return } catch is CancellationError { return } catch {}
                do { try await clock.sleep(for: Self.listeningPause) } catch { return }
            }
        }
        state.withLock { $0.streams.append(handle) }
    }

    private static let listeningPause = Duration.seconds(5)

    private func fault(_ error: HTTPClientError, _ request: MCPRequest) -> any Error {
        switch error.kind {
        case .cancelled: CancellationError()
        case .timeout: MCPFault.timeout(server, request.method, request.timeout)
        case .tooLarge: MCPFault.protocolBroken(server, error.message)
        default: MCPFault.unavailable(server, error.message)
        }
    }

    /// Tells a server of a session that nobody waits any more; one without sessions knows by the end of the connection.
    private func cancel(_ id: Int64, _ request: MCPRequest) {
        guard let revision = request.revision, revision != MCPRevision.stateless, end == nil else { return }
        scope.spawn("mcp \(server): cancelling") {
            let message = MCPOutgoing.cancelled(id, "nobody waits for it")
            try? await self.post(message, revision: revision, method: "notifications/cancelled", timeout: .seconds(5)) {
                _ in
            }
        }
    }

    private func exchange(_ id: Int64, _ request: MCPRequest) async throws -> MCPAnswer {
        let message = MCPOutgoing.request(id, request.method, request.params)
        var outcome = try await post(
            message, revision: request.revision, method: request.method, name: request.name, more: request.headers,
            timeout: request.timeout
        ) { response in
            if request.method == "initialize", (200..<300).contains(response.status) { self.begin(response.headers) }
            let kind = response.headers.first("content-type")?.lowercased() ?? ""
            if (200..<300).contains(response.status), kind.hasPrefix("text/event-stream") {
                return try await self.events(response, id, request)
            }
            return .answer(
                try self.answer(
                    in: try await response.readAll(limit: self.largest), status: response.status, id, request))
        }
        while true {
            switch outcome {
            case .answer(let answer): return answer
            case .ended(let place):
                guard let place, let revision = request.revision, revision != MCPRevision.stateless else {
                    throw MCPFault.unavailable(
                        server, "the stream ended before the answer to '\(request.method)'")
                }
                try await clock.sleep(for: place.pause)
                if let end { throw end }
                outcome = try await resume(place, revision, id, request)
            }
        }
    }

    /// Where a stream of events can be gone on with.
    private struct StreamPlace {
        /// Of the last event that came.
        var event: String
        /// Milliseconds that the server wants to be waited.
        var retry: Int?

        /// Whatever a server wants, it is not asked all the time.
        var pause: Duration { .milliseconds(max(retry ?? 1000, 100)) }
    }

    /// What a stream of events came to.
    private enum StreamOutcome {
        case answer(MCPAnswer)
        /// It ended before; nil where nothing can follow.
        case ended(StreamPlace?)
    }

    /// Goes on with a stream that a server of a session has closed, which it may do after an event with an id: the request has
    /// been made, and its answer is kept there.
    private func resume(
        _ place: StreamPlace, _ revision: String, _ id: Int64, _ request: MCPRequest
    ) async throws -> StreamOutcome {
        var fields = HTTPHeaders(headers)
        fields.add("Accept", "text/event-stream")
        fields.add("MCP-Protocol-Version", revision)
        fields.add("Last-Event-ID", place.event)
        if let session = state.withLock({ $0.session }) { fields.add("Mcp-Session-Id", session) }
        var get = ClientRequest(.get, url, headers: fields)
        get.timeouts = ClientTimeouts(
            connect: min(request.timeout, .seconds(10)), firstByte: request.timeout, idle: request.timeout,
            total: request.timeout)
        get.maximumBody = .max
        return try await client.send(get) { response in
            let kind = response.headers.first("content-type")?.lowercased() ?? ""
            guard response.status == 200, kind.hasPrefix("text/event-stream") else {
                // The request may have been made: it is not made again in another session.
                if response.status == 404, let ended = self.sessionEnded() { throw ended.error }
                throw MCPFault.unavailable(
                    self.server,
                    "the stream of the answer to '\(request.method)' was not gone on with: status \(response.status)"
                )
            }
            return try await self.events(response, id, request, after: place)
        }
    }

    /// Takes the name that a server gives a session.
    private func begin(_ headers: HTTPHeaders) {
        guard let session = headers.first("mcp-session-id"), (1...1024).contains(session.utf8.count),
            session.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f })
        else { return }
        state.withLock { $0.session = session }
    }

    @discardableResult private func post<R>(
        _ message: JSONValue, revision: String?, method: String, name: String? = nil,
        more: [(name: String, value: String)] = [], timeout: Duration, _ body: (ClientResponse) async throws -> R
    ) async throws -> R {
        var fields = HTTPHeaders(headers)
        fields.add("Content-Type", "application/json")
        fields.add("Accept", "application/json, text/event-stream")
        if let revision {
            fields.add("MCP-Protocol-Version", revision)
            if revision == MCPRevision.stateless {
                fields.add("Mcp-Method", method)
                if let name { fields.add("Mcp-Name", MCPParameterHeaders.encoded(name)) }
                for field in more { fields.add(field.name, field.value) }
            }
        }
        if let session = state.withLock({ $0.session }) { fields.add("Mcp-Session-Id", session) }
        var request = ClientRequest(.post, url, headers: fields, body: message.compact)
        request.timeouts = ClientTimeouts(
            connect: min(timeout, .seconds(10)), firstByte: timeout, idle: timeout, total: timeout)
        request.maximumBody = .max
        // A call must not arrive twice.
        request.reusesConnection = false
        return try await client.send(request, body)
    }

    // MARK: Answers

    private func answer(in body: [UInt8], status: Int, _ id: Int64, _ request: MCPRequest) throws -> MCPAnswer {
        // Whatever it says beside that: servers answer with an error that has no id.
        if status == 404, let ended = sessionEnded() { throw ended }
        let messages = try? MCPIncoming.parse(body)
        for message in messages ?? [] {
            switch message {
            case .answer(id, let answer): return answer
            case .strayAnswer(.failure(let error)) where status >= 400: return .failure(error)
            default: continue
            }
        }
        guard (200..<300).contains(status) else {
            // One of a session says so in words of its own when it is asked for what it does not know.
            if request.method == "server/discover", [400, 404, 405, 406, 415, 422].contains(status) {
                return .failure(MCPRemoteError(code: -32600, message: "status \(status)"))
            }
            throw MCPFault.unavailable(
                server, "it answered with status \(status)",
                hint: [401, 403].contains(status) ? "see 'headers' of its entry in mcp_servers" : nil)
        }
        throw MCPFault.protocolBroken(server, "the answer to '\(request.method)' is no message of JSON-RPC with its id")
    }

    /// What status 404 means within a session: the client MUST begin a new one (2025-11-25, Session Management).
    ///
    /// - Returns: nil where there is no session.
    private func sessionEnded() -> MCPSessionEnded? {
        state.withLock { state in
            // Another request may have heard of it before.
            if let end = state.end { return state.isSessionLost ? MCPSessionEnded(end) : nil }
            guard state.session != nil else { return nil }
            let error = MCPFault.unavailable(server, "it has ended the session")
            (state.session, state.end, state.isSessionLost) = (nil, error, true)
            for stream in state.streams { stream.cancel() }
            return MCPSessionEnded(error)
        }
    }

    /// Requests of a server in one stream: each costs one of ours, to refuse it.
    private static let mostAsked = 100

    /// Reads a stream until the answer has come, which goes on from `place`.
    private func events(
        _ response: ClientResponse, _ id: Int64, _ request: MCPRequest, after place: StreamPlace? = nil
    ) async throws -> StreamOutcome {
        var parser = EventStreamParser(maximum: largest)
        var found: MCPAnswer?
        var asked = 0
        func take(_ event: StreamedEvent) {
            guard found == nil, let messages = try? MCPIncoming.parse(event.data) else { return }
            for message in messages {
                switch message {
                case .answer(id, let answer): found = answer
                case .notification(let method, _): onNotice(MCPNotice(method: method))
                case .request(let id, let method):
                    asked += 1
                    if asked <= Self.mostAsked { refuse(id, method, request.revision) }
                default: continue
                }
            }
        }
        do {
            while found == nil, asked <= Self.mostAsked, let bytes = try await response.read() {
                try parser.feed(bytes[...]) { take($0) }
            }
        } catch is EventStreamError {
            throw MCPFault.protocolBroken(server, "a message has more than \(largest) bytes")
        } catch let error as HTTPClientError where error.kind == .cut {
            // The same as an end, for a stream that can be gone on with.
            guard found == nil, !parser.id.isEmpty || place != nil else { throw error }
        }
        if found == nil, let last = parser.finish() { take(last) }
        guard asked <= Self.mostAsked else {
            throw MCPFault.protocolBroken(server, "it asked more than \(Self.mostAsked) things in one answer")
        }
        if let found { return .answer(found) }
        guard !parser.id.isEmpty, parser.id.utf8.count <= 1024, parser.id.utf8.allSatisfy({ $0 > 0x1f && $0 < 0x7f })
        else {
            guard var place else { return .ended(nil) }
            place.retry = parser.retry ?? place.retry
            return .ended(place)
        }
        return .ended(StreamPlace(event: parser.id, retry: parser.retry ?? place?.retry))
    }

    private func refuse(_ id: JSONValue, _ method: String, _ revision: String?) {
        guard revision != MCPRevision.stateless else { return }
        scope.spawn("mcp \(server): refusing") {
            try? await self.post(
                MCPOutgoing.answer(id, method), revision: revision, method: method, timeout: .seconds(10)
            ) { _ in }
        }
    }
}
