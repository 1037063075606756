internal import AegisClient
internal import AegisCore
internal import AegisIO
internal import AegisJSON
internal import AegisSandboxTypes
internal import AegisWire
internal import LinuxSys

/// `aegis config show`
enum ConfigShow {
    static let command = Command(
        "config show", "print the configuration in use, with where each value comes from",
        details: """
            Secrets are masked. Without a running daemon, or with --config, it is what a daemon that is started now would use.
            """,
        options: [Option("config", .value("FILE"), "a file to read instead", completion: .files)],
        examples: [
            Example("what is in force", "aegis config show"),
            Example("is a new file right?", "aegis config show --config new.yaml"),
            Example("for programs", "aegis config show --output json"),
        ], run: run)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        let report = try await report(invocation, context)
        let json = try JSONValue(encoding: report)
        switch invocation.output {
        case .json: try await context.console.print((json["values"] ?? []).pretty + "\n")
        case .text, .yaml: try await context.console.print(report.text)
        }
        return 0
    }

    private static func report(_ invocation: Invocation, _ context: Context) async throws -> ConfigurationReport {
        guard invocation["config"] == nil else { return try await ofNewDaemon(invocation, context) }
        let client: APIClient
        do throws(AegisError) { client = try await context.client() } catch {
            guard error.kind == .daemonNotRunning else { throw error }
            let report = try await ofNewDaemon(invocation, context)
            if !invocation.quiet {
                await context.console.say("aegis: no daemon is running; one that is started now would use this\n")
            }
            return report
        }
        return try await client.call(.get, APIClient.Route("config", query: [("format", "json")])).decoded(
            ConfigurationReport.self)
    }

    /// Asks the daemon's program, which reads the configuration as it does at its start, and touches nothing.
    private static func ofNewDaemon(_ invocation: Invocation, _ context: Context) async throws -> ConfigurationReport {
        try await DaemonProgram.ask(["--show-config"] + DaemonCommand.arguments(invocation), context)
            .decoded(ConfigurationReport.self)
    }
}
