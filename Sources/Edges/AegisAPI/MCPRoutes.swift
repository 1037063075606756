internal import AegisCore
internal import AegisInstances
internal import AegisJSON
package import AegisMCP
package import AegisWire
internal import LinuxSys

/// MCP servers: what they are, and asking them anew for their tools.
package struct MCPRoutes: Sendable {
    private let plane: MCPPlane

    /// Routes over the servers of a node.
    package init(_ plane: MCPPlane) { self.plane = plane }

    package var routes: [Route] {
        [
            .json(.get, "/v1/mcp", "List MCP servers with their tools") { [plane] context in
                JSONValue.object([.init("items", .array(plane.report(operators: Self.runsNode(context.caller))))])
            },
            .json(.post, "/v1/mcp/{name}/refresh", "Ask an MCP server anew for its tools") { [plane] context in
                try Self.check(context.caller)
                try await plane.refresh(context.parameter("name"))
                return JSONValue.object([.init("items", .array(plane.report(operators: true)))])
            },
        ]
    }

    /// The same for JSON-RPC.
    package var methods: [JSONRPCMethod] {
        [
            JSONRPCMethod("mcp.list", params: "") { [plane] params, context in
                _ = try RPCParameters(params, known: [], positional: 0)
                let caller = Caller(uid: context.caller.user, gid: context.caller.group)
                return ["servers": .array(plane.report(operators: Self.runsNode(caller)))]
            },
            JSONRPCMethod("mcp.refresh", params: "name") { [plane] params, context in
                let parameters = try RPCParameters(params, known: ["name"], positional: 1)
                try Self.check(Caller(uid: context.caller.user, gid: context.caller.group))
                try await plane.refresh(try parameters.text("name"))
                return ["servers": .array(plane.report(operators: true))]
            },
        ]
    }

    private static func runsNode(_ caller: Caller) -> Bool { caller.maySee(owner: CurrentProcess.effectiveUser) }

    /// What servers do is the operator's: it starts programs that the configuration names.
    private static func check(_ caller: Caller) throws(AegisError) {
        guard runsNode(caller) else {
            throw AegisError(
                .denied, "administrator-needed", "MCP servers belong to the whole node",
                hint: "ask as root or as the daemon's own user")
        }
    }
}
