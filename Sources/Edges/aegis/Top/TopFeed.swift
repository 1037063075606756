internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisWire

/// Brings what `aegis top` shows: a few short questions to the daemon.
struct TopFeed: Sendable {
    let client: APIClient
    let now: @Sendable () -> Timestamp

    /// Records of the ledger that are looked through for tool calls at first.
    private static let tail = 2000
    private static let calls = "tool_invoked,tool_result,tool_refused"

    /// Everything as it is now; what is known of tool calls is gone on with.
    func refreshed(_ old: TopModel) async throws(AegisError) -> TopModel {
        var model = old
        model.take(
            agents: try await client.list(APIClient.Route("processes")),
            budgets: try await client.list(APIClient.Route("budgets")))
        model.take(approvals: try await client.list(APIClient.Route("approvals")))
        model.take(goals: try await client.list(APIClient.Route("goals")))
        let place = model.seq.map { ("after", "\($0)") } ?? ("tail", "\(Self.tail)")
        for event in try await lines(APIClient.Route("events", query: [("types", Self.calls), place])) {
            model.take(event: event)
        }
        model.time = now()
        model.problem = nil
        return model
    }

    /// The steps of an agent after one, as text, and the number of the last.
    func steps(of agent: String, after last: Int64?) async throws(AegisError) -> (lines: [String], last: Int64?) {
        let query = last.map { [("after", "\($0)")] } ?? []
        var last = last
        var lines: [String] = []
        for step in try await self.lines(APIClient.Route("processes", agent, "events", query: query)) {
            last = step["seq"]?.integer ?? last
            let text = AgentText.step(step)
            if !text.isEmpty { lines += text.split(separator: "\n").map(String.init) }
        }
        return (lines, last)
    }

    /// What an agent says while it says it, and the steps that follow one.
    ///
    /// - Parameters:
    ///   - agent: which.
    ///   - last: the step.
    ///   - hear: gets each line; gives whether to go on.
    /// - Throws: what the daemon says.
    func hear(
        _ agent: String, after last: Int64?, _ hear: (JSONValue) async throws -> Bool
    ) async throws {
        let query = [("follow", "1"), ("deltas", "1")] + (last.map { [("after", "\($0)")] } ?? [])
        var reader = LineReader(
            try await client.stream(.get, APIClient.Route("processes", agent, "events", query: query)))
        while let line = try await reader.next() {
            if line["kind"] == nil, let error = line["error"], error != .null { throw StreamJSON.error(error) }
            guard try await hear(line) else { return }
        }
    }

    /// Answers an approval.
    func answer(_ approval: String, approve: Bool) async throws(AegisError) {
        let decision: JSONValue = ["decision": approve ? "approve" : "deny"]
        try await client.call(.post, APIClient.Route("approvals", approval), body: decision)
    }

    private func lines(_ route: APIClient.Route) async throws(AegisError) -> [JSONValue] {
        var reader = LineReader(try await client.stream(.get, route))
        var found: [JSONValue] = []
        while let line = try await reader.next() {
            if line["kind"] == nil, let error = line["error"], error != .null { throw StreamJSON.error(error) }
            found.append(line)
        }
        return found
    }
}
