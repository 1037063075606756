internal import AegisClient
internal import AegisSandboxTypes

/// `aegis secret list`
enum SecretList {
    static let command = Command(
        "secret list", "list secrets; values are never shown",
        examples: [Example("names only", "aegis secret list --quiet")]
    ) { invocation, context in
        let items = try await context.client().list(APIClient.Route("secrets"))
        try await context.showList(items, of: SecretInfo.self, invocation, quiet: \.name) {
            ServiceText.secrets($0, now: context.now())
        }
        return 0
    }
}
