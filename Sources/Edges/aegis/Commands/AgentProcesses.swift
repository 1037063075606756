internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisWire

/// The verbs for live agents.
enum AgentProcesses {
    static let commands = [spawn, list, status, run, reply, logs, stop, budget, grants, revoke]

    /// A file is one when there is one of that name, or when it looks like one; anything else is a deployed name.
    private static func source(_ word: String, _ context: Context) -> [JSONValue.Field] {
        let path = context.caller.absolute(word)
        let isFile =
            word.contains("/") || word.hasSuffix(".yaml") || word.hasSuffix(".yml")
            || context.caller.fileType(path) == .other
        return isFile ? AgentManifests.source(path) : [.init("name", .string(word))]
    }

    private static let spawn = Command(
        "agent spawn", "start an agent from a manifest",
        details: """
            The manifest is a file, or the name of a deployed one. With --message it is run once, its answer is printed, and it is
            gone; without, it lives until 'aegis agent stop'.
            """,
        arguments: [Argument("FILE|NAME", completion: .files)],
        options: [
            Option("message", "m", .value("TEXT"), "run it with this message, print the answer, stop it"), streams,
        ],
        examples: [
            Example("one that lives", "aegis agent spawn researcher.yaml"),
            Example("one answer", "aegis agent spawn researcher.yaml -m 'What is in /workspace?'"),
        ]
    ) { invocation, context in
        var fields = source(invocation.arguments[0], context)
        if let message = invocation["message"] { fields.append(.init("message", .string(message))) }
        guard invocation["message"] != nil else {
            let answer = try await context.client().call(.post, APIClient.Route("processes"), body: .object(fields))
            try await context.show(answer, invocation) { Plain.text(answer["id"]?.text ?? "") + "\n" }
            return 0
        }
        return try await Answers.wait(
            .post, APIClient.Route("processes"), .object(fields), agent: nil, waiting: [], invocation, context)
    }

    private static let streams = Option(
        "stream", .flag, "print what it says as it says it, as on a terminal, wherever it is printed")

    private static let list = Command(
        "agent ps", "list live agents",
        examples: [Example("ids only", "aegis agent ps --quiet")]
    ) { invocation, context in
        let items = try await context.client().list(APIClient.Route("processes"))
        try await context.showValues(items, invocation, quiet: { $0["id"]?.text ?? "" }) {
            AgentText.processes($0, now: context.now())
        }
        return 0
    }

    private static let status = Command(
        "agent status", "show a live agent", arguments: [Argument("ID|NAME")],
        examples: [Example("by its name", "aegis agent status researcher")]
    ) { invocation, context in
        let answer = try await context.client().call(.get, APIClient.Route("processes", invocation.arguments[0]))
        try await context.show(answer, invocation) { AgentText.process(answer) }
        return 0
    }

    private static let run = Command(
        "agent run", "give a live agent a message and print its answer",
        details: """
            Ends with 0 when the turn was completed, with 1 when it was cut, cancelled, over its budget or failed; why is said on
            stderr. With --detach the trace is printed, by which 'aegis agent reply' finds the answer. On a terminal all that it
            says is printed while it says it, and stderr has the tools that it calls; elsewhere only the answer that it ends with.
            """,
        arguments: [Argument("ID|NAME"), Argument("TEXT")],
        options: [Option("detach", "d", .flag, "do not wait for the answer"), streams],
        examples: [
            Example("a question", "aegis agent run researcher 'What is new?'"),
            Example("for programs, as it comes", "aegis agent run --stream --output json researcher 'What is new?'"),
        ]
    ) { invocation, context in
        let route = APIClient.Route("processes", invocation.arguments[0], "messages")
        let body: JSONValue = ["message": .string(invocation.arguments[1])]
        guard !invocation.has("detach") else {
            let answer = try await context.client().call(.post, route, body: body)
            try await context.show(answer, invocation) { Plain.text(answer["trace_id"]?.text ?? "") + "\n" }
            return 0
        }
        return try await Answers.wait(.post, route, body, agent: invocation.arguments[0], invocation, context)
    }

    private static let reply = Command(
        "agent reply", "print what came of a message", arguments: [Argument("ID|NAME"), Argument("TRACE")],
        options: [Option("wait", .flag, "wait until it is there"), streams],
        examples: [Example("later", "aegis agent reply researcher t-0123456789abcdef --wait")]
    ) { invocation, context in
        let route = APIClient.Route("processes", invocation.arguments[0], "messages", invocation.arguments[1])
        if invocation.has("wait") {
            return try await Answers.wait(.get, route, nil, agent: invocation.arguments[0], invocation, context)
        }
        let answer = try await context.client().call(.get, route)
        guard answer["status"]?.text == "ended" else {
            try await context.show(answer, invocation) { "It is still at work\n" }
            return 0
        }
        return try await Answers.print(answer, invocation, context)
    }

    private static let logs = Command(
        "agent logs", "print what an agent thought, called and got",
        arguments: [Argument("ID|NAME")],
        options: [
            Option("follow", "f", .flag, "go on with what comes"),
            Option("stream", .flag, "with --follow: also what it says while it says it, as on a terminal"),
        ],
        examples: [Example("as it happens", "aegis agent logs researcher --follow")]
    ) { invocation, context in
        try await printSteps(of: invocation.arguments[0], invocation, context)
    }

    /// Prints the steps of an agent, and with `--follow` those that come.
    static func printSteps(of agent: String, _ invocation: Invocation, _ context: Context) async throws -> Int32 {
        var last: Int64?
        while true {
            let before = last
            do {
                try await printSteps(of: agent, after: &last, invocation, context)
                return 0
            } catch let error as AegisError
                where error.code == "connection-lost" && invocation.has("follow") && last != before
            {
                // Cut off while whoever reads this was away, as a pager is: it goes on where it was.
            }
        }
    }

    private static func printSteps(
        of agent: String, after last: inout Int64?, _ invocation: Invocation, _ context: Context
    ) async throws {
        var query = invocation.has("follow") ? [("follow", "1")] : []
        if let last { query.append(("after", "\(last)")) }
        let isLive = invocation.has("follow") && Answers.areLive(invocation, context)
        if isLive { query.append(("deltas", "1")) }
        let response = try await context.client().stream(
            .get, APIClient.Route("processes", agent, "events", query: query))
        var lines = LineReader(response)
        var text = StepsText()
        while let json = try await lines.next() {
            if json["kind"] == nil, let error = json["error"], error != .null { throw StreamJSON.error(error) }
            switch invocation.output {
            case .json: try await context.console.print(json.compact + [10])
            case .yaml: try await context.console.print("---\n" + json.yaml)
            case .text: try await context.console.print(text.take(json, now: "\(context.now())"))
            }
            last = json["seq"]?.integer ?? last
        }
    }

    private static let stop = Command(
        "agent stop", "stop agents, and all that they have spawned",
        arguments: [Argument("ID|NAME", .many)], examples: [Example("one", "aegis agent stop researcher")]
    ) { invocation, context in
        try await InstanceActions.eachInstance(invocation, context, "stopped") { client, agent throws(AegisError) in
            try await client.call(.delete, APIClient.Route("processes", agent))
        }
    }

    private static let budget = Command(
        "agent budget", "show what agents have used, what is held for calls under way, and what is left",
        details:
            "An agent's numbers hold what its children use; what is left is the least that it and those above it have.",
        arguments: [Argument("ID|NAME", .optional)],
        examples: [Example("all", "aegis agent budget"), Example("one", "aegis agent budget researcher")]
    ) { invocation, context in
        let client = try await context.client()
        guard let agent = invocation.arguments.first else {
            let items = try await client.list(APIClient.Route("budgets"))
            try await context.showValues(items, invocation, quiet: { $0["agent_id"]?.text ?? "" }) {
                AgentText.budgets($0)
            }
            return 0
        }
        let answer = try await client.call(.get, APIClient.Route("processes", agent, "budget"))
        try await context.show(answer, invocation) { AgentText.budget(answer) }
        return 0
    }

    private static let grants = Command(
        "agent grants", "show what an agent may do, and what it used of it", arguments: [Argument("ID|NAME")],
        examples: [Example("one", "aegis agent grants researcher")]
    ) { invocation, context in
        let items = try await context.client().list(APIClient.Route("processes", invocation.arguments[0], "grants"))
        try await context.showValues(items, invocation, quiet: { $0["id"]?.text ?? "" }) { AgentText.grants($0) }
        return 0
    }

    private static let revoke = Command(
        "agent revoke", "take back what an agent may do, at once, also from whom it has handed it on to",
        details: "CAPABILITY is written as in the manifest, or a grant's id; without it everything is taken back.",
        arguments: [Argument("ID|NAME"), Argument("CAPABILITY", .optional)],
        examples: [
            Example("one", "aegis agent revoke researcher 'tool: web_fetch'"),
            Example("everything", "aegis agent revoke researcher"),
        ]
    ) { invocation, context in
        let client = try await context.client()
        let agent = invocation.arguments[0]
        var route = APIClient.Route("processes", agent, "grants")
        if invocation.arguments.count > 1 {
            route = APIClient.Route("processes", agent, "grants", invocation.arguments[1])
        }
        let answer = try await client.call(.delete, route)
        try await context.show(answer, invocation) {
            "\(answer["count"]?.unsigned ?? 0) taken back from \(Plain.text(answer["agent_id"]?.text ?? agent))\n"
        }
        return 0
    }
}
