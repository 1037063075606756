internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisSandboxTypes
internal import AegisWire

/// `aegis audit tail`
enum AuditTail {
    static let command = Command(
        "audit tail", "print what was decided and done",
        details:
            "The last 50 records of the ledger; with --output json the records as they are in its files, one a line.",
        options: [
            Option("follow", "f", .flag, "go on with what comes"),
            Option("kinds", .value("K,..."), "only these kinds, as capability_denied"),
            Option("agent", .value("X"), "only what is about this instance or agent", completion: .instances),
            Option("trace", .value("T"), "only what belongs to this trace"),
            Option("since", .value("T"), "only after a time (RFC 3339), or as long ago as 10m"),
            Option("tail", "n", .value("N"), "the last N records"),
        ],
        examples: [
            Example("what happened of late", "aegis audit tail"),
            Example(
                "what is refused, as it happens", "aegis audit tail --follow --kinds capability_denied,network_denied"),
            Example("all about one instance, for programs", "aegis audit tail --agent web -n 100000 --output json"),
        ], run: run)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        var query = try LogsCommand.query(invocation, now: context.now())
        if invocation["tail"] == nil { query.append(("tail", "50")) }
        for name in ["kinds", "agent", "trace"] { if let value = invocation[name] { query.append((name, value)) } }
        let response = try await context.client().stream(.get, APIClient.Route("audit", query: query))
        var lines = LineReader(response)
        while let json = try await lines.next() {
            if let error = json["error"], error != .null { throw StreamJSON.error(error) }
            switch invocation.output {
            case .json: try await context.console.print(json.compact + [10])
            case .yaml: try await context.console.print("---\n" + json.yaml)
            case .text: try await context.console.print(AuditText.record(json))
            }
        }
        return 0
    }
}

/// `aegis audit head`
enum AuditHead {
    static let command = Command(
        "audit head", "print the newest record's number and hash, to be kept elsewhere",
        details: """
            A ledger that ends before it, or holds another record in its place, was cut or rewritten: 'aegis audit verify
            --head' finds that. Keep heads where root of this machine cannot change them.
            """,
        examples: [
            Example("the head", "aegis audit head"), Example("alone, for a script", "aegis audit head --quiet"),
        ], run: run)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        let answer = try await context.client().call(.get, APIClient.Route("audit", "head"))
        try await context.show(answer, invocation) {
            invocation.quiet ? (answer["head"]?.text ?? "") + "\n" : AuditText.head(answer)
        }
        return 0
    }
}

/// `aegis audit verify`
enum AuditVerify {
    static let command = Command(
        "audit verify", "check that nothing in the ledger was changed, removed, inserted or moved",
        details: """
            Reads the files themselves, whether a daemon runs or not. Ends with 0 when all is as it was written, with 1 when
            it is not (file, line and record are named), and with 2 when something is missing that is needed to be sure.
            Whoever has root and no head that was kept elsewhere can rewrite a ledger: see docs/audit.md.
            """,
        options: [
            Option("path", .value("DIR"), "the folder of another ledger, or of a copy", completion: .directories),
            Option("head", .values("SEQ:HASH"), "a head that was kept elsewhere"),
            Option("key", .values("KEY"), "the key that may have signed it, as 'aegis audit head' shows"),
        ],
        examples: [
            Example("this node's", "aegis audit verify"),
            Example("against a head that was kept", "aegis audit verify --head 1042:9c56cc51b374..."),
            Example("a copy, on another machine", "aegis audit verify --path copy --key ed25519:..."),
        ], run: run)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        var words = ["--audit", "verify"]
        if let path = invocation["path"] { words += ["--path", context.caller.absolute(path)] }
        for head in invocation.all("head") { words += ["--head", head] }
        for key in invocation.all("key") { words += ["--key", key] }
        let answer = try await DaemonProgram.ask(words, deadline: .seconds(3600), context)
        try await context.show(answer, invocation) { invocation.quiet ? "" : AuditText.check(answer) }
        switch answer["status"]?.text {
        case "intact": return 0
        case "incomplete": return 2
        default: return 1
        }
    }
}

/// `aegis audit export`
enum AuditExport {
    static let command = Command(
        "audit export", "copy the ledger's files to a folder where they can be checked",
        details: """
            The records are JSON, one a line. A range is copied with the whole segments that it is in; of segments before it
            the seals are, so that 'aegis audit verify --path' can follow the chain.
            """,
        arguments: [Argument("DIR", completion: .directories)],
        options: [
            Option("from", .value("SEQ"), "the first record that is wanted"),
            Option("to", .value("SEQ"), "the last one"),
            Option("path", .value("DIR"), "the folder of another ledger", completion: .directories),
        ],
        examples: [
            Example("all of it", "aegis audit export ledger-2026-11"),
            Example("from a record on", "aegis audit export --from 12000 part"),
        ], run: run)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        var words = ["--audit", "export", "--to-folder", context.caller.absolute(invocation.arguments[0])]
        if let path = invocation["path"] { words += ["--path", context.caller.absolute(path)] }
        for name in ["from", "to"] { if let value = invocation[name] { words += ["--\(name)", value] } }
        let answer = try await DaemonProgram.ask(words, deadline: .seconds(3600), context)
        try await context.show(answer, invocation) { invocation.quiet ? "" : AuditText.copy(answer) }
        return 0
    }
}
