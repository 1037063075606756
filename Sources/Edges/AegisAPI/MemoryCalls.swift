package import AegisAgents
internal import AegisAudit
internal import AegisCore
internal import AegisInstances
internal import AegisJSON
internal import AegisMemory
package import AegisWire

/// What agents remember, as people see it: each user that of their own agents. The same calls for JSON-RPC and REST.
package struct MemoryService: Sendable {
    private let agents: AgentService
    private let desk: MemoryDesk
    private var store: MemoryStore { desk.store }

    /// Serves the memory of agents.
    package init(_ agents: AgentService, desk: MemoryDesk) {
        self.agents = agents
        self.desk = desk
    }

    /// Whose memory is meant.
    private struct Subject: Sendable {
        /// nil for an agent that has none of its own.
        var identity: String?
        var name: String
        var owner: UInt32
    }

    /// An agent that lives, or one that is gone and keeps its memory.
    private func subject(_ word: String, _ caller: Caller) async throws -> Subject {
        do {
            let process = try agents.find(word, caller)
            return Subject(
                identity: try await desk.identity(of: process), name: process.record.name, owner: process.record.owner)
        } catch let error as AegisError where error.code == "agent-not-found" {
            let found = try await kept(caller).filter { $0.name == word || "\($0.owner)/\($0.name)" == word }
            guard found.count < 2 else {
                throw AegisError.conflict(
                    "agent-ambiguous", "\(found.count) users have an agent '\(word)' that keeps its memory",
                    hint: "use \(found.map { "\($0.owner)/\($0.name)" }.joined(separator: " or "))")
            }
            guard let only = found.first else {
                throw AegisError.notFound(
                    "agent-not-found", "no agent '\(word)' lives or keeps its memory",
                    hint: "'aegis memory list' lists what is remembered")
            }
            return only
        }
    }

    /// The agents that keep their memory, of this caller or for root of everybody.
    private func kept(_ caller: Caller) async throws -> [Subject] {
        try await store.persistentIdentities().compactMap { kept in
            let parts = kept.name.split(separator: "/", maxSplits: 1)
            guard parts.count == 2, let owner = UInt32(parts[0]), caller.uid == 0 || owner == caller.uid else {
                return nil
            }
            return Subject(identity: kept.identity, name: String(parts[1]), owner: owner)
        }
    }

    /// The place that a call is about: an agent's own memory, or a scope that the caller's agents share.
    private func place(_ parameters: RPCParameters, _ caller: Caller) async throws -> MemoryPlace {
        let scope = try parameters.optionalText("scope") ?? "self"
        let agent = try parameters.optionalText("agent_id")
        guard (1...128).contains(scope.utf8.count) else {
            throw AegisError(.usage, "invalid-params", "'scope' has 1 to 128 characters")
        }
        guard let agent else {
            guard scope != "self" else {
                throw AegisError(
                    .usage, "invalid-params", "'agent_id' is missing", hint: "'memory.list' lists whose memory there is"
                )
            }
            return MemoryDesk.shared(scope, owner: caller.uid)
        }
        let subject = try await subject(agent, caller)
        guard scope == "self" else { return MemoryDesk.shared(scope, owner: subject.owner) }
        guard let identity = subject.identity else {
            throw AegisError(
                .notFound, "memory-no-identity", "the agent '\(subject.name)' has no memory of its own",
                hint: "one that is to have it is persistent, or its manifest says memory: {persistent: true}")
        }
        return .own(identity)
    }

    private static func shown(_ record: MemoryRecord, score: Double? = nil) -> JSONValue {
        var fields: [JSONValue.Field] = [
            .init("memory_id", .string(record.id)), .init("content", .string(record.content)),
            .init("category", .string(record.category.rawValue)),
        ]
        if let score { fields.append(.init("relevance_score", .number("\((score * 10_000).rounded() / 10_000)"))) }
        fields += [
            .init("created_at", .string("\(record.createdAt)")), .init("used_at", .string("\(record.usedAt)")),
            .init("model", .string(record.model)),
        ]
        if let replaced = record.replaced { fields.append(.init("replaced", .string(replaced))) }
        if !record.metadata.isEmpty { fields.append(.init("metadata", .object(record.metadata))) }
        return .object(fields)
    }

    private static func category(_ parameters: RPCParameters) throws -> MemoryCategory? {
        try parameters.optionalText("category").map { word in try MemoryCategory(word: word) }
    }

    // MARK: Calls

    private static let queryFields = ["agent_id", "query", "limit", "category", "scope"]
    private static let listFields = ["agent_id", "scope", "category", "before", "limit"]
    private static let deleteFields = ["memory_id", "agent_id", "scope"]

    /// `memory.query`
    func query(_ parameters: RPCParameters, _ caller: Caller) async throws -> JSONValue {
        let query = MemoryQuery(
            try parameters.text("query"), category: try Self.category(parameters),
            limit: try parameters.optionalInteger("limit", in: 1...store.limits.results) ?? 5)
        let place = try await place(parameters, caller)
        let answer = try await store.query(query, in: place)
        let event = AuditEvent(.memoryQueried, ("uid", .number(caller.uid)))
        try agents.services.audit.record(MemoryTools.queried(event, query, answer, place, store.embedder.model))
        var fields: [JSONValue.Field] = [
            .init("results", .array(answer.matches.map { Self.shown($0.record, score: $0.score) })),
            .init("count", .number(answer.matches.count)),
        ]
        if answer.skipped > 0 { fields.append(.init("not_compared", .number(answer.skipped))) }
        return .object(fields)
    }

    /// `memory.list`: the places that there are, or the records of one, newest first.
    func list(_ parameters: RPCParameters, _ caller: Caller) async throws -> JSONValue {
        let isOfOne = try parameters.optionalText("agent_id") != nil || parameters.optionalText("scope") != nil
        guard isOfOne else { return ["places": .array(try await places(caller))] }
        let limit = try parameters.optionalInteger("limit", in: 1...1000) ?? 100
        let records = try await store.list(
            try await place(parameters, caller), category: try Self.category(parameters),
            before: try parameters.optionalText("before"), limit: limit)
        return [
            "memories": .array(records.map { Self.shown($0) }),
            "next": records.count < limit ? .null : records.last.map { .string($0.id) } ?? .null,
        ]
    }

    private func places(_ caller: Caller) async throws -> [JSONValue] {
        var subjects: [String: Subject] = [:]
        for one in try await kept(caller) { subjects[one.identity ?? ""] = one }
        for process in agents.directory.all where caller.uid == 0 || process.record.owner == caller.uid {
            guard let identity = try await desk.identity(of: process) else { continue }
            subjects[identity] = Subject(
                identity: identity, name: process.manifest.memory.isPersistent ? process.record.name : process.id,
                owner: process.record.owner)
        }
        return try await store.places().compactMap { summary in
            var fields: [JSONValue.Field]
            if summary.place.owner.isEmpty {
                let (owner, scope) = Self.owner(ofShared: summary.place.scope)
                guard caller.uid == 0 || owner == caller.uid else { return nil }
                fields = [.init("scope", .string(scope)), .init("owner", .number(owner))]
            } else {
                guard let subject = subjects.removeValue(forKey: summary.place.owner) else { return nil }
                fields = [
                    .init("agent_id", .string(subject.name)), .init("scope", "self"),
                    .init("owner", .number(subject.owner)),
                ]
            }
            fields += [
                .init("records", .number(summary.records)), .init("bytes", .number(summary.contentBytes)),
                .init("used_at", .string("\(summary.usedAt)")),
            ]
            return .object(fields)
        }
    }

    /// Whose a shared scope is, and what its user calls it.
    private static func owner(ofShared name: String) -> (UInt32, String) {
        let parts = name.split(separator: "/", maxSplits: 1)
        guard parts.count == 2, let owner = UInt32(parts[0]) else { return (0, name) }
        return (owner, String(parts[1]))
    }

    /// `memory.delete`
    func delete(_ parameters: RPCParameters, _ caller: Caller) async throws -> JSONValue {
        let id = try parameters.text("memory_id")
        let place = try await place(parameters, caller)
        try agents.services.audit.record(
            AuditEvent(
                .memoryDeleted, ("memory_id", .string(id)), ("place", .string("\(place)")),
                ("uid", .number(caller.uid))))
        let existed = try await store.delete(id, in: place, by: nil)
        return ["memory_id": .string(id), "status": "deleted", "existed": .bool(existed)]
    }

    /// `memory.reset`: all that an agent has for itself. What it has put into shared scopes stays there.
    func reset(_ parameters: RPCParameters, _ caller: Caller) async throws -> JSONValue {
        let subject = try await subject(try parameters.text("agent_id"), caller)
        guard let identity = subject.identity else { return ["name": .string(subject.name), "deleted": 0] }
        try agents.services.audit.record(
            AuditEvent(
                .memoryReset, ("name", .string(subject.name)), ("identity", .string(identity)),
                ("owner", .number(subject.owner)), ("uid", .number(caller.uid))))
        return ["name": .string(subject.name), "deleted": .number(try await store.reset(identity: identity))]
    }

    // MARK: Doors

    /// The methods on `agentd.sock`.
    package var methods: [JSONRPCMethod] {
        [
            rpcMethod(
                "memory.query", "agent_id, query, limit (5), category, scope (self)", known: Self.queryFields,
                positional: 2
            ) { try await query($0, $1) },
            rpcMethod(
                "memory.list", "agent_id, scope, category, before, limit (100)", known: Self.listFields, positional: 1
            ) { try await list($0, $1) },
            rpcMethod("memory.delete", "memory_id, agent_id, scope (self)", known: Self.deleteFields, positional: 2) {
                try await delete($0, $1)
            },
            rpcMethod("memory.reset", "agent_id", known: ["agent_id"], positional: 1) { try await reset($0, $1) },
        ]
    }

    /// The routes.
    package var routes: [Route] {
        [
            .json(
                .get, "/v1/memory", "List whose memory there is, or the records of an agent or scope",
                query: Self.listFields
            ) { try await list(try $0.parameters(Self.listFields, numbers: ["limit"]), $0.caller) },
            .json(.post, "/v1/memory/query", "Search: {agent_id | scope, query, limit?, category?}") { context in
                try await query(try await AgentRoutes.body(context, Self.queryFields), context.caller)
            },
            .json(.delete, "/v1/memory/{id}", "Forget one record", query: ["agent_id", "scope"]) { context in
                var named = context
                named.query["memory_id"] = context.parameter("id")
                return try await delete(try named.parameters(Self.deleteFields), context.caller)
            },
            .json(.post, "/v1/memory/reset", "Forget all that an agent has for itself: {agent_id}") { context in
                try await reset(try await AgentRoutes.body(context, ["agent_id"]), context.caller)
            },
        ]
    }
}
