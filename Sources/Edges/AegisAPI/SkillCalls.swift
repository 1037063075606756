package import AegisAgents
internal import AegisAudit
internal import AegisCore
internal import AegisIO
internal import AegisInstances
internal import AegisJSON
package import AegisSkills
package import AegisWire

/// Skills, as people see them: what there is, what it says, and which of it is trusted. The same calls for JSON-RPC and REST.
package struct SkillService: Sendable {
    private let agents: AgentService
    private let shelf: SkillShelf
    private let workspace: @Sendable (AgentRecord) -> SkillRoot?

    /// Serves skills.
    ///
    /// - Parameters:
    ///   - agents: whose workspaces have skills, too.
    ///   - shelf: the skills of the node.
    ///   - workspace: where those of an agent's workspace are.
    package init(
        _ agents: AgentService, shelf: SkillShelf, workspace: @escaping @Sendable (AgentRecord) -> SkillRoot?
    ) {
        self.agents = agents
        self.shelf = shelf
        self.workspace = workspace
    }

    /// What is there now for the caller's agents, or for one of them; the folders are looked through again.
    private func library(_ agent: String?, _ caller: Caller) async throws -> (SkillLibrary, owner: UInt32) {
        var (root, owner): (SkillRoot?, UInt32) = (nil, caller.uid)
        if let agent {
            let record = try agents.find(agent, caller).record
            (root, owner) = (workspace(record), record.owner)
        }
        let (shelf, place, user) = (shelf, root, owner)
        let library = try await BlockingPool.shared.run {
            shelf.reload()
            return shelf.library(for: user, workspace: place)
        }
        return (library, owner)
    }

    private static func shown(_ skill: Skill, in library: SkillLibrary) -> [JSONValue.Field] {
        let isTrusted = !library.untrusted.contains(skill)
        var fields: [JSONValue.Field] = [
            .init("name", .string(skill.name)), .init("description", .string(skill.description)),
            .init("source", .string("\(skill.source)")), .init("path", .string("\(skill.root.path)/\(skill.name)")),
            .init("hash", .string(skill.hash)), .init("usable", .bool(isTrusted)),
            .init("needs_trust", .bool(skill.needsTrust)),
        ]
        if !isTrusted { fields.append(.init("trust_with", .string(skill.trustCommand))) }
        fields.append(
            .init("files", .array(skill.files.map { ["path": .string($0.path), "size": .number($0.size)] })))
        return fields
    }

    /// `skill.list`
    func list(_ parameters: RPCParameters, _ caller: Caller) async throws -> JSONValue {
        let (library, _) = try await library(try parameters.optionalText("agent_id"), caller)
        let skills = (library.skills + library.untrusted).sorted { ($0.name, $0.source) < ($1.name, $1.source) }
        return [
            "skills": .array(skills.map { .object(Self.shown($0, in: library)) }),
            "notices": .array(
                library.notices.map {
                    [
                        "kind": .string($0.kind.rawValue), "path": .string($0.path), "message": .string($0.message),
                    ]
                }),
        ]
    }

    /// `skill.show`: also what is not trusted, for whoever is to trust it has to see it.
    func show(_ parameters: RPCParameters, _ caller: Caller) async throws -> JSONValue {
        let (library, _) = try await library(try parameters.optionalText("agent_id"), caller)
        let skill = try library.find(try parameters.text("name"))
        let file = try parameters.optionalText("file")
        let text = try await BlockingPool.shared.run { try library.text(of: skill, file: file) }
        var fields = Self.shown(skill, in: library)
        for (name, value) in [("license", skill.license), ("compatibility", skill.compatibility)] {
            if let value { fields.append(.init(name, .string(value))) }
        }
        if !skill.allowedTools.isEmpty {
            fields.append(.init("allowed_tools", .array(skill.allowedTools.map { .string($0) })))
        }
        if let file = text.file { fields.append(.init("file", .string(file))) }
        fields.append(.init(text.file == nil ? "instructions" : "content", .string(text.text)))
        return .object(fields)
    }

    /// `skill.trust`: by content. Counts for the caller's agents; what root or the daemon's own user trusts, for everybody's.
    func trust(_ parameters: RPCParameters, _ caller: Caller) async throws -> JSONValue {
        let (library, _) = try await library(try parameters.optionalText("agent_id"), caller)
        let name = try parameters.text("name")
        let hash = try parameters.optionalText("hash")
        let (shelf, agents) = (shelf, agents)
        let skill = try await BlockingPool.shared.run {
            let skill = try shelf.trustable(name, hash: hash, in: library)
            try agents.services.audit.record(
                AuditEvent(
                    .skillTrusted, ("skill", .string(name)), ("hash", .string(skill.hash)),
                    ("path", .string("\(skill.root.path)/\(name)")), ("uid", .number(caller.uid))))
            try shelf.trust(skill, by: caller.uid)
            return skill
        }
        return ["name": .string(name), "hash": .string(skill.hash), "trusted": true]
    }

    /// `skill.untrust`: every version of that name; for root everybody's trust.
    func untrust(_ parameters: RPCParameters, _ caller: Caller) async throws -> JSONValue {
        let name = try parameters.text("name")
        let (shelf, agents) = (shelf, agents)
        let count = try await BlockingPool.shared.run {
            try agents.services.audit.record(
                AuditEvent(.skillUntrusted, ("skill", .string(name)), ("uid", .number(caller.uid))))
            return try shelf.untrust(name, by: caller.uid == 0 ? nil : caller.uid)
        }
        return ["name": .string(name), "untrusted": .number(count)]
    }

    // MARK: Doors

    /// The methods on `agentd.sock`.
    package var methods: [JSONRPCMethod] {
        [
            rpcMethod("skill.list", "agent_id", known: ["agent_id"], positional: 1) { try await list($0, $1) },
            rpcMethod(
                "skill.show", "name, file, agent_id", known: ["name", "file", "agent_id"], positional: 2
            ) { try await show($0, $1) },
            rpcMethod(
                "skill.trust", "name, hash, agent_id", known: ["name", "hash", "agent_id"], positional: 2
            ) { try await trust($0, $1) },
            rpcMethod("skill.untrust", "name", known: ["name"], positional: 1) { try await untrust($0, $1) },
        ]
    }

    /// The routes.
    package var routes: [Route] {
        [
            .json(.get, "/v1/skills", "List skills, those of an agent's workspace too", query: ["agent_id"]) {
                try await list(try $0.parameters(["agent_id"]), $0.caller)
            },
            .json(
                .get, "/v1/skills/{name}", "Show a skill's instructions, or one of its files",
                query: ["file", "agent_id"]
            ) { context in
                var named = context
                named.query["name"] = context.parameter("name")
                return try await show(try named.parameters(["name", "file", "agent_id"]), context.caller)
            },
            .json(.post, "/v1/skills/{name}/trust", "Trust a skill as it is: {hash?, agent_id?}") { context in
                let body = try await AgentRoutes.body(context, ["hash", "agent_id"])
                let fields: [(String, JSONValue?)] = [
                    ("name", .string(context.parameter("name"))), ("hash", body.optionalValue("hash")),
                    ("agent_id", body.optionalValue("agent_id")),
                ]
                let all = fields.compactMap { name, value in value.map { JSONValue.Field(name, $0) } }
                return try await trust(
                    try RPCParameters(.object(all), known: ["name", "hash", "agent_id"]), context.caller)
            },
            .json(.delete, "/v1/skills/{name}/trust", "Trust a skill no more, whatever its content") { context in
                try await untrust(
                    try RPCParameters(["name": .string(context.parameter("name"))], known: ["name"]), context.caller)
            },
        ]
    }
}
