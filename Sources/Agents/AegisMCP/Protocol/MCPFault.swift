internal import AegisCore

/// Errors of this client, as models, users and programs see them.
enum MCPFault {
    /// The server is not there, or went away.
    static func unavailable(_ server: String, _ why: String, hint: String? = nil) -> AegisError {
        AegisError(.unavailable, "mcp-unavailable", "the MCP server '\(server)' is not available: \(why)", hint: hint)
    }

    /// The server did not answer in time.
    static func timeout(_ server: String, _ method: String, _ limit: Duration) -> AegisError {
        AegisError(.timeout, "mcp-timeout", "the MCP server '\(server)' did not answer '\(method)' within \(limit)")
    }

    /// The server does not keep to the protocol.
    static func protocolBroken(_ server: String, _ why: String) -> AegisError {
        .failed("mcp-protocol", "the MCP server '\(server)' does not keep to the protocol: \(why)")
    }

    /// The server refused a request.
    static func refused(_ server: String, _ method: String, _ error: MCPRemoteError) -> AegisError {
        let said = MCPText.line(error.message, most: 1000)
        return .failed(
            "mcp-error", "the MCP server '\(server)' refused '\(method)' with code \(error.code): \(said)")
    }
}
