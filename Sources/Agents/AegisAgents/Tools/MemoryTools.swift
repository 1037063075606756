package import AegisAudit
internal import AegisCapabilities
internal import AegisCore
internal import AegisJSON
package import AegisMemory
package import AegisTools

/// The tools of memory, and whose memory each call means.
package struct MemoryTools: Sendable {
    /// Whose memory the caller has and how much. Told by the runtime, never by the model.
    package typealias Policy = @Sendable (ToolContext) async throws -> MemoryPolicy

    /// Where a call works.
    struct Place: Sendable {
        let store: MemoryStore
        let place: MemoryPlace
        let policy: MemoryPolicy
        /// The identity that stores and deletes.
        let author: String
    }

    private let store: MemoryStore
    private let policy: Policy

    /// Tools over a store.
    package init(_ store: MemoryStore, policy: @escaping Policy) {
        self.store = store
        self.policy = policy
    }

    /// `memory_store`, `memory_query` and `memory_delete`.
    package var all: [any Tool] {
        let limits = store.limits
        return [
            MemoryStoreTool(memory: self, limits: limits), MemoryQueryTool(memory: self, limits: limits),
            MemoryDeleteTool(memory: self),
        ]
    }

    /// What the schemas have in common.
    static let scope: JSONValue = [
        "type": "string", "minLength": 1, "maxLength": 128,
        "description": "'self' (the default) is your own memory; another name is a memory shared with other agents.",
    ]
    static let category: JSONValue = [
        "type": "string", "enum": .array(MemoryCategory.allCases.map { .string($0.rawValue) }),
    ]
    static let id: JSONValue = ["type": "string", "minLength": 1, "maxLength": 64]

    /// Runs what works in a place that the caller's grants allow.
    ///
    /// - Parameters:
    ///   - input: the arguments of the call.
    ///   - context: who calls.
    ///   - stores: what is to be stored, nil when nothing is: what a child knows is for who has spawned it, also where its scope
    ///     is shared. Its bytes count against the grant.
    ///   - body: what works there; it reserves the bytes of what it gives back.
    /// - Returns: what `body` returns.
    /// - Throws: a `Denial` without `memory: SCOPE`, or when it was revoked meanwhile; `memory-no-identity`, `memory-needs-identity`;
    ///   `memory-disabled`; what `body` throws.
    func inScope<T: Sendable>(
        _ input: JSONValue, _ context: ToolContext, stores: MemoryDraft? = nil,
        _ body: (Place, inout Admission) async throws -> T
    ) async throws -> T {
        let scope = input["scope"]?.text ?? "self"
        let needs = Amounts(bytes: stores.map { Self.size($0.content, $0.metadata) } ?? 0)
        var admission = try context.grants.admit(Request(.memory(scope: scope), needs: needs), by: context.holder)
        let policy: MemoryPolicy
        do { policy = try await self.policy(context) } catch {
            admission.refund()
            throw error
        }
        // A shared scope needs no memory of one's own: what is stored there is found again by others.
        guard let own = policy.identity ?? (scope == "self" ? nil : context.agent) else {
            admission.refund()
            throw AegisError(
                .denied, "memory-no-identity", "this agent has no memory",
                hint: "give what should be kept to the agent that started you, in your answer")
        }
        guard stores == nil || policy.identity != nil || context.parent == nil else {
            admission.refund()
            throw AegisError(
                .denied, "memory-needs-identity", "a child stores nothing: it has no identity that would outlive it",
                hint: "give what should be kept to the agent that started you, in your answer")
        }
        let place = scope == "self" ? .own(own) : MemoryDesk.shared(scope, owner: context.owner)
        let result: T
        do { result = try await body(Place(store: store, place: place, policy: policy, author: own), &admission) } catch
        {
            // What is too long to be told was looked for all the same; whatever else fails has stored and found nothing.
            if error is Denial { admission.settle() } else { admission.refund() }
            throw error
        }
        let used = admission.reserved
        admission.settle(used: used)
        return result
    }

    /// What a record counts for: its text and the fields of its own.
    static func size(_ content: String, _ metadata: [JSONValue.Field]) -> UInt64 {
        UInt64(content.utf8.count + (metadata.isEmpty ? 0 : JSONValue.object(metadata).canonical.count))
    }

    /// The record of a search: how much was asked and found, and never what.
    ///
    /// - Parameters:
    ///   - event: with who has searched.
    ///   - query: what was asked.
    ///   - answer: what was found.
    ///   - place: where.
    ///   - model: that compared them.
    /// - Returns: the event with all that.
    package static func queried(
        _ event: AuditEvent, _ query: MemoryQuery, _ answer: MemoryAnswer, _ place: MemoryPlace, _ model: String
    ) -> AuditEvent {
        var event = event
        event.fields += [
            .init("place", .string("\(place)")), .init("query_bytes", .number(query.text.utf8.count)),
            .init("results", .number(answer.matches.count)), .init("model", .string(model)),
        ]
        if let category = query.category { event.fields.append(.init("category", .string(category.rawValue))) }
        return event
    }

    static func json(_ match: MemoryMatch) -> JSONValue {
        let record = match.record
        var fields: [JSONValue.Field] = [
            .init("memory_id", .string(record.id)), .init("content", .string(record.content)),
            .init("category", .string(record.category.rawValue)),
            // Four digits: more would pretend an exactness that is not there.
            .init("relevance_score", .number("\((match.score * 10_000).rounded() / 10_000)")),
            .init("created_at", .string(record.createdAt.description)),
        ]
        if !record.metadata.isEmpty { fields.append(.init("metadata", .object(record.metadata))) }
        return .object(fields)
    }
}

/// `memory_store`
private struct MemoryStoreTool: Tool {
    let memory: MemoryTools
    let declaration: ToolDeclaration

    init(memory: MemoryTools, limits: MemoryLimits) {
        self.memory = memory
        declaration = ToolDeclaration(
            name: "memory_store",
            description:
                "Remembers one short text, to be found again with memory_query. Write a whole sentence with the names "
                + "that you would look for. At most \(limits.contentBytes) bytes unless your manifest says otherwise; the longest unused record makes room.",
            input: [
                "type": "object",
                "properties": [
                    "content": ["type": "string", "minLength": 1, "description": "What to remember."],
                    "category": MemoryTools.category,
                    "replaces": [
                        "type": "string", "minLength": 1, "maxLength": 64,
                        "description": "The memory_id of a record of yours that this one takes the place of.",
                    ],
                    "metadata": [
                        "type": "object",
                        "description": .string("Fields of your own, at most \(limits.metadataBytes) bytes."),
                    ],
                    "scope": MemoryTools.scope,
                ], "required": ["content", "category"], "additionalProperties": false,
            ], effects: .writes, isParallelSafe: true, resources: [.memory])
    }

    func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        let draft = MemoryDraft(
            input["content"]?.text ?? "", try MemoryCategory(word: input["category"]?.text ?? ""),
            replaces: input["replaces"]?.text, metadata: input["metadata"]?.fields ?? [])
        let (record, halt) = try await memory.inScope(input, context, stores: draft) { at, _ in
            // How much a shared scope holds is not for one of those who share it to say.
            let isOwn = !at.place.owner.isEmpty
            let record = try await at.store.store(
                draft, in: at.place, by: at.author, keeping: isOwn ? at.policy.records : nil,
                longest: at.policy.contentBytes, for: at.policy.payer)
            return (record, unrecorded(record, context))
        }
        return ToolReply(["memory_id": .string(record.id), "status": "stored"], halt: halt)
    }

    /// Tells what was stored.
    ///
    /// - Returns: why the agent must not go on, when that cannot be recorded: it is stored all the same.
    private func unrecorded(_ record: MemoryRecord, _ context: ToolContext) -> String? {
        var event = context.event(
            .memoryStored, ("memory_id", .string(record.id)), ("place", .string("\(record.place)")),
            ("category", .string(record.category.rawValue)), ("bytes", .number(record.content.utf8.count)),
            ("model", .string(record.model)))
        if let replaced = record.replaced { event.fields.append(.init("replaced", .string(replaced))) }
        do throws(AegisError) { try context.audit.record(event) } catch {
            return "what was stored could not be recorded: \(error.message)"
        }
        return nil
    }
}

/// `memory_query`
private struct MemoryQueryTool: Tool {
    let memory: MemoryTools
    let declaration: ToolDeclaration

    init(memory: MemoryTools, limits: MemoryLimits) {
        self.memory = memory
        declaration = ToolDeclaration(
            name: "memory_query",
            description:
                "Finds what was remembered, the best first, with a relevance_score from 0 to 1. What is found may be out of "
                + "date: check it before you rely on it.",
            input: [
                "type": "object",
                "properties": [
                    "query": [
                        "type": "string", "minLength": 1,
                        "description": "What you look for, in words that it may have.",
                    ],
                    "limit": [
                        "type": "integer", "minimum": 1, "maximum": .number(limits.results),
                        "description": "At most so many; 5.",
                    ],
                    "category": MemoryTools.category, "scope": MemoryTools.scope,
                ], "required": ["query"], "additionalProperties": false,
            ], effects: .reads, isIdempotent: true, isParallelSafe: true, resources: [.memory])
    }

    func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        let query = MemoryQuery(
            input["query"]?.text ?? "",
            category: try input["category"]?.text.map { word in try MemoryCategory(word: word) },
            limit: input["limit"]?.integer.map { Int(clamping: $0) } ?? 5)
        let answer = try await memory.inScope(input, context) { at, admission in
            let answer = try await at.store.query(query, in: at.place, for: at.policy.payer)
            // What is more than is left is not told.
            let size = answer.matches.reduce(0) { $0 + MemoryTools.size($1.record.content, $1.record.metadata) }
            try admission.reserve(Amounts(bytes: size))
            // What cannot be recorded is not told.
            try context.audit.record(
                MemoryTools.queried(context.event(.memoryQueried), query, answer, at.place, at.store.embedder.model))
            return answer
        }
        var fields: [JSONValue.Field] = [
            .init("results", .array(answer.matches.map(MemoryTools.json))),
            .init("count", .number(answer.matches.count)),
        ]
        if answer.skipped > 0 {
            fields.append(.init("not_compared", .number(answer.skipped)))
            fields.append(.init("note", "some records are still being prepared for search; ask again for them"))
        }
        return ToolReply(.object(fields))
    }
}

/// `memory_delete`
private struct MemoryDeleteTool: Tool {
    let memory: MemoryTools
    let declaration = ToolDeclaration(
        name: "memory_delete",
        description: "Forgets one record that you have stored. Deleting what is not there changes nothing.",
        input: [
            "type": "object", "properties": ["memory_id": MemoryTools.id, "scope": MemoryTools.scope],
            "required": ["memory_id"], "additionalProperties": false,
        ], effects: .writes, isIdempotent: true, isParallelSafe: true, resources: [.memory])

    func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        let id = input["memory_id"]?.text ?? ""
        let existed = try await memory.inScope(input, context) { at, _ in
            try await at.store.delete(id, in: at.place, by: at.author)
        }
        return ToolReply(["memory_id": .string(id), "status": "deleted", "existed": .bool(existed)])
    }
}
