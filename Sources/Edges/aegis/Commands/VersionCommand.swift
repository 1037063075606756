internal import AegisClient
internal import AegisCore
internal import AegisJSON

/// `aegis version`
enum VersionCommand {
    static let command = Command(
        "version", "print this program's version",
        examples: [Example("the daemon's is part of", "aegis status")]
    ) { invocation, context in
        try await context.show(["version": .string(Build.version)], invocation) { "aegis \(Build.version)\n" }
        return 0
    }
}
