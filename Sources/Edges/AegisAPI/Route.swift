package import AegisCore
package import AegisInstances
package import AegisWire

/// What a route's code gets: who asks, what the path and query say, and the body to read.
package struct RequestContext: Sendable {
    package var caller: Caller
    package var request: HTTPServerRequest
    /// Values of the path's `{name}` segments, decoded.
    package var parameters: [String: String]
    /// Query parameters; each name at most once.
    package var query: [String: String]
    /// Root or the daemon's own user.
    package var isAdministrator: Bool

    /// A path parameter; routes only ask for those in their own path.
    package func parameter(_ name: String) -> String { parameters[name] ?? "" }

    /// A flag of the query: absent, empty, `1`, `true`, `0` or `false`.
    ///
    /// - Throws: `invalid-argument` for anything else.
    package func flag(_ name: String) throws(AegisError) -> Bool {
        switch query[name] {
        case nil, "0"?, "false"?: return false
        case ""?, "1"?, "true"?: return true
        case let value?: throw .usage("query parameter '\(name)' cannot be '\(value)'", hint: "use 1 or 0")
        }
    }

    /// Refuses query parameters that the route does not have.
    func checkQuery(_ known: [String]) throws(AegisError) {
        for name in query.keys where !known.contains(name) {
            throw AegisError(
                .usage, "unknown-parameter", "unknown query parameter '\(name)'",
                hint: nearest(name, in: known).map { "did you mean '\($0)'?" }
                    ?? (known.isEmpty ? "this route has none" : "known: \(known.joined(separator: ", "))"))
        }
    }
}

/// One operation of the API. The routing table, the list at `/v1/openapi.json` and the docs come from these values.
package struct Route: Sendable {
    package typealias Handler = @Sendable (RequestContext, consuming HTTPResponseWriter) async throws -> Void

    package var method: HTTPMethod
    /// As in `/v1/instances/{id}/start`.
    package var path: String
    package var summary: String
    package var query: [String]
    /// Whether the route answers without a token on TCP.
    package var isOpen: Bool
    package var handler: Handler
    /// What to do instead of asking for a method that the path does not have; nil: only which ones it has is said.
    private(set) var instead: String?
    let segments: [Segment]

    enum Segment: Sendable, Equatable { case literal(String), parameter(String) }

    /// Makes a route that writes its own answer.
    package init(
        _ method: HTTPMethod, _ path: String, _ summary: String, query: [String] = [], isOpen: Bool = false,
        handler: @escaping Handler
    ) {
        self.method = method
        self.path = path
        self.summary = summary
        self.query = query
        self.isOpen = isOpen
        self.handler = handler
        segments = path.split(separator: "/").map {
            $0.hasPrefix("{") ? .parameter(String($0.dropFirst().dropLast())) : .literal(String($0))
        }
    }

    /// Makes a route that answers with a JSON value.
    package static func json<Answer: Encodable & Sendable>(
        _ method: HTTPMethod, _ path: String, _ summary: String, query: [String] = [], status: Int = 200,
        call: @escaping @Sendable (RequestContext) async throws -> Answer
    ) -> Route {
        Route(method, path, summary, query: query) { context, writer in
            let answer = try await call(context)
            try await writer.respond(status, headers: JSONBody.headers, body: try JSONBody.encode(answer))
        }
    }

    /// The same with what to do instead of methods that its path does not have.
    func with(instead: String) -> Route {
        var route = self
        route.instead = instead
        return route
    }

    /// The path's parameters if the route's path fits.
    func match(_ path: [String]) -> [String: String]? {
        guard path.count == segments.count else { return nil }
        var parameters: [String: String] = [:]
        for (segment, text) in zip(segments, path) {
            switch segment {
            case .literal(let literal): guard literal == text else { return nil }
            case .parameter(let name):
                guard !text.isEmpty else { return nil }
                parameters[name] = text
            }
        }
        return parameters
    }
}
