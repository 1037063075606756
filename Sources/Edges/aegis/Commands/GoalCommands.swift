internal import AegisClient
internal import AegisCore
internal import AegisIO
internal import AegisJSON
internal import AegisWire

/// `aegis goal`: hands a goal over and waits for what comes of it; and the verbs for goals that were handed over.
enum GoalCommands {
    static let commands = [submit, list, show, cancel, logs, manifest]

    private static let submit = Command(
        "goal", "hand a goal to a bootstrap agent, which plans, spawns others, and answers",
        details: """
            It gets a fresh workspace, no network, no tools of MCP servers, the model 'default' and a million tokens, unless told
            otherwise.
            Programs of its agents run in sandboxes. Ctrl+C cancels the goal and stops all its agents. Ends with 0 when it was
            worked on to its end, else with 1.
            A goal that is one of the words below comes after '--'.
            """,
        arguments: [Argument("TEXT")],
        options: [
            Option("manifest", .value("NAME"), "a deployed manifest that takes it"),
            Option("model", .value("ALIAS"), "another model"),
            Option("allow", .values("HOST"), "a host that its agents may reach"),
            Option("grant", .values("CAPABILITY"), "what else its agents may, as 'tool: mcp.files.read'"),
            Option("workspace", .value("DIR"), "a folder of yours that its agents work in"),
            Option("artifacts", .value("DIR"), "copy /workspace/output to DIR at the end"),
            Option("max-time", .value("TIME"), "end it after that time"),
            Option("budget-tokens", .value("N"), "tokens that it may use in all, as 500000 or 500k"),
            Option("budget-usd", .value("X"), "dollars that it may use in all"),
            Option("follow", "f", .flag, "tell on stderr what its bootstrap agent does"),
            Option("stream", .flag, "with --follow: also what it says while it says it, as on a terminal"),
            Option("detach", "d", .flag, "print its id and do not wait"),
        ],
        examples: [
            Example("wait for the answer", "aegis goal 'Write a report on the files in /workspace'"),
            Example("on a folder of yours", "aegis goal --workspace . --follow 'Find out why the tests fail'"),
            Example("later", "aegis goal --detach --budget-tokens 200k 'Find the bug'"),
        ], run: submit)

    @Sendable private static func submit(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        var fields: [JSONValue.Field] = [.init("goal", .string(invocation.arguments[0]))]
        if let name = invocation["manifest"] {
            guard !name.contains("/"), !name.hasSuffix(".yaml"), !name.hasSuffix(".yml") else {
                // A goal outlives this program and may outlive the file.
                throw AegisError.usage(
                    "'\(name)' is a file, and a goal is taken by a manifest that is deployed",
                    hint: "aegis agent deploy \(name), and then --manifest with the name in it")
            }
            fields.append(.init("name", .string(name)))
        }
        if let model = invocation["model"] { fields.append(.init("model", .string(model))) }
        let hosts = invocation.all("allow")
        if !hosts.isEmpty { fields.append(.init("allow", .array(hosts.map { .string($0) }))) }
        let grants = invocation.all("grant")
        if !grants.isEmpty { fields.append(.init("grants", .array(grants.map { .string($0) }))) }
        for (option, field) in [("budget-tokens", "budget_tokens"), ("budget-usd", "budget_usd")] {
            guard let text = invocation[option] else { continue }
            guard let number = Self.amount(text, of: option) else {
                throw AegisError.usage(
                    "'\(text)' is not a number", hint: "write --\(option) \(option == "budget-usd" ? "0.50" : "500k")")
            }
            fields.append(.init(field, number))
        }
        if let folder = invocation["workspace"] {
            fields.append(.init("workspace", .string(context.caller.absolute(folder))))
        }
        if let time = invocation["max-time"] { fields.append(.init("max_time", .string(time))) }
        let artifacts = try ArtifactSpec.all(invocation, context.caller)
        try ArtifactPlace.check(artifacts)
        let client = try await context.client()
        // From before the goal is there: who interrupts this wants it to end.
        let signals = try invocation.has("detach") ? nil : SignalSource([2, 15, 1], on: context.loop)
        defer { signals?.close() }
        let goal = try await client.call(.post, APIClient.Route("goals"), body: .object(fields))
        let id = goal["id"]?.text ?? ""
        guard !invocation.has("detach") else {
            try await context.show(goal, invocation) { Plain.text(id) + "\n" }
            return 0
        }
        guard
            let over = try await wait(
                id, client, signals, isFollowing: invocation.has("follow"),
                isLive: invocation.has("stream") || context.console.errIsTerminal, context)
        else {
            return 130
        }
        if !artifacts.isEmpty {
            try await ArtifactFetch(
                context: context, transfer: FileTransfer(client, goal: id), maker: "the goal", quiet: invocation.quiet
            ).all(artifacts)
        }
        return try await result(over, invocation, context)
    }

    /// The number of an option; tokens also as `500k` or `2M`, as in manifests.
    private static func amount(_ text: String, of option: String) -> JSONValue? {
        let factor = option != "budget-tokens" ? 1 : text.hasSuffix("k") ? 1000 : text.hasSuffix("M") ? 1_000_000 : 1
        if factor > 1 {
            guard let number = Int(text.dropLast()), number > 0, number <= 1_000_000_000 else { return nil }
            return .number(number * factor)
        }
        guard let number = try? JSONValue(parsing: text.utf8), case .number = number else { return nil }
        return number
    }

    /// Waits until a goal is over.
    ///
    /// - Returns: the goal; nil when a signal came first, and it was cancelled.
    private static func wait(
        _ id: String, _ client: APIClient, _ signals: SignalSource?, isFollowing: Bool, isLive: Bool, _ context: Context
    ) async throws -> JSONValue? {
        let over = try await withThrowingTaskGroup(of: JSONValue?.self) { group in
            group.addTask {
                if isFollowing { try await follow(id, client, isLive: isLive, context) }
                return try await client.call(.get, APIClient.Route("goals", id, query: [("wait", "1")]))
            }
            if let signals {
                group.addTask {
                    _ = try await signals.next()
                    return nil
                }
            }
            defer { group.cancelAll() }
            return try await group.next() ?? nil
        }
        guard over == nil else { return over }
        try await client.call(.delete, APIClient.Route("goals", id))
        await context.console.say("aegis: goal \(Plain.text(id)) was cancelled, and its agents were stopped\n")
        return nil
    }

    /// Tells what the bootstrap agent of a goal does, until it has done it.
    private static func follow(
        _ id: String, _ client: APIClient, isLive: Bool, _ context: Context
    ) async throws {
        var goal = try await client.call(.get, APIClient.Route("goals", id))
        // Others may be before it in the queue.
        while goal["agent"]?.text == nil, goal["state"]?.text == "queued" {
            try await Task.sleep(for: .milliseconds(200))
            goal = try await client.call(.get, APIClient.Route("goals", id))
        }
        guard let agent = goal["agent"]?.text else { return }
        var last: Int64?
        while true {
            let before = last
            do { return try await tellSteps(of: agent, after: &last, isLive: isLive, client, context) } catch let error
                as AegisError
                where error.code == "connection-lost" && last != before
            {
                // Cut off while nobody read, as at a terminal that was stopped: it goes on where it was.
            }
        }
    }

    private static func tellSteps(
        of agent: String, after last: inout Int64?, isLive: Bool, _ client: APIClient, _ context: Context
    ) async throws {
        let query =
            [("follow", "1")] + (isLive ? [("deltas", "1")] : []) + (last.map { [("after", "\($0)")] } ?? [])
        var text = StepsText()
        var lines = LineReader(
            try await client.stream(.get, APIClient.Route("processes", agent, "events", query: query)))
        while let json = try await lines.next() {
            if json["kind"] == nil, let error = json["error"], error != .null { throw StreamJSON.error(error) }
            await context.console.say(text.take(json, now: "\(context.now())"))
            last = json["seq"]?.integer ?? last
        }
    }

    private static func result(
        _ goal: JSONValue, _ invocation: Invocation, _ context: Context
    ) async throws -> Int32 {
        try await context.show(goal, invocation) { Plain.block(goal["response"]?.text ?? "") }
        let stop = goal["stop_reason"]?.text ?? goal["state"]?.text ?? ""
        guard stop != "complete" else { return 0 }
        let why = goal["error"]?["message"]?.text.map { ": \(Plain.text($0))" } ?? ""
        if invocation.output == .text {
            let hint = goal["error"]?["hint"]?.text.map { "  hint: \(Plain.text($0))\n" } ?? ""
            await context.console.say("aegis: the goal ended with \(Plain.text(stop))\(why)\n\(hint)")
        }
        return 1
    }

    private static let list = Command(
        "goal list", "list goals, oldest first", examples: [Example("ids only", "aegis goal list --quiet")]
    ) { invocation, context in
        let items = try await context.client().list(APIClient.Route("goals"))
        try await context.showValues(items, invocation, quiet: { $0["id"]?.text ?? "" }) { AgentText.goals($0) }
        return 0
    }

    private static let manifest = Command(
        "goal manifest", "print the manifest that comes with Aegis for those who take goals",
        details: """
            A start for one of your own: change it, deploy it, and name it with 'aegis goal --manifest', or let the configuration
            name its file (agents.bootstrap_manifest).
            """, examples: [Example("as text", "aegis goal manifest")]
    ) { invocation, context in
        let answer = try await context.client().call(.get, APIClient.Route("bootstrap"))
        try await context.show(answer, invocation) { Plain.block(answer["manifest"]?.text ?? "") }
        if invocation.output == .text, answer["in_use"]?.flag == false {
            await context.console.say(
                "aegis: goals are taken by another one here, which the configuration names (agents.bootstrap_manifest)\n"
            )
        }
        return 0
    }

    private static let show = Command(
        "goal show", "show a goal and what came of it", arguments: [Argument("ID")],
        examples: [Example("by the beginning of its id", "aegis goal show goal-03")]
    ) { invocation, context in
        let answer = try await context.client().call(.get, APIClient.Route("goals", invocation.arguments[0]))
        try await context.show(answer, invocation) { AgentText.goal(answer) }
        return 0
    }

    private static let cancel = Command(
        "goal cancel", "end goals, and stop their agents", arguments: [Argument("ID", .many)],
        examples: [Example("one", "aegis goal cancel goal-0123456789abcdef")]
    ) { invocation, context in
        try await InstanceActions.eachInstance(invocation, context, "cancelled") { client, goal throws(AegisError) in
            try await client.call(.delete, APIClient.Route("goals", goal))
        }
    }

    private static let logs = Command(
        "goal logs", "print what a goal's bootstrap agent thought, called and got", arguments: [Argument("ID")],
        options: [
            Option("follow", "f", .flag, "go on with what comes"),
            Option("stream", .flag, "with --follow: also what it says while it says it, as on a terminal"),
        ],
        examples: [Example("as it happens", "aegis goal logs goal-03 --follow")]
    ) { invocation, context in
        let client = try await context.client()
        let goal = try await client.call(.get, APIClient.Route("goals", invocation.arguments[0]))
        guard let agent = goal["agent"]?.text else {
            throw AegisError.conflict("goal-queued", "nobody works on it yet", hint: "try again in a while")
        }
        return try await AgentProcesses.printSteps(of: agent, invocation, context)
    }
}
