internal import AegisClient
internal import AegisCore
internal import AegisIO
internal import AegisJSON
internal import LinuxSys

/// The daemon's program as a tool: it answers one question about the caller's home and ends.
enum DaemonProgram {
    /// Runs it and reads its answer.
    ///
    /// - Parameters:
    ///   - arguments: what it is asked.
    ///   - input: what it reads on standard input.
    ///   - dropping: variables that it does not get.
    ///   - deadline: how long it may take.
    ///   - context: whose home.
    /// - Returns: its answer.
    /// - Throws: the error object that it ended with, `daemon-not-started`, `unreadable-answer`.
    static func ask(
        _ arguments: [String], input: [UInt8] = [], dropping: [String] = [], deadline: Duration = .seconds(30),
        _ context: Context
    ) async throws -> JSONValue {
        let program = try DaemonCommand.program()
        // A crash must not write registers and memory to standard error (decision D20).
        var replaced = ["SWIFT_BACKTRACE=enable=no"]
        if let given = context.caller.variable("AEGIS_HOME"), !given.isEmpty {
            // A relative one starts where we are.
            replaced.append("AEGIS_HOME=\(context.location.home)")
        }
        let gone = replaced.map { $0.prefix { $0 != "=" } + "=" } + dropping.map { $0 + "=" }
        let environment =
            CurrentProcess.environment.filter { entry in !gone.contains { entry.hasPrefix($0) } } + replaced
        let spec = ProcessSpec(
            executable: program, arguments: [program] + arguments, environment: environment, stdin: .null)
        let output: ProcessOutput
        do {
            output = try await runProcess(
                spec, input: input, outputLimit: 4 << 20, deadline: deadline, on: context.loop)
        } catch { throw AegisError.failed("daemon-not-started", "\(program) cannot be asked: \(error)") }
        let text = String(decoding: output.stdout, as: UTF8.self)
        guard output.status.isSuccess else {
            let kind = ErrorKind.allCases.first { $0.exitCode == output.status.shellCode } ?? .failed
            throw StreamJSON.error(text, kind: kind)
        }
        do throws(JSONError) { return try JSONValue(parsing: output.stdout) } catch {
            throw AegisError.failed("unreadable-answer", "\(program) gave no answer: \(error)")
        }
    }
}
