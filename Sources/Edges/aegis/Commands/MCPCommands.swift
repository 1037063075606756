internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisWire

/// `aegis mcp list` and `aegis mcp refresh`
enum MCPCommands {
    static let commands = [list, refresh]

    private static let list = Command(
        "mcp list", "list MCP servers, with where they stand",
        examples: [Example("with every tool", "aegis mcp list --output yaml")]
    ) { invocation, context in
        let items = try await context.client().list(APIClient.Route("mcp"))
        try await context.showValues(items, invocation, quiet: { $0["name"]?.text ?? "" }) { MCPListText.servers($0) }
        return 0
    }

    private static let refresh = Command(
        "mcp refresh", "ask an MCP server anew for its tools; starts it where it does not run",
        arguments: [Argument("NAME")],
        examples: [Example("after its program was changed", "aegis mcp refresh files")]
    ) { invocation, context in
        let name = invocation.arguments[0]
        let answer = try await context.client().call(
            .post, APIClient.Route("mcp", name, "refresh"), body: .object([]))
        let items = (answer["items"]?.elements ?? []).filter { $0["name"]?.text == name }
        try await context.showValues(items, invocation, quiet: { $0["name"]?.text ?? "" }) { MCPListText.servers($0) }
        return 0
    }
}
