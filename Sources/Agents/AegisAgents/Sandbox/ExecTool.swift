internal import AegisCapabilities
internal import AegisCore
internal import AegisFiles
package import AegisJSON
package import AegisTools

/// `exec`: a program in the agent's own sandbox.
package struct ExecTool: Tool {
    private let directory: AgentDirectory

    /// The longest that a program may take, and what it may take when nothing is said, in seconds.
    package static let (longest, usual) = (3600, 120)

    /// The tool of a directory.
    package init(_ directory: AgentDirectory) { self.directory = directory }

    package let declaration = ToolDeclaration(
        name: "exec",
        description: """
            Runs a program in your sandbox and waits for its end. There is no shell: each argument is one entry of argv, \
            e.g. ["python3", "count.py", "notes.txt"]. The sandbox has your workspace at /workspace as far as you were granted \
            it, and no network but what you were granted. Answers with exit_code, stdout and stderr; of long output the \
            beginning and the end.
            """,
        input: [
            "type": "object",
            "properties": [
                "argv": [
                    "type": "array", "minItems": 1, "maxItems": 1024, "items": ["type": "string"],
                    "description": "The program and its arguments.",
                ],
                "command": [
                    "type": "string", "minLength": 1,
                    "description": "In place of argv: a line for sh -c. Only with the capability exec: sh.",
                ],
                "cwd": ["type": "string", "description": "The folder to start in; /workspace."],
                "env": [
                    "type": "object", "additionalProperties": ["type": "string"],
                    "description": "Variables for it, beside those that are there.",
                ],
                "stdin": ["type": "string", "description": "What it reads on its standard input; else that is empty."],
                "timeout": [
                    "type": "integer", "minimum": 1, "maximum": .number(longest),
                    "description": "Seconds after which it is ended; 120.",
                ],
            ], "additionalProperties": false,
        ], effects: .external, resources: [.exec], timeLimit: .seconds(longest + 900), endsWithGrant: true)

    package func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        let order = try ExecOrder(input)
        let process = try directory.find(context.agent)
        try order.check(context)
        guard let sandboxes = directory.services.sandboxes else {
            throw AegisError(.unavailable, "no-sandbox", "programs cannot be run here")
        }
        let (place, permit) = await directory.permit(
            process,
            for: [.init(request: order.request), .init(request: Request(.tool("exec")), grant: context.spending.grant)])
        let outcome: SandboxOutcome
        do {
            for (fact, value) in order.facts(place.plan) { try context.confirm(fact, is: value) }
            let admission = try context.grants.admit(order.request, by: context.holder)
            let grant = admission.grant
            admission.settle()
            await directory.allow(permit, 0, by: grant, of: process)
            outcome = try await sandboxes.run(order.command, for: place.owner, place.plan, permit)
        } catch {
            await directory.end(permit)
            throw error
        }
        await directory.end(permit)
        return order.reply(outcome, place.plan)
    }

    package func preview(_ input: JSONValue, _ context: ToolContext) async throws -> ApprovalPreview {
        let order = try ExecOrder(input)
        let process = try directory.find(context.agent)
        try order.check(context)
        if case .deny(let denial) = evaluate(
            order.request, with: context.grants.grants(of: context.holder), at: .now())
        {
            throw denial
        }
        let place = await directory.sandbox(of: process)
        return ApprovalPreview(order.text, facts: order.facts(place.plan), resource: order.resource(place.plan))
    }
}

/// What a call of `exec` wants.
struct ExecOrder: Sendable {
    let command: SandboxCommand
    /// What stands in place of argv[0] in grants.
    let request: Request

    /// The most text that a program is given as input, in bytes.
    static let inputLimit = 1 << 20

    /// Reads the arguments of a call.
    ///
    /// - Throws: `arguments-invalid`, `path-invalid`.
    init(_ input: JSONValue) throws(AegisError) {
        let arguments: [String]
        switch (input["argv"]?.elements?.compactMap(\.text), input["command"]?.text) {
        case (let argv?, nil): arguments = argv
        case (nil, let line?): arguments = ["sh", "-c", line]
        case (nil, nil):
            throw Self.invalid("there is no program", hint: "give argv, as in [\"python3\", \"count.py\"]")
        case (.some, .some): throw Self.invalid("argv and command are both given", hint: "give one of them")
        }
        guard let program = arguments.first, !program.isEmpty else {
            throw Self.invalid("the program's name is empty", hint: "give argv, as in [\"python3\", \"count.py\"]")
        }
        var environment: [String: String] = [:]
        for field in input["env"]?.fields ?? [] { environment[field.name] = field.value.text }
        for text in arguments + environment.flatMap({ [$0.key, $0.value] }) where text.utf8.contains(0) {
            throw Self.invalid("an argument or a variable has a zero byte", hint: "hand such data over in a file")
        }
        let stdin = input["stdin"]?.text.map { Array($0.utf8) }
        guard (stdin?.count ?? 0) <= Self.inputLimit else {
            throw Self.invalid(
                "stdin has \(stdin?.count ?? 0) bytes; \(Self.inputLimit) are taken", hint: "write it to a file first")
        }
        let directory = try AgentPath(input["cwd"]?.text ?? FileScope.workspaceName).name
        command = SandboxCommand(
            arguments, in: directory.description, environment: environment, input: stdin,
            timeLimit: .seconds(input["timeout"]?.integer ?? Int64(ExecTool.usual)))
        var resolved: CanonicalPath?
        if program.contains("/") {
            resolved = try AgentPath(program.hasPrefix("/") ? program : "\(directory)/\(program)").name
        }
        request = Request(.exec(program: program, resolved: resolved))
    }

    private static func invalid(_ message: String, hint: String) -> AegisError {
        AegisError(.usage, "arguments-invalid", message, hint: hint)
    }

    /// Refuses another PATH for who may start certain programs only: a name would then stand for something else.
    func check(_ context: ToolContext) throws(AegisError) {
        guard command.environment["PATH"] != nil else { return }
        let any = Request(.exec(program: "*", resolved: nil))
        guard case .deny = evaluate(any, with: context.grants.grants(of: context.holder), at: .now()) else { return }
        throw AegisError(
            .denied, "exec-path-fixed", "PATH cannot be given: it says which program a granted name stands for",
            hint: "leave it out; 'exec: *' would allow it")
    }

    /// The command as a shell would be told it.
    var line: String { command.arguments.map(Self.quoted).joined(separator: " ") }

    private static func quoted(_ word: String) -> String {
        let plain = word.utf8.allSatisfy { byte in
            (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
                || "_-./:=@%+,".utf8.contains(byte)
        }
        return plain && !word.isEmpty ? word : "'" + word.replacing("'", with: "'\\''") + "'"
    }

    /// What is shown to a person.
    var text: String {
        var lines = [line, "in \(command.directory), for \(command.timeLimit.components.seconds) s at most"]
        for (name, value) in command.environment.sorted(by: { $0.key < $1.key }) {
            lines.append("with \(name)=\(Self.quoted(value))")
        }
        if let input = command.input {
            let shown = String(decoding: input.prefix(4096), as: UTF8.self)
            lines.append("it reads \(input.count) bytes" + (input.count > 4096 ? ", which begin with:" : ":"))
            lines.append(shown)
        }
        return lines.joined(separator: "\n")
    }

    /// What an approval is bound to (decision D48): the line, the folder, the variables' names, and what the sandbox shows.
    func facts(_ plan: SandboxPlan) -> [String: String] {
        [
            "argv": line, "cwd": command.directory,
            "env": command.environment.keys.sorted().joined(separator: " "),
            "sandbox": plan.summary.joined(separator: "; "),
        ]
    }

    /// What an approval for the session remembers (decision D48): all that was shown, not the line alone. What `python3 -` or `sh`
    /// does is said by its input, its folder and its variables (`LD_PRELOAD`); their values may be secret, so all is hashed.
    func resource(_ plan: SandboxPlan) -> String {
        func object(_ texts: [String: String]) -> JSONValue {
            .object(texts.map { JSONValue.Field($0.key, .string($0.value)) })
        }
        let shown: JSONValue = [
            "argv": .array(command.arguments.map { .string($0) }), "facts": object(facts(plan)),
            "env": object(command.environment), "seconds": .number(command.timeLimit.components.seconds),
            "stdin": command.input.map { .string(Fingerprint.hex(of: $0)) } ?? .null,
        ]
        return "exec: \(line), exactly as shown (sha256:\(Fingerprint.hex(of: shown.canonical)))"
    }

    /// The answer.
    func reply(_ outcome: SandboxOutcome, _ plan: SandboxPlan) -> ToolReply {
        let streams = [("stdout", outcome.stdout.shown), ("stderr", outcome.stderr.shown)]
        var fields: [JSONValue.Field] = [.init("exit_code", .number(Int(outcome.code)))]
        if outcome.isTimedOut {
            let error = AegisError(
                .timeout, "exec-timeout",
                "it did not end within \(command.timeLimit.components.seconds) s and was killed",
                hint: "give it more time with 'timeout', or less to do; what it did until then has happened")
            fields = (ToolReply(error).value.fields ?? []) + fields
        } else if let signal = outcome.signal {
            fields.append(.init("signal", .number(signal)))
        }
        for (name, shown) in streams { fields.append(.init(name, .string(shown.text))) }
        for (name, shown) in streams {
            if shown.cut > 0 { fields.append(.init("\(name)_bytes_left_out", .number(shown.cut))) }
            if shown.isDamaged {
                fields.append(.init("\(name)_note", "it is not UTF-8 text: what cannot be read is shown as \u{FFFD}"))
            }
        }
        let (seconds, attoseconds) = outcome.duration.components
        fields.append(.init("milliseconds", .number(seconds * 1000 + attoseconds / 1_000_000_000_000_000)))
        // What failed may have failed for want of what was not granted.
        if outcome.code != 0 { fields.append(.init("sandbox", .array(plan.summary.map { .string($0) }))) }
        return ToolReply(.object(fields), isError: outcome.isTimedOut)
    }
}
