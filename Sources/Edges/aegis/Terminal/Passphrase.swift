internal import AegisCore
internal import AegisIO
internal import LinuxSys

/// Asks for the passphrase of a backup: never an argument, which 'ps' shows.
enum Passphrase {
    /// The option that names a file instead of a terminal.
    static let option = Option(
        "passphrase-file", .value("FILE"), "read the passphrase from FILE, less one final newline; '-': standard input",
        completion: .files)
    /// The most that it may have, in bytes.
    private static let limit = 1024

    /// Reads it from the file that was named, or asks at the terminal without showing what is typed.
    ///
    /// - Parameters:
    ///   - invocation: with `option`.
    ///   - context: the terminal.
    ///   - isNew: whether a mistake would only show when it is too late: it is asked for twice.
    /// - Returns: at least one byte.
    /// - Throws: `invalid-argument`.
    static func read(_ invocation: Invocation, _ context: Context, isNew: Bool) async throws -> [UInt8] {
        let words: [UInt8]
        if let file = invocation["passphrase-file"] {
            words = file == "-" ? try await line(context, toEnd: true) : try content(file)
        } else {
            guard context.console.inputIsTerminal else {
                throw AegisError.usage(
                    "there is no terminal to ask for the passphrase at", hint: "use --passphrase-file FILE")
            }
            words = try await ask("Passphrase: ", context)
            if isNew, try await ask("Again: ", context) != words {
                throw AegisError.usage("the two passphrases are not the same", hint: "nothing was written; try again")
            }
        }
        guard !words.isEmpty, words.count <= limit else {
            throw AegisError.usage("the passphrase has \(words.count) bytes", hint: "it needs 1 to \(limit)")
        }
        return words
    }

    private static func content(_ file: String) throws(AegisError) -> [UInt8] {
        do throws(Errno) { return trimmed(try Files.read(file, limit: limit + 2)) } catch {
            throw .usage(
                "the passphrase file '\(file)' cannot be read: \(error)", hint: "check the path and its rights")
        }
    }

    private static func ask(_ prompt: String, _ context: Context) async throws -> [UInt8] {
        // First hidden, then asked for: what is typed early is not shown either.
        try Terminal.hideInput(0)
        defer { Terminal.restore() }
        await context.console.say(prompt)
        return try await line(context, toEnd: false)
    }

    private static func line(_ context: Context, toEnd: Bool) async throws -> [UInt8] {
        let input = try context.console.input()
        var buffer = ByteBuffer()
        while buffer.readableBytes <= limit + 2, try await input.read(into: &buffer, atMost: 4096) > 0 {
            if !toEnd, buffer.firstOffset(of: 10) != nil { break }
        }
        return trimmed(buffer.takeAll())
    }

    private static func trimmed(_ bytes: [UInt8]) -> [UInt8] {
        var bytes = bytes
        if bytes.last == 10 { bytes.removeLast() }
        if bytes.last == 13 { bytes.removeLast() }
        return bytes
    }
}
