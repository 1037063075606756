internal import AegisClient
internal import AegisCore
internal import AegisIO
internal import AegisWire

/// `aegis secret set`
enum SecretSet {
    static let command = Command(
        "secret set", "store a secret, encrypted",
        details: """
            Without VALUE, or with '-', it is read from standard input: at a terminal without showing it, from a pipe to its
            end, less one final newline. A VALUE on the command line can be seen by others in the list of processes.
            """,
        arguments: [Argument("NAME", completion: .secrets), Argument("VALUE", .optional)],
        examples: [
            Example("typed", "aegis secret set API_KEY"),
            Example("from a file", "aegis secret set API_KEY - < key.txt"),
        ], run: run)

    /// The most that a secret may hold: 64 KiB.
    static let limit = 64 << 10

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        let name = invocation.arguments[0]
        guard !name.contains("=") else {
            throw AegisError.usage(
                "a name has no '=': what follows it looks like the value, and is not shown here",
                hint: "aegis secret set NAME - < FILE, or 'aegis secret set NAME' to be asked for it")
        }
        let value: [UInt8]
        if invocation.arguments.count == 2, invocation.arguments[1] != "-" {
            value = Array(invocation.arguments[1].utf8)
            if !invocation.quiet {
                await context.console.say(
                    "aegis: the value was an argument: 'ps' and the shell's history show it; better: aegis secret set"
                        + " \(Plain.text(name)) - < FILE\n")
            }
        } else {
            value = try await read(name, context)
        }
        guard value.count <= limit else {
            throw AegisError(
                .tooLarge, "secret-too-large", "the value has \(value.count) bytes, and \(limit) are allowed")
        }
        let bytes = value
        let answer = try await context.client().upload(
            .put, APIClient.Route("secrets", name), type: "application/octet-stream"
        ) { writer in try await writer.write(bytes[...]) }
        try await context.show(answer, invocation) { invocation.quiet ? "" : "\(Plain.text(name)) set\n" }
        return 0
    }

    private static func read(_ name: String, _ context: Context) async throws -> [UInt8] {
        let typed = context.console.inputIsTerminal
        if typed {
            // First hidden, then asked for: what is typed early is not shown either.
            try Terminal.hideInput(0)
            await context.console.say("Value of \(Plain.text(name)): ")
        }
        defer { Terminal.restore() }
        let input = try context.console.input()
        var buffer = ByteBuffer()
        while try await input.read(into: &buffer, atMost: 16 << 10) > 0, buffer.readableBytes <= limit + 1 {
            if typed, buffer.firstOffset(of: 10) != nil { break }
        }
        var value = buffer.takeAll()
        if value.last == 10 { value.removeLast() }
        if value.last == 13 { value.removeLast() }
        guard !value.isEmpty else {
            throw AegisError.usage("the value is empty", hint: "to remove a secret use: aegis secret delete \(name)")
        }
        return value
    }
}
