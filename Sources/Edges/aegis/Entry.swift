internal import AegisClient
internal import AegisCore
internal import AegisIO

/// From words to an exit code.
package enum Entry {
    /// Does what the bytes after the program's name ask for, if they are text.
    ///
    /// - Parameters:
    ///   - arguments: the arguments as they came.
    ///   - context: what commands work with.
    /// - Returns: the exit code.
    package static func run(arguments: [[UInt8]], _ context: Context) async -> Int32 {
        let words: [String]
        do throws(AegisError) { words = try Words.text(arguments) } catch {
            await context.console.say(
                ErrorText.text(error, format(arguments.map { String(decoding: $0, as: UTF8.self) })))
            return error.kind.exitCode
        }
        return await run(words, context)
    }

    /// Does what the words after the program's name ask for.
    ///
    /// - Parameters:
    ///   - words: the arguments.
    ///   - context: what commands work with.
    /// - Returns: the exit code.
    package static func run(_ words: [String], _ context: Context) async -> Int32 {
        let parsed: CommandLineParser.Parsed
        do throws(AegisError) { parsed = try CommandLineParser(Commands.table(for: words)).parse(words) } catch {
            await context.console.say(ErrorText.text(error, format(words)))
            return error.kind.exitCode
        }
        switch parsed {
        case .version: return await run(VersionCommand.command, Invocation(), context)
        case .help(let path):
            do { try await context.console.print(Help(Commands.table).page(path)) } catch { return 1 }
            return 0
        case .run(let command, let invocation): return await run(command, invocation, context)
        }
    }

    private static func run(_ command: Command, _ invocation: Invocation, _ context: Context) async -> Int32 {
        do {
            return try await command.run(invocation, context)
        } catch let error as Interrupted {
            return error.exitCode
        } catch is ReaderGone {
            return ReaderGone.exitCode
        } catch {
            let error = error as? AegisError ?? AegisError.failed("failed", "\(error)")
            // The terminal may still be the command's own.
            Terminal.restore()
            await context.console.say(ErrorText.text(error, invocation.output))
            return command.mirrorsExitCode ? Outcome.code(of: error) : error.kind.exitCode
        }
    }

    /// The format that words which do not parse asked for.
    private static func format(_ words: [String]) -> OutputFormat {
        let before = words.prefix { $0 != "--" }
        for (word, next) in zip(before, before.dropFirst() + [""]) {
            if word == "--output" || word == "-o" { return OutputFormat(rawValue: next) ?? .text }
            if word.hasPrefix("--output=") { return OutputFormat(rawValue: String(word.dropFirst(9))) ?? .text }
        }
        return .text
    }
}
