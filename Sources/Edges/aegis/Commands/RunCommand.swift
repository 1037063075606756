internal import AegisClient
internal import AegisCore
internal import AegisIO
internal import AegisJSON
internal import AegisSandboxTypes
internal import AegisWire

/// `aegis run`
enum RunCommand {
    static let command = Command(
        "run", "run a command in a fresh sandbox and remove it afterwards",
        details: """
            Stdout and stderr of the command come through byte for byte, and its exit code is this program's. The sandbox sees
            nothing of your folder unless told: --workspace . gives it this one, --mount one of your choice. Ctrl-C stops and
            removes it. With --detach it stays, as an ordinary instance. With --expose it serves ports of the sandbox until then,
            asleep while nobody uses them.
            """,
        options: [
            Option("interactive", "i", .flag, "hand standard input on", section: "Process"),
            Option("tty", "t", .flag, "give the command a terminal", section: "Process"),
            Option("detach", "d", .flag, "print the id and leave it running", section: "Process"),
        ] + SandboxOptions.process + SandboxOptions.files + [
            Option(
                "artifacts", .value("DIR"), "copy /workspace/output to DIR at the end", section: "Files",
                completion: .directories),
            Option(
                "artifact", .values("PATH[:LOCAL]"), "copy any file or folder of the sandbox at the end",
                section: "Files"),
        ] + SandboxOptions.bounds + SandboxOptions.serving,
        trailing: .optional,
        examples: [
            Example("a script of this folder", "aegis run --workspace . -- python analyze.py"),
            Example("any image, and a shell in it", "aegis run -it --image python:3.12-alpine -- sh"),
            Example(
                "input read-only, results brought home",
                "aegis run --mount ./data:/data --artifacts out -- python report.py"),
            Example("a server, until ctrl-C", "aegis run --expose 8000:80 -- python3 -m http.server 80"),
            Example("what a kit describes", "aegis run --kit static-web --workspace ."),
            Example("bounded", "aegis run --memory 512Mi --cpus 1 --timeout 60s -- ./job"),
        ], mirrorsExitCode: true, run: run)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        var request = try SandboxOptions.request(invocation, context.caller)
        request.credentials = try await RegistryLogin.find(
            image: request.image, authfile: invocation["authfile"], context.caller, on: context.loop)
        let artifacts = try ArtifactSpec.all(invocation, context.caller)
        guard !invocation.trailing.isEmpty || request.image != nil || request.kit != nil else {
            throw AegisError(
                .usage, "missing-command", "no command was given",
                hint: "write it after '--', for example: aegis run --workspace . -- python analyze.py")
        }
        let tty = invocation.has("tty")
        let interactive = invocation.has("interactive")
        try checkTerminal(tty: tty, interactive: interactive, context)
        try ArtifactPlace.check(artifacts)
        await context.noteDoubts(invocation)
        if interactive { request.stdin = true }
        if tty { request.tty = true }
        if invocation.has("detach") { return try await detach(request, invocation, context) }
        request.ephemeral = true
        request.start = false
        // Artifacts are fetched from the sandbox after the command has ended.
        if !artifacts.isEmpty { request.linger = true }
        let one = Run(
            context: context, request: request, artifacts: artifacts, quiet: invocation.quiet, tty: tty,
            interactive: interactive)
        return try await one.run(invocation.trailing)
    }

    /// A terminal inside needs one outside when keys are to go in.
    static func checkTerminal(tty: Bool, interactive: Bool, _ context: Context) throws(AegisError) {
        guard !tty || !interactive || context.console.inputIsTerminal else {
            throw AegisError(
                .usage, "not-a-terminal", "-t with -i needs a terminal, and standard input is none",
                hint: "leave out -t to hand piped input on")
        }
    }

    private static func detach(
        _ request: CreateInstance, _ invocation: Invocation, _ context: Context
    ) async throws -> Int32 {
        let record: JSONValue
        do {
            record = try await context.client().call(
                .post, APIClient.Route("instances"), body: try JSONValue(encoding: request))
        } catch let error as AegisError {
            throw ImageWord.explained(error, invocation.trailing, image: request.image ?? request.kit)
        }
        try await context.show(record, invocation) { (record["id"]?.text ?? "") + "\n" }
        if !invocation.quiet {
            for line in ServiceText.serving(try record.exposedPorts) { await context.console.say(line) }
        }
        return 0
    }
}

/// One ephemeral instance from request to removal.
private struct Run: Sendable {
    let context: Context
    let request: CreateInstance
    let artifacts: [ArtifactSpec]
    let quiet: Bool
    let tty: Bool
    let interactive: Bool

    func run(_ command: [String]) async throws -> Int32 {
        let client = try await context.client()
        let record = try await client.call(.post, APIClient.Route("instances"), body: try JSONValue(encoding: request))
        guard let id = record["id"]?.text else {
            throw AegisError.failed("unreadable-answer", "the daemon made an instance without an id")
        }
        if !quiet {
            for line in ServiceText.serving(try record.exposedPorts) { await context.console.say(line) }
        }
        // With artifacts the instance outlives its command until we have fetched them, and is removed by us.
        let keep = !artifacts.isEmpty
        do {
            let exit: StreamExit
            do { exit = try await stream(client, id) } catch let error as AegisError where error.code == "sandbox-lost"
            {
                // The command ran, and what it left in the workspace is there.
                exit = StreamExit(code: Outcome.code(of: error), error: error)
            }
            var (code, message) = Outcome.of(exit)
            if let message {
                let told = ImageWord.explained(message, command, image: request.image ?? request.kit)
                await context.console.say(ErrorText.text(told, .text))
            }
            if keep { code = await fetch(client, id, code) }
            await hint(code, command)
            if keep { await remove(client, id) }
            return code
        } catch {
            if keep { await remove(client, id) }
            if error is OutputClosed { throw ReaderGone() }
            guard let error = error as? AegisError else { throw error }
            throw ImageWord.explained(error, command, image: request.image ?? request.kit)
        }
    }

    private func stream(_ client: APIClient, _ id: String) async throws -> StreamExit {
        let runner = StreamRunner(
            context, quiet: quiet, tty: tty, input: interactive,
            interruption: .stops {
                // The output and the end of the command still come over the stream.
                _ = try? await client.call(.post, APIClient.Route("instances", id, "stop"))
            })
        let streams = ProcessSession.Streams(
            input: interactive ? try context.console.input() : nil, out: try context.console.out(),
            err: try context.console.err())
        return try await runner.run { listener in
            ProcessSession(streams, clock: context.loop.clock, listener: listener) { offsets, again in
                // Only the first connection may start it: afterwards the process is the one that was started.
                return try await client.upgrade(
                    APIClient.Route("instances", id, "attach", query: again ? [] : [("start", "1")]),
                    body: StreamBody.attach(offsets))
            }
        }
    }

    private func fetch(_ client: APIClient, _ id: String, _ code: Int32) async -> Int32 {
        let fetcher = ArtifactFetch(context: context, transfer: FileTransfer(client, instance: id), quiet: quiet)
        do throws(AegisError) {
            try await fetcher.all(artifacts)
            return code
        } catch {
            await context.console.say(ErrorText.text(error, .text))
            return code == 0 ? 125 : code
        }
    }

    private func remove(_ client: APIClient, _ id: String) async {
        _ = try? await client.call(.delete, APIClient.Route("instances", id))
    }

    private func hint(_ code: Int32, _ command: [String]) async {
        guard code != 0, !quiet,
            let line = MissingFileHint.line(command: command, request: request, caller: context.caller)
        else { return }
        await context.console.say("aegis: \(Plain.text(line))\n")
    }
}

/// Bodies of requests for streams.
enum StreamBody {
    /// Which bytes to send; without offsets a live stream is joined.
    static func attach(_ offsets: StreamOffsets?) -> JSONValue {
        guard let offsets else { return [:] }
        return [
            "stdin_offset": .number(String(offsets.stdin)), "stdout_offset": .number(String(offsets.stdout)),
            "stderr_offset": .number(String(offsets.stderr)),
        ]
    }
}
