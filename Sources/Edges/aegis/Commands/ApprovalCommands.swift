internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisWire

/// `aegis approval list`, `show`, `approve` and `deny`
enum ApprovalCommands {
    static let commands = [list, show, approve, deny]

    private static let list = Command(
        "approval list", "list what agents wait to be allowed, with what exactly it would do",
        examples: [Example("ids only", "aegis approval list --quiet")]
    ) { invocation, context in
        let items = try await context.client().list(APIClient.Route("approvals"))
        try await context.showValues(items, invocation, quiet: { $0["id"]?.text ?? "" }) { AgentText.approvals($0) }
        return 0
    }

    private static let show = Command(
        "approval show", "show one with its whole arguments",
        details:
            "A list shows the beginning and the end of what is longer than 64 Ki characters; this shows all of it.",
        arguments: [Argument("ID")],
        examples: [Example("to a pager", "aegis approval show ap-0123456789abcdef | less")]
    ) { invocation, context in
        let item = try await context.client().call(.get, APIClient.Route("approvals", invocation.arguments[0]))
        try await context.show(item, invocation) { AgentText.approval(item) }
        return 0
    }

    private static let approve = Command(
        "approval approve", "allow what was shown, once",
        details: """
            What has changed since it was shown is asked about again. Nobody answers in time (agents.approval_timeout of the
            configuration, ten minutes): refused.
            """,
        arguments: [Argument("ID")],
        options: [
            Option(
                "for-session", .flag, "and the same tool on the same thing (exec: the same call) while the agent lives")
        ],
        examples: [Example("one", "aegis approval approve ap-0123456789abcdef")]
    ) { invocation, context in try await answer(invocation, context, "approve") }

    private static let deny = Command(
        "approval deny", "refuse it; the agent is told",
        arguments: [Argument("ID")], options: [Option("reason", .value("TEXT"), "what the agent is told")],
        examples: [Example("with a reason", "aegis approval deny ap-0123456789abcdef --reason 'not in this folder'")]
    ) { invocation, context in try await answer(invocation, context, "deny") }

    private static func answer(
        _ invocation: Invocation, _ context: Context, _ decision: String
    ) async throws -> Int32 {
        var body: [JSONValue.Field] = [.init("decision", .string(decision))]
        if let reason = invocation["reason"] { body.append(.init("reason", .string(reason))) }
        if invocation.has("for-session") { body.append(.init("for_session", .bool(true))) }
        let answer = try await context.client().call(
            .post, APIClient.Route("approvals", invocation.arguments[0]), body: .object(body))
        try await context.show(answer, invocation) {
            "\(Plain.text(answer["id"]?.text ?? "")) \(Plain.text(answer["state"]?.text ?? ""))\n"
        }
        return 0
    }
}
