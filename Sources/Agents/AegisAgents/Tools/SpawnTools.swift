internal import AegisCapabilities
internal import AegisConfig
internal import AegisCore
internal import AegisInference
package import AegisJSON
package import AegisTools

/// One child: spawned with a part of its parent's grants, run with one message, and removed.
struct ChildRun: Sendable {
    let directory: AgentDirectory
    let parent: AgentProcess
    /// Is told what it uses of models.
    let spending: CallSpending

    struct Order: Sendable {
        var manifest: String
        var message: String
        var findings: String?
    }

    /// Does the work of a call within what is left of the grant that allows it: a child that is begun ends where that ends.
    func bounded<Result>(_ body: () async throws -> Result) async throws -> Result {
        guard let bound = spending.bound else { return try await body() }
        let models = directory.services.models
        try models.open(bound)
        spending.whenCounted { models.close(bound, counted: $0) }
        return try await body()
    }

    /// Errors that another try would meet again: nothing that it does changes them.
    private static let lasting: Set = ["budget-needs-price", "grant-needs-price", "model-answer-too-large"]

    /// Runs a child; when its turn ends with an error it is tried once more, as a new one with what is left of its grants' limits.
    func run(_ order: Order) async throws -> JSONValue {
        var message = order.message
        if let findings = order.findings {
            message = try Frame.message(
                message, findings: findings, from: parent.record.name, mark: Frame.newMark())
        }
        let file = ConfigFile(name: "manifest", bytes: Array(order.manifest.utf8))
        let first = try await runOnce(file, message)
        let isLasting = first.result.problem.map { Self.lasting.contains($0.code) } ?? false
        guard first.result.stop == .error, !isLasting, !Task.isCancelled else {
            return Self.answer(first.id, first.result)
        }
        let second: (id: String, result: TurnResult)
        do { second = try await runOnce(file, message) } catch {
            return Self.answer(first.id, first.result)
        }
        var result = second.result
        result.usage += first.result.usage
        return Self.answer(second.id, result, after: first.result.problem)
    }

    private func runOnce(_ file: ConfigFile, _ message: String) async throws -> (id: String, result: TurnResult) {
        try await directory.spawnAndRun(
            file, message, by: .agent(parent), startedBy: spending,
            spent: { [spending] used in
                let tokens = used.inputTokens.saturatingAdd(used.outputTokens)
                spending.add(Amounts(tokens: UInt64(clamping: tokens), microUSD: UInt64(clamping: used.microUSD)))
            })
    }

    private static func answer(_ id: String, _ result: TurnResult, after first: TurnProblem? = nil) -> JSONValue {
        func text(_ problem: TurnProblem?) -> JSONValue {
            problem?.json ?? .null
        }
        var fields: [JSONValue.Field] = [
            .init("agent_id", .string(id)), .init("response", .string(result.response)),
            .init(
                "usage",
                ["input_tokens": .number(result.usage.totalInput), "output_tokens": .number(result.usage.output)]),
            .init("iterations", .number(result.iterations)), .init("stop_reason", .string(result.stop.rawValue)),
            .init("retried", .bool(first != nil)), .init("error", text(result.problem)),
        ]
        if let first { fields.append(.init("original_error", text(first))) }
        return .object(fields)
    }

    static let manifestHelp = """
        The child's manifest as YAML: name and model, and as capabilities a part of your own (you can only give what you \
        have), e.g. "name: reader\\nmodel: default\\nsystem_prompt: You read files.\\ncapabilities: ['tool: file_read', \
        'file_read: /workspace/**']"
        """
    static let properties: JSONValue = [
        "manifest": ["type": "string", "description": .string(manifestHelp)],
        "message": ["type": "string", "description": "What the child is to do; it knows nothing else."],
        "prior_findings": [
            "type": "string",
            "description": "What was found before, handed over as quoted data, at most 32 KiB.",
        ],
    ]

    static func order(_ input: JSONValue) -> Order {
        Order(
            manifest: input["manifest"]?.text ?? "", message: input["message"]?.text ?? "",
            findings: input["prior_findings"]?.text)
    }
}

/// `spawn_agent`: one child, to its end.
package struct SpawnAgentTool: Tool {
    private let directory: AgentDirectory

    /// The tool of a directory.
    package init(_ directory: AgentDirectory) { self.directory = directory }

    package var declaration: ToolDeclaration {
        ToolDeclaration(
            name: "spawn_agent",
            description:
                "Spawns a child agent with a part of your capabilities, gives it a message, waits for its answer.",
            input: [
                "type": "object", "properties": ChildRun.properties, "required": ["manifest", "message"],
                "additionalProperties": false,
            ], effects: .external, resources: [.spawn], timeLimit: .seconds(24 * 3600))
    }

    package func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        let parent = try directory.find(context.agent)
        let run = ChildRun(directory: directory, parent: parent, spending: context.spending)
        let value = try await run.bounded { try await run.run(ChildRun.order(input)) }
        return ToolReply(value, isError: value["stop_reason"]?.text == TurnStop.error.rawValue)
    }
}

/// `spawn_agents`: several children at once, each with its own answer.
package struct SpawnAgentsTool: Tool {
    private let directory: AgentDirectory

    /// The tool of a directory.
    package init(_ directory: AgentDirectory) { self.directory = directory }

    package var declaration: ToolDeclaration {
        ToolDeclaration(
            name: "spawn_agents",
            description:
                "Spawns up to \(directory.limits.batch) independent child agents at once and waits for all of them. "
                + "Answers come in the order of the children; one that fails does not stop the others.",
            input: [
                "type": "object",
                "properties": [
                    "children": [
                        "type": "array", "minItems": 1, "maxItems": .number(directory.limits.batch),
                        "items": [
                            "type": "object", "properties": ChildRun.properties, "required": ["manifest", "message"],
                            "additionalProperties": false,
                        ],
                    ]
                ], "required": ["children"], "additionalProperties": false,
            ], effects: .external, resources: [.spawn], timeLimit: .seconds(24 * 3600))
    }

    package func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        let parent = try directory.find(context.agent)
        let orders = (input["children"]?.elements ?? []).map { ChildRun.order($0) }
        let run = ChildRun(directory: directory, parent: parent, spending: context.spending)
        let answers = try await run.bounded { await Self.answers(to: orders, run) }
        return .batch(answers.map(\.0), failures: answers.count(where: \.1), named: "children")
    }

    private static func answers(to orders: [ChildRun.Order], _ run: ChildRun) async -> [(JSONValue, Bool)] {
        await withTaskGroup(of: (Int, JSONValue, Bool).self) { group in
            for (index, order) in orders.enumerated() {
                group.addTask {
                    do {
                        let value = try await run.run(order)
                        return (index, value, value["stop_reason"]?.text == TurnStop.error.rawValue)
                    } catch { return (index, failure(AgentProcess.aegis(error)), true) }
                }
            }
            var answers = [(JSONValue, Bool)](repeating: (.null, true), count: orders.count)
            for await (index, value, isError) in group { answers[index] = (value, isError) }
            return answers
        }
    }

    private static func failure(_ error: AegisError) -> JSONValue {
        var fields: [JSONValue.Field] = [
            .init("code", .string(error.code)), .init("message", .string(error.message)),
        ]
        if let hint = error.hint { fields.append(.init("hint", .string(hint))) }
        return ["agent_id": .null, "response": .null, "error": .object(fields)]
    }
}
