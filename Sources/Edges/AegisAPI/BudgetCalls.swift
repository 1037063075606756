internal import AegisAgents
internal import AegisCore
internal import AegisInference
internal import AegisInstances
internal import AegisJSON
internal import AegisWire

/// What agents have used, hold and may use yet: the same calls for JSON-RPC and REST.
extension AgentService {
    /// The budget of one agent.
    func budget(_ word: String, _ caller: Caller) async throws -> JSONValue {
        budget(of: try find(word, caller))
    }

    /// The budgets of all live agents of the caller, oldest first.
    func budgets(_ caller: Caller) async -> [JSONValue] {
        directory.all.filter { caller.uid == 0 || $0.record.owner == caller.uid }.map { budget(of: $0) }
    }

    private func budget(of process: AgentProcess) -> JSONValue {
        let record = process.record
        let account = budgets.report(.agent(process.id))
        let top = budgets.report(.agent(record.tree))
        var fields: [JSONValue.Field] = [
            .init("agent_id", .string(process.id)), .init("name", .string(record.name)),
            .init("parent", record.parent.map { .string($0) } ?? .null),
            .init("depth", .number(record.depth)),
        ]
        let known = account?.json.fields ?? []
        fields += known.filter { !["owner", "parent", "left"].contains($0.name) }
        fields.append(.init("left", left(to: process.id, in: record.tree)))
        // All that works for the same person's wish: the agent at the top pays for those below it.
        var tree: [JSONValue.Field] = [.init("agent_id", .string(record.tree))]
        for name in ["limit", "used", "reserved", "total"] { tree.append(.init(name, top?.json[name] ?? .null)) }
        tree.append(.init("left", left(to: record.tree, in: record.tree)))
        fields.append(.init("tree", .object(tree)))
        return .object(fields)
    }

    /// What an agent can use yet: the least of what it and those have left that pay with it. Null is without limit.
    private func left(to agent: String, in tree: String) -> JSONValue {
        let rest = budgets.rest(of: CallerID(agent: agent, tree: tree))
        return [
            "tokens": rest.tokens.map { .number($0) } ?? .null,
            "usd": rest.microUSD.map { .string(dollars($0)) } ?? .null,
        ]
    }
}

extension AgentMethods {
    /// `agent.budget`
    var budgetMethods: [JSONRPCMethod] {
        [
            method("agent.budget", "agent_id (absent: all)", known: ["agent_id"], positional: 1) {
                service, parameters, caller in
                guard let agent = try parameters.optionalText("agent_id") else {
                    return ["budgets": .array(await service.budgets(caller))]
                }
                return try await service.budget(agent, caller)
            }
        ]
    }
}

extension AgentRoutes {
    /// `/v1/processes/{id}/budget`, `/v1/budgets`
    var budgetRoutes: [Route] {
        [
            .json(.get, "/v1/processes/{id}/budget", "What an agent has used, what it holds, and what is left to it") {
                [service] context in
                try await service.budget(context.parameter("id"), context.caller)
            },
            .json(.get, "/v1/budgets", "The budgets of live agents") { [service] context in
                Self.page(await service.budgets(context.caller))
            },
        ]
    }
}
