internal import AegisClient
internal import AegisWire

/// `aegis config show`
enum ConfigShow {
    static let command = Command(
        "config show", "print the configuration in use, with where each value comes from",
        details: "Secrets are masked.",
        examples: [Example("as YAML", "aegis config show"), Example("for programs", "aegis config show --output json")]
    ) { invocation, context in
        let answer = try await context.client().call(.get, APIClient.Route("config"))
        try await context.show(answer, invocation) { answer.yaml }
        return 0
    }
}
