package import AegisAudit
internal import AegisCore
package import AegisInstances
internal import AegisJSON
package import AegisWire

/// Finds the id of an agent or instance that is called by a word now: its name, or its id; nil when none is, which leaves the word the id
/// of anything that ever was. An agent comes first: its sandbox is an instance that is named as the agent's id.
package typealias AuditNames = @Sendable (_ word: String, Caller) async -> String?

/// The ledger on `agentd.sock`: `audit.tail`, `audit.head` and `audit.verify`, by the calls that the routes of REST make.
package struct AuditMethods: Sendable {
    /// Records of one answer.
    static let most = 1000

    private let audit: AuditService
    /// Whether somebody may ask about the whole node.
    private let isAdministrator: @Sendable (UInt32) -> Bool
    private let resolve: AuditNames

    /// Offers a ledger.
    ///
    /// - Parameters:
    ///   - audit: its calls.
    ///   - owner: the daemon's own user, who may see all of it as root may.
    ///   - resolve: finds the id of what is called by a name.
    package init(
        _ audit: AuditService, owner: UInt32, resolve: @escaping AuditNames
    ) {
        self.audit = audit
        self.resolve = resolve
        isAdministrator = { $0 == 0 || $0 == owner }
    }

    /// All methods.
    package var methods: [JSONRPCMethod] {
        [
            method(
                "audit.tail", "count (50), kinds, agent, trace, since, after (a cursor), wait (false)",
                known: ["count", "kinds", "agent", "trace", "since", "after", "wait"], positional: 1
            ) { try await tail($0, $1) },
            method("audit.head", "", known: []) { _, _ in try JSONValue(encoding: audit.head()) },
            method("audit.verify", "heads", known: ["heads"], positional: 1) { parameters, _ in
                let heads = try (parameters.optionalTexts("heads") ?? []).map { try LedgerHead(parsing: $0) }
                return try JSONValue(encoding: try await audit.verify(heads: heads))
            },
        ]
    }

    private func method(
        _ name: String, _ params: String, known: [String], positional: Int = 0,
        _ call: @escaping @Sendable (RPCParameters, Caller) async throws -> JSONValue
    ) -> JSONRPCMethod {
        rpcMethod(name, params, known: known, positional: positional) { parameters, caller in
            guard isAdministrator(caller.uid) else { throw administratorNeeded }
            return try await call(parameters, caller)
        }
    }

    /// The last records, or those after a cursor; with `wait` not before there is one. Whoever asks again and again with the
    /// cursor of the answer before follows the ledger and misses nothing.
    private func tail(_ parameters: RPCParameters, _ caller: Caller) async throws -> JSONValue {
        let filter = try await filter(parameters, caller)
        let waits = try parameters.optionalFlag("wait") ?? false
        let count = try parameters.optionalInteger("count", in: 0...Self.most)
        var batch: LedgerBatch
        if let text = try parameters.optionalText("after") {
            guard let cursor = LedgerCursor(text) else {
                throw AegisError(
                    .usage, "invalid-params", "'after' is no cursor", hint: "give the 'cursor' of the answer before")
            }
            guard count == nil else {
                throw AegisError(.usage, "invalid-params", "'count' and 'after' are both given", hint: "give one")
            }
            batch = try await audit.more(cursor, filter)
        } else {
            batch = try await audit.tail(count ?? 50, filter)
        }
        while waits, batch.lines.isEmpty, batch.lost == 0 {
            try Task.checkCancellation()
            let cursor = batch.cursor
            batch = try await audit.next(cursor, filter)
            // Nothing is there although there is more: no answer of ours had this cursor.
            guard batch.cursor != cursor || audit.ledger.head.seq <= cursor.seq else {
                throw AegisError(
                    .usage, "invalid-params", "'after' leads to no place in the ledger",
                    hint: "give the 'cursor' of the answer before")
            }
        }
        let records = try batch.lines.split(separator: 10).map { try JSONValue(parsing: $0) }
        var fields: [JSONValue.Field] = [
            .init("records", .array(records)), .init("cursor", .string("\(batch.cursor)")),
        ]
        if batch.hasMore { fields.append(.init("more", true)) }
        if batch.lost > 0 { fields.append(.init("lost", .number(batch.lost))) }
        return .object(fields)
    }

    private func filter(_ parameters: RPCParameters, _ caller: Caller) async throws -> AuditFilter {
        var filter = AuditFilter()
        if let kinds = parameters.optionalValue("kinds") {
            let texts = try kinds.text.map { [$0] } ?? parameters.optionalTexts("kinds") ?? []
            filter.kinds = try AuditKind.words(parsing: texts.joined(separator: ","))
        }
        if let agent = try parameters.optionalText("agent") { filter.agent = await resolve(agent, caller) ?? agent }
        filter.trace = try parameters.optionalText("trace")
        if let since = try parameters.optionalText("since") {
            guard let time = Timestamp(parsing: since) else {
                throw AegisError(
                    .usage, "invalid-params", "'since' is not a time", hint: "write it as 2026-11-20T10:30:00Z")
            }
            filter.since = time
        }
        return filter
    }
}

/// What is said to those who ask about what belongs to the whole node.
let administratorNeeded = AegisError(
    .denied, "administrator-needed", "this belongs to the whole node",
    hint: "ask as root or as the daemon's own user")
