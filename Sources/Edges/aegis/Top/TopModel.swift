package import AegisCore
package import AegisJSON

/// What `aegis top` shows, as the daemon's answers have it.
package struct TopModel: Sendable, Equatable {
    /// A live agent.
    package struct Agent: Sendable, Equatable {
        package var id: String
        package var name: String
        package var state: String
        package var model: String
        package var depth: Int
        /// Model calls of the turn that it works on.
        package var step: Int?
        /// Messages that wait for it.
        package var mail: Int64
        package var tokens: Int64
        /// nil is without limit.
        package var tokensLeft: Int64?
        package var money: String
    }
    /// Something that waits for an answer.
    package struct Approval: Sendable, Equatable {
        package var id: String
        package var agent: String
        package var agentName: String
        package var tool: String
        package var resource: String
        package var preview: String
        package var expires: Timestamp?
    }
    /// A goal that is not over, or was of late.
    package struct Goal: Sendable, Equatable {
        package var id: String
        package var state: String
        package var stop: String?
        package var agent: String?
        package var text: String
    }
    /// A tool call, oldest first.
    package struct Call: Sendable, Equatable {
        package var id: String
        package var agent: String
        package var time: String
        package var tool: String
        /// nil while it runs.
        package var isError: Bool?
        package var code: String?
        package var microseconds: Int64?
        package var input: String
    }

    package var time: Timestamp
    package var agents: [Agent] = []
    package var approvals: [Approval] = []
    package var goals: [Goal] = []
    package var calls: [Call] = []
    /// The last record of the ledger that was seen.
    package var seq: UInt64?
    /// Why what is shown is old.
    package var problem: String?

    /// Calls that are kept.
    static let remembered = 200

    /// Shows nothing yet.
    package init(time: Timestamp) { self.time = time }

    /// Takes in what the daemon says of agents, with their budgets.
    package mutating func take(agents items: [JSONValue], budgets: [JSONValue]) {
        let known = Dictionary(budgets.map { ($0["agent_id"]?.text ?? "", $0) }) { first, _ in first }
        let all = items.map { item in
            let id = item["id"]?.text ?? ""
            let budget = known[id]
            return (
                item["parent"]?.text,
                Agent(
                    id: id, name: item["name"]?.text ?? "", state: item["state"]?.text ?? "",
                    model: item["model"]?.text ?? "", depth: Int(item["depth"]?.integer ?? 0),
                    step: item["step"]?.integer.map { Int($0) }, mail: item["mail"]?.integer ?? 0,
                    tokens: budget?["used"]?["tokens"]?.integer ?? 0,
                    tokensLeft: budget?["left"]?["tokens"]?.integer, money: budget?["total"]?["usd"]?.text ?? "0")
            )
        }
        // Each before what it has spawned.
        agents = []
        func add(_ parent: String?) {
            for (above, agent) in all where above == parent && agents.count < all.count {
                agents.append(agent)
                add(agent.id)
            }
        }
        add(nil)
        // Whose parent is not to be seen.
        for (_, agent) in all where !agents.contains(where: { $0.id == agent.id }) { agents.append(agent) }
    }

    /// Takes in what waits for answers.
    package mutating func take(approvals items: [JSONValue]) {
        approvals = items.map { item in
            Approval(
                id: item["id"]?.text ?? "", agent: item["agent_id"]?.text ?? "",
                agentName: item["agent_name"]?.text ?? "", tool: item["tool"]?.text ?? "",
                resource: item["resource"]?.text ?? "", preview: item["preview"]?.text ?? "",
                expires: item["expires_at"]?.text.flatMap { Timestamp(parsing: $0) })
        }
    }

    /// Takes in goals: those under way, and then the newest.
    package mutating func take(goals items: [JSONValue]) {
        let all = items.map { item in
            Goal(
                id: item["id"]?.text ?? "", state: item["state"]?.text ?? "", stop: item["stop_reason"]?.text,
                agent: item["agent"]?.text, text: item["text"]?.text ?? "")
        }
        let open = all.filter { $0.state == "running" } + all.filter { $0.state == "queued" }
        let over = all.filter { $0.state != "running" && $0.state != "queued" }.reversed()
        goals = Array((open + over).prefix(100))
    }

    /// Takes in a record of the ledger that tells of a tool call.
    package mutating func take(event: JSONValue) {
        if let number = event["seq"]?.unsigned { seq = max(seq ?? 0, number) }
        let fields = event["fields"]
        guard let kind = event["kind"]?.text, let agent = event["agent"]?.text, let tool = fields?["tool"]?.text else {
            return
        }
        let id = fields?["call_id"]?.text ?? ""
        // Ids are an agent's own, and some models count them anew in each turn.
        let open = calls.lastIndex { $0.agent == agent && $0.id == id && $0.isError == nil }
        var call =
            open.map { calls.remove(at: $0) }
            ?? Call(
                id: id, agent: agent, time: event["time"]?.text ?? "", tool: tool, isError: nil, code: nil,
                microseconds: nil, input: "")
        switch kind {
        case "tool_invoked": call.input = fields?["input_preview"]?.text ?? ""
        case "tool_result":
            call.isError = fields?["success"]?.flag != true
            call.code = fields?["code"]?.text
            call.microseconds = fields?["microseconds"]?.integer
        case "tool_refused":
            call.isError = true
            call.code = fields?["code"]?.text
        default: return
        }
        calls.append(call)
        if calls.count > Self.remembered { calls.removeFirst(calls.count - Self.remembered) }
    }

    /// The name of an agent; its id when it is gone.
    package func name(of agent: String) -> String { agents.first { $0.id == agent }?.name ?? agent }
}
