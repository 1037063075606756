internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisWire

/// `aegis skill list`, `show`, `trust` and `untrust`
enum SkillCommands {
    static let commands = [list, show, trust, untrust]

    private static let agent = Option(
        "agent", .value("ID|NAME"), "those of its workspace, too")

    private static func query(_ invocation: Invocation) -> [(String, String)] {
        invocation["agent"].map { [("agent_id", $0)] } ?? []
    }

    private static let list = Command(
        "skill list", "list the skills that agents can read, and those that wait for trust",
        details: "The folders are looked through again: what was changed counts from then on.",
        options: [agent],
        examples: [
            Example("all that agents have", "aegis skill list"),
            Example("those of a workspace, too", "aegis skill list --agent researcher"),
        ]
    ) { invocation, context in
        let answer = try await context.client().call(.get, APIClient.Route("skills", query: query(invocation)))
        let items = answer["skills"]?.elements ?? []
        try await context.showValues(items, invocation, quiet: { $0["name"]?.text ?? "" }) { SkillText.list($0) }
        if invocation.output == .text, !invocation.quiet {
            for notice in answer["notices"]?.elements ?? [] {
                await context.console.say(
                    "aegis: " + Plain.text("\(notice["path"]?.text ?? ""): \(notice["message"]?.text ?? "")") + "\n")
            }
        }
        return 0
    }

    private static let show = Command(
        "skill show", "print a skill's instructions, or one of its files",
        arguments: [Argument("NAME")],
        options: [agent, Option("file", .value("PATH"), "one of its files, as references/api.md")],
        examples: [
            Example("the instructions", "aegis skill show test-first"),
            Example("before it is trusted", "aegis skill show deploy --agent researcher"),
        ]
    ) { invocation, context in
        let file = invocation["file"].map { [("file", $0)] } ?? []
        let answer = try await context.client().call(
            .get, APIClient.Route("skills", invocation.arguments[0], query: query(invocation) + file))
        try await context.show(answer, invocation) {
            invocation.quiet || file.isEmpty == false
                ? Plain.block(answer["instructions"]?.text ?? answer["content"]?.text ?? "") : SkillText.skill(answer)
        }
        return 0
    }

    private static let trust = Command(
        "skill trust", "let agents use a skill that others can write, as it is now",
        details: """
            Skills of workspaces, and of folders that others than the daemon's user can write, count only when they are trusted:
            they are instructions. Trust is given to the content; any change of any of its files asks again. It counts for the
            agents of whoever gives it, and for everybody's when root does.
            """,
        arguments: [Argument("NAME")],
        options: [
            agent, Option("hash", .value("HASH"), "only if this is its content, as 'skill show' has printed it"),
        ],
        examples: [Example("one of a workspace", "aegis skill trust deploy --agent researcher --hash 3f1c9a20")]
    ) { invocation, context in
        var body: [JSONValue.Field] = []
        for (option, name) in [("agent", "agent_id"), ("hash", "hash")] {
            if let value = invocation[option] { body.append(.init(name, .string(value))) }
        }
        let answer = try await context.client().call(
            .post, APIClient.Route("skills", invocation.arguments[0], "trust"), body: .object(body))
        try await context.show(answer, invocation) {
            "\(Plain.text(answer["name"]?.text ?? "")) is trusted as \(answer["hash"]?.text?.prefix(12) ?? "")\n"
        }
        return 0
    }

    private static let untrust = Command(
        "skill untrust", "trust a skill no more, whatever its content", arguments: [Argument("NAME")],
        examples: [Example("one", "aegis skill untrust deploy")]
    ) { invocation, context in
        let answer = try await context.client().call(
            .delete, APIClient.Route("skills", invocation.arguments[0], "trust"))
        try await context.show(answer, invocation) {
            let count = answer["untrusted"]?.unsigned ?? 0
            return
                "\(Plain.text(answer["name"]?.text ?? "")): \(count == 0 ? "it was not trusted" : "trusted no more")\n"
        }
        return 0
    }
}
