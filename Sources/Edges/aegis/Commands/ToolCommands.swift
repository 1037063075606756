internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisWire

/// `aegis tool list` and `aegis tool invoke`
enum ToolCommands {
    static let commands = [list, invoke]

    private static let list = Command(
        "tool list", "list the tools that agents can be granted",
        options: [Option("agent", .value("ID|NAME"), "only those that it may call")],
        examples: [Example("of one agent", "aegis tool list --agent researcher")]
    ) { invocation, context in
        let query = invocation["agent"].map { [("agent", $0)] } ?? []
        let items = try await context.client().list(APIClient.Route("tools", query: query))
        try await context.showValues(items, invocation, quiet: { $0["name"]?.text ?? "" }) { AgentText.tools($0) }
        return 0
    }

    private static let invoke = Command(
        "tool invoke", "call a tool as an agent: with its grants, its approvals, and in the ledger",
        arguments: [Argument("NAME"), Argument("JSON", .optional)],
        options: [Option("agent", .value("ID|NAME"), "who calls it (needed)")],
        examples: [Example("read a file", "aegis tool invoke --agent a file_read '{\"path\": \"/workspace/x\"}'")]
    ) { invocation, context in
        guard let agent = invocation["agent"] else {
            throw AegisError.usage("--agent is missing", hint: "'aegis agent ps' lists those that there are")
        }
        let text = invocation.arguments.count > 1 ? invocation.arguments[1] : "{}"
        let input: JSONValue
        do throws(JSONError) { input = try JSONValue(parsing: text.utf8) } catch {
            throw AegisError.usage("'\(text)': \(error)", hint: "write the input as one JSON object, in single quotes")
        }
        let answer = try await context.client().call(
            .post, APIClient.Route("processes", agent, "tools", invocation.arguments[0]), body: input)
        try await context.show(answer, invocation) {
            guard case .string(let text)? = answer["result"] else { return (answer["result"] ?? .null).pretty + "\n" }
            return Plain.block(text)
        }
        return 0
    }
}
