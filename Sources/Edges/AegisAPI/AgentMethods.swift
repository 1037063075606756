internal import AegisAgents
internal import AegisCore
internal import AegisInstances
internal import AegisJSON
internal import AegisTools
package import AegisWire

/// The methods of JSON-RPC on `agentd.sock`: the agent runtime's names, each one call of `AgentService`.
package struct AgentMethods: Sendable {
    private let service: AgentService

    /// Offers a service's calls.
    package init(_ service: AgentService) { self.service = service }

    /// All methods.
    package var methods: [JSONRPCMethod] { processes + tools + goalMethods + approvalMethods + budgetMethods }

    private static let source = ["manifest", "manifest_path", "name"]
    private static let sourceText =
        "manifest (YAML text; manifest_path then says where it is from), manifest_path or name (of a deployed one)"

    func method(
        _ name: String, _ params: String, known: [String], positional: Int = 0,
        _ call: @escaping @Sendable (AgentService, RPCParameters, Caller) async throws -> JSONValue
    ) -> JSONRPCMethod {
        JSONRPCMethod(name, params: params) { [service] params, context in
            let parameters = try RPCParameters(params, known: known, positional: positional)
            return try await call(service, parameters, Caller(uid: context.caller.user, gid: context.caller.group))
        }
    }

    private static func source(
        _ service: AgentService, _ parameters: RPCParameters, _ caller: Caller
    ) async throws -> AgentService.Source {
        try await service.source(
            text: parameters.optionalText("manifest"), path: parameters.optionalText("manifest_path"),
            name: parameters.optionalText("name"), caller)
    }

    private var processes: [JSONRPCMethod] {
        [
            method("agent.spawn", Self.sourceText, known: Self.source) { service, parameters, caller in
                let source = try await Self.source(service, parameters, caller)
                return ["agent_id": .string(try await service.spawn(source, caller).id)]
            },
            method("agent.stop", "agent_id", known: ["agent_id"], positional: 1) { service, parameters, caller in
                let process = try service.find(try parameters.text("agent_id"), caller)
                try await service.directory.stop(process.id)
                return ["ok": true, "agent_id": .string(process.id)]
            },
            method("agent.list", "", known: []) { service, _, caller in
                ["agents": .array(try await service.list(caller))]
            },
            method("agent.status", "agent_id", known: ["agent_id"], positional: 1) { service, parameters, caller in
                try await service.info(try service.find(try parameters.text("agent_id"), caller))
            },
            method(
                "agent.run", "agent_id, message, wait (true)", known: ["agent_id", "message", "wait"], positional: 2
            ) { service, parameters, caller in
                try await service.run(
                    try parameters.text("agent_id"), try parameters.text("message"),
                    wait: try parameters.optionalFlag("wait") ?? true, caller)
            },
            method(
                "agent.spawn_and_run", Self.sourceText + ", message", known: Self.source + ["message"]
            ) { service, parameters, caller in
                let source = try await Self.source(service, parameters, caller)
                return try await service.spawnAndRun(source, try parameters.text("message"), caller)
            },
            method(
                "agent.reply", "agent_id, trace_id, wait (false)", known: ["agent_id", "trace_id", "wait"],
                positional: 2
            ) { service, parameters, caller in
                try await service.reply(
                    try parameters.text("agent_id"), try parameters.text("trace_id"),
                    wait: try parameters.optionalFlag("wait") ?? false, caller)
            },
            method("agent.grants", "agent_id", known: ["agent_id"], positional: 1) { service, parameters, caller in
                ["grants": .array(try await service.grants(try parameters.text("agent_id"), caller))]
            },
            method(
                "agent.revoke", "agent_id, capability (absent: all)", known: ["agent_id", "capability"], positional: 2
            ) { service, parameters, caller in
                try await service.revoke(
                    try parameters.text("agent_id"), try parameters.optionalText("capability"), caller)
            },
        ]
    }

    private var tools: [JSONRPCMethod] {
        [
            method("tool.list", "agent_id (only what it may call)", known: ["agent_id"]) {
                service, parameters, caller in
                ["tools": .array(try await service.tools(try parameters.optionalText("agent_id"), caller))]
            },
            method(
                "tool.invoke", "agent_id, tool, input ({})", known: ["agent_id", "tool", "name", "input"]
            ) { service, parameters, caller in
                guard let tool = try parameters.optionalText("tool") ?? parameters.optionalText("name") else {
                    throw AegisError(.usage, "invalid-params", "'tool' is missing", hint: "'tool.list' lists them")
                }
                let input = parameters.optionalValue("input") ?? .object([])
                let reply = try await service.invoke(tool, input, as: try parameters.text("agent_id"), caller)
                guard !reply.isError else { throw AgentService.error(of: reply) }
                return ["result": reply.value]
            },
        ]
    }
}
