internal import AegisAgents
internal import AegisCore
internal import AegisIO
internal import AegisInstances
internal import AegisJSON
internal import AegisTools
internal import AegisWire

/// Approvals: the same calls for JSON-RPC and REST.
extension AgentService {
    /// What waits for an answer, of the caller's agents.
    func pendingApprovals(after cursor: String?, _ caller: Caller) async throws -> ListPart {
        let approvals = approvals
        let open = try await BlockingPool.shared.run { try approvals.pending() }
        var own: [ApprovalRecord] = []
        for record in open where await isOwn(record, caller) { own.append(record) }
        return try ListPart(of: own, after: cursor, place: { ($0.id, $0.requestedAt) }, shown: \.json)
    }

    /// One of them with all that would be done, also after it was answered.
    func approval(_ id: String, _ caller: Caller) async throws -> JSONValue {
        try await ownApproval(id, caller).json(atMost: ApprovalRecord.longestWhole)
    }

    private func ownApproval(_ id: String, _ caller: Caller) async throws -> ApprovalRecord {
        let approvals = approvals
        guard let record = try await BlockingPool.shared.run({ try approvals.record(id) }), await isOwn(record, caller)
        else {
            throw AegisError.notFound(
                "approval-not-found", "there is no request for approval '\(Escaped.line(id, atMost: 64))'",
                hint: "'aegis approval list' lists those that are open")
        }
        return record
    }

    private func isOwn(_ record: ApprovalRecord, _ caller: Caller) async -> Bool {
        guard caller.uid != 0 else { return true }
        return (try? directory.find(record.request.agent))?.record.owner == caller.uid
    }

    /// Answers one.
    func respond(
        _ id: String, _ decision: String, reason: String?, forSession: Bool, door: String, _ caller: Caller
    ) async throws -> JSONValue {
        let words = ["approve", "deny"]
        guard words.contains(decision) else {
            throw AegisError(
                .usage, "invalid-params", "'\(decision)' is no decision",
                hint: nearest(decision, in: words).map { "did you mean '\($0)'?" } ?? "say approve or deny")
        }
        _ = try await ownApproval(id, caller)
        let approvals = approvals
        let approver = Approver(uid: caller.uid, door: door)
        return try await BlockingPool.shared.run {
            try approvals.respond(
                id, approve: decision == "approve", forSession: forSession, reason: reason, by: approver)
        }.json
    }
}

extension AgentMethods {
    /// `approval.list`, `approval.show`, `approval.respond`
    var approvalMethods: [JSONRPCMethod] {
        [
            method("approval.list", "cursor", known: ["cursor"], positional: 1) { service, parameters, caller in
                try await service.pendingApprovals(after: try parameters.optionalText("cursor"), caller).json("pending")
            },
            method("approval.show", "id", known: ["id"], positional: 1) { service, parameters, caller in
                try await service.approval(try parameters.text("id"), caller)
            },
            method(
                "approval.respond", "id, decision (approve | deny), reason, for_session (false)",
                known: ["id", "decision", "reason", "for_session"], positional: 2
            ) { service, parameters, caller in
                let record = try await service.respond(
                    try parameters.text("id"), try parameters.text("decision"),
                    reason: try parameters.optionalText("reason"),
                    forSession: try parameters.optionalFlag("for_session") ?? false, door: "json-rpc", caller)
                return ["ok": true, "approval": record]
            },
        ]
    }
}

extension AgentRoutes {
    /// `/v1/approvals`
    var approvalRoutes: [Route] {
        [
            .json(.get, "/v1/approvals", "List what waits for a person's answer", query: ["cursor"]) {
                [service] context in
                try await service.pendingApprovals(after: context.query["cursor"], context.caller).page
            },
            .json(.get, "/v1/approvals/{id}", "Show one with all that it would do") { [service] context in
                try await service.approval(context.parameter("id"), context.caller)
            },
            .json(
                .post, "/v1/approvals/{id}", "Answer: {decision: approve | deny, reason?, for_session?}"
            ) { [service] context in
                let body = try await Self.body(context, ["decision", "reason", "for_session"])
                return try await service.respond(
                    context.parameter("id"), try body.text("decision"), reason: try body.optionalText("reason"),
                    forSession: try body.optionalFlag("for_session") ?? false, door: "rest", context.caller)
            },
        ]
    }
}
