internal import AegisClient
internal import AegisCore
internal import AegisWire

/// `aegis config show`
enum ConfigShow {
    static let command = Command(
        "config show", "print the configuration in use, with where each value comes from",
        details: "Secrets are masked.",
        examples: [Example("as YAML", "aegis config show")]
    ) { invocation, context in
        guard invocation.output != .json else {
            throw AegisError.usage("the configuration is YAML", hint: "leave out --output json")
        }
        let response = try await context.client().stream(.get, APIClient.Route("config"))
        try await context.console.print(try await response.collect(upTo: 1 << 20)[...])
        return 0
    }
}
