internal import AegisAgents
internal import AegisCore
internal import AegisFiles
internal import AegisInstances
internal import AegisJSON
internal import AegisWire

/// Goals: the same calls for JSON-RPC and REST.
extension AgentService {
    static let goalFields = [
        "goal", "text", "name", "model", "allow", "grants", "budget_tokens", "budget_usd", "workspace", "max_time",
    ]

    /// Takes a goal.
    func submit(_ parameters: RPCParameters, _ caller: Caller) async throws -> JSONValue {
        guard let text = try parameters.optionalText("goal") ?? parameters.optionalText("text") else {
            throw AegisError(.usage, "invalid-params", "'goal' is missing", hint: "say what is to be done")
        }
        var options = SpawnOptions()
        options.model = try parameters.optionalText("model")
        options.grants =
            (try parameters.optionalTexts("allow") ?? []).map { "network: \($0)" }
            + (try parameters.optionalTexts("grants") ?? [])
        options.maxTokens = try parameters.optionalInteger("budget_tokens", in: 1...1_000_000_000_000)
            .map { UInt64($0) }
        if let money = parameters.optionalValue("budget_usd") {
            guard let dollars = money.double, dollars > 0, dollars <= 1_000_000 else {
                throw AegisError(.usage, "invalid-params", "'budget_usd' is not a number above 0, at most 1000000")
            }
            options.maxMicroUSD = UInt64((dollars * 1_000_000).rounded())
        }
        let workspace = try parameters.optionalText("workspace")
        // What the caller may not work in is said now.
        if let workspace { _ = try await folder(workspace, caller) }
        let time = try parameters.optionalText("max_time").map { text throws(AegisError) in
            try TimeSpan(parsing: text)
        }
        guard time.map({ $0.milliseconds > 0 }) ?? true else {
            throw AegisError(.usage, "invalid-params", "'max_time' is no time at all", hint: "write 30m, 2h or 90s")
        }
        let goal = try await goals.submit(
            text, owner: caller.uid, group: caller.gid, options: options, manifest: try parameters.optionalText("name"),
            workspace: workspace, maxTime: time)
        return try Self.shown(goal)
    }

    /// The manifest that comes with Aegis, and whether it is the one that takes goals here. What the configuration names in its
    /// place is the operator's file.
    var goalManifest: JSONValue { ["manifest": .string(shipped.text), "in_use": .bool(shipped.isInUse)] }

    /// Goals that the caller may see, oldest first: each with the beginning of its text, and without its response.
    func goalList(after cursor: String?, _ caller: Caller) async throws -> ListPart {
        let own = await goals.all.filter { caller.uid == 0 || $0.owner == caller.uid }
        return try ListPart(of: own, after: cursor, place: { ($0.id, $0.createdAt) }, shown: Self.brief)
    }

    private static func brief(_ goal: Goal) throws -> JSONValue {
        var goal = goal
        goal.response = nil
        // Whole characters, as far as they go.
        var bytes = 0
        goal.text = String(
            goal.text.prefix { character in
                bytes += character.utf8.count
                return bytes <= longestText
            })
        return try shown(goal)
    }

    /// Of the texts of goals in a list, in bytes.
    private static let longestText = 1024

    /// A goal as its owner sees it: what it is worked on by is read where that is deployed.
    private static func shown(_ goal: Goal) throws -> JSONValue {
        var goal = goal
        goal.source = nil
        return try JSONValue(encoding: goal)
    }

    private func own(_ word: String, _ caller: Caller) async throws -> Goal {
        let goal = try await goals.find(word)
        guard caller.uid == 0 || goal.owner == caller.uid else {
            throw AegisError.notFound("goal-not-found", "there is no goal '\(word)'")
        }
        return goal
    }

    /// One goal, now or once it is over.
    func goal(_ word: String, wait: Bool, _ caller: Caller) async throws -> JSONValue {
        let goal = try await own(word, caller)
        guard wait else { return try Self.shown(goal) }
        guard let over = try await goals.result(of: goal.id) else { throw CancellationError() }
        return try Self.shown(over)
    }

    /// The workspace of a goal, for its owner to read.
    ///
    /// - Throws: `goal-not-found`; `goal-queued` while nobody works on it.
    func files(ofGoal word: String, _ caller: Caller) async throws -> HostTree {
        let goal = try await own(word, caller)
        guard let agent = goal.agent else {
            throw AegisError.conflict("goal-queued", "nobody works on it yet", hint: "try again in a while")
        }
        var record = AgentRecord(
            id: agent, name: agent, manifest: "", parent: nil, depth: 0, tree: agent, owner: goal.owner,
            group: goal.group, created: goal.createdAt, isPersistent: false)
        record.workspace = goal.workspace
        guard let scope = await services.files(record), let root = scope.workspace else {
            throw AegisError.notFound("path-not-found", "the workspace of \(goal.id) is gone")
        }
        return HostTree(
            target: FileScope.workspaceName, root: root, readOnly: true, owner: (goal.owner, goal.group),
            identity: scope.workspaceIdentity)
    }

    /// Ends a goal and its agents.
    func cancelGoal(_ word: String, _ caller: Caller) async throws -> JSONValue {
        try Self.shown(try await goals.cancel(try await own(word, caller).id))
    }
}

extension AgentMethods {
    /// `goal.submit`, `goal.manifest`, `goal.list`, `goal.show`, `goal.cancel`
    var goalMethods: [JSONRPCMethod] {
        [
            method(
                "goal.submit",
                "goal, name (deployed manifest), model, allow, grants, budget_tokens, budget_usd, workspace, max_time",
                known: AgentService.goalFields
            ) { service, parameters, caller in try await service.submit(parameters, caller) },
            method("goal.manifest", "", known: []) { service, _, _ in service.goalManifest },
            method("goal.list", "cursor", known: ["cursor"], positional: 1) { service, parameters, caller in
                try await service.goalList(after: try parameters.optionalText("cursor"), caller).json("goals")
            },
            method("goal.show", "goal_id, wait (false)", known: ["goal_id", "wait"], positional: 1) {
                service, parameters, caller in
                try await service.goal(
                    try parameters.text("goal_id"), wait: try parameters.optionalFlag("wait") ?? false, caller)
            },
            method("goal.cancel", "goal_id", known: ["goal_id"], positional: 1) { service, parameters, caller in
                try await service.cancelGoal(try parameters.text("goal_id"), caller)
            },
        ]
    }
}

extension AgentRoutes {
    /// `/v1/goals`, `/v1/bootstrap`
    var goalRoutes: [Route] {
        [
            .json(.post, "/v1/goals", "Hand over a goal: {goal, model?, allow?, budget_tokens?, ...}", status: 201) {
                [service] context in
                try await service.submit(try await Self.body(context, AgentService.goalFields), context.caller)
            },
            .json(.get, "/v1/bootstrap", "The manifest that comes with Aegis for those who take goals") { [service] _ in
                service.goalManifest
            },
            .json(
                .get, "/v1/goals", "List goals, with the beginnings of their texts and without their responses",
                query: ["cursor"]
            ) { [service] context in
                try await service.goalList(after: context.query["cursor"], context.caller).page
            },
            .json(.get, "/v1/goals/{id}", "Show a goal", query: ["wait"]) { [service] context in
                try await service.goal(context.parameter("id"), wait: try context.flag("wait"), context.caller)
            },
            Route(
                .get, "/v1/goals/{id}/files", "Read a file or tree of a goal's workspace as a tar stream",
                query: ["path"]
            ) { [service] context, writer in
                guard let path = context.query["path"] else { throw AegisError.usage("'path' is missing") }
                let tree = try await service.files(ofGoal: context.parameter("id"), context.caller)
                guard let (found, rest) = HostTree.find(path, in: [tree]) else {
                    throw AegisError.notFound(
                        "path-not-found", "'\(path)' is not in the workspace", hint: "for example /workspace/output")
                }
                try await HostFiles(tree: found, path: rest).send(writer)
            },
            .json(.delete, "/v1/goals/{id}", "Cancel a goal: its agents are stopped") { [service] context in
                try await service.cancelGoal(context.parameter("id"), context.caller)
            },
        ]
    }
}
