internal import AegisCore
package import AegisInstances
package import AegisJSON
package import AegisMCP
internal import AegisSandboxTypes
package import AegisWire
internal import LinuxSys

/// MCP servers: what they are, and asking them anew for their tools.
package struct MCPRoutes: Sendable {
    private let plane: MCPPlane
    private let more: @Sendable (Caller) -> [JSONValue]

    /// Routes over the servers of a node.
    ///
    /// - Parameters:
    ///   - plane: those of the configuration.
    ///   - more: tells a caller of those in the sandboxes of their agents.
    package init(_ plane: MCPPlane, more: @escaping @Sendable (Caller) -> [JSONValue] = { _ in [] }) {
        self.plane = plane
        self.more = more
    }

    private func report(_ caller: Caller) -> JSONValue {
        .array(plane.report(operators: Self.runsNode(caller), user: caller.uid) + more(caller))
    }

    package var routes: [Route] {
        [
            .json(.get, "/v1/mcp", "List MCP servers with their tools") { context in
                JSONValue.object([.init("items", report(context.caller))])
            },
            .json(.post, "/v1/mcp/{name}/refresh", "Ask an MCP server anew for its tools") { [plane] context in
                try Self.check(context.caller)
                try await plane.refresh(context.parameter("name"))
                return JSONValue.object([.init("items", report(context.caller))])
            },
        ]
    }

    /// The same for JSON-RPC.
    package var methods: [JSONRPCMethod] {
        [
            JSONRPCMethod("mcp.list", params: "") { params, context in
                _ = try RPCParameters(params, known: [], positional: 0)
                let caller = Caller(uid: context.caller.user, gid: context.caller.group)
                return ["servers": report(caller)]
            },
            JSONRPCMethod("mcp.refresh", params: "name") { [plane] params, context in
                let parameters = try RPCParameters(params, known: ["name"], positional: 1)
                let caller = Caller(uid: context.caller.user, gid: context.caller.group)
                try Self.check(caller)
                try await plane.refresh(try parameters.text("name"))
                return ["servers": report(caller)]
            },
        ]
    }

    /// What each can reach and whether it answers, for who runs the node: asking starts programs that the configuration names.
    func findings(for caller: Caller) async -> [DoctorCheck] { Self.runsNode(caller) ? await plane.findings() : [] }

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
