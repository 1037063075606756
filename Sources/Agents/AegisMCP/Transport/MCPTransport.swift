package import AegisCore
package import AegisJSON

/// A request on its way to a server.
package struct MCPRequest: Sendable {
    /// What is asked.
    package var method: String
    /// With what.
    package var params: JSONValue
    /// The revision that it is of; nil before one is agreed on.
    package var revision: String?
    /// The tool, or what else has a name, for transports that tell it beside the message.
    package var name: String?
    /// Further header fields, for transports that have such.
    package var headers: [(name: String, value: String)] = []
    /// How long the answer may take.
    package var timeout: Duration

    /// A request.
    package init(_ method: String, _ params: JSONValue, revision: String?, timeout: Duration) {
        self.method = method
        self.params = params
        self.revision = revision
        self.timeout = timeout
    }
}

/// What a server says by itself.
package enum MCPNotice: Sendable, Hashable {
    /// Its tools are not what they were.
    case toolsChanged
    /// Something that changes nothing here.
    case other(String)

    init(method: String) {
        self = method == "notifications/tools/list_changed" ? .toolsChanged : .other(method)
    }
}

/// The server has ended the session before it looked at the request: another session may be asked the same.
package struct MCPSessionEnded: Error, Sendable {
    /// What that is where it is not asked again.
    package var error: AegisError

    /// A session that has ended.
    package init(_ error: AegisError) { self.error = error }
}

/// A way to a server.
package protocol MCPTransport: Sendable {
    /// Asks, and waits for the answer.
    ///
    /// - Throws: `AegisError` when there is none: `mcp-unavailable`, `mcp-timeout`, `mcp-protocol`; `MCPSessionEnded`;
    ///   `CancellationError`. The server was told of it then where there is a way to.
    func request(_ request: MCPRequest) async throws -> MCPAnswer
    /// Tells something.
    func notify(_ method: String, revision: String) async throws
    /// Listens for what the server says by itself, where that needs a request of its own. Does not wait.
    func listen(_ request: MCPRequest)
    /// Listens for what the server of a session says by itself, where that has a way of its own. Does not wait.
    func listen(revision: String)
    /// Why nothing can be asked any more; nil while it can.
    var end: AegisError? { get }
    /// What the server wrote beside its messages, its end.
    var remarks: String { get }
    /// Ends it, and all that was started for it. Idempotent.
    func close() async
}
