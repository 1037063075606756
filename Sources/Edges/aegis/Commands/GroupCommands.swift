internal import AegisClient
internal import AegisCore
internal import AegisSandboxTypes
internal import AegisWire

/// `aegis group list`
enum GroupList {
    static let command = Command(
        "group list", "list network groups with their members",
        details: """
            A group is made by the first instance that is started with --group NAME, and goes when its last one stops; there
            is nothing to create or delete. 'aegis instance network X --group NAME' moves an instance.
            """,
        examples: [Example("names only", "aegis group list --quiet")]
    ) { invocation, context in
        let items = try await context.client().list(APIClient.Route("groups"))
        try await context.showList(items, of: NetworkGroup.self, invocation, quiet: \.name) { NetworkText.groups($0) }
        return 0
    }
}

/// `aegis group info`
enum GroupShow {
    static let command = Command(
        "group info", "show a network group, its addresses and its members",
        arguments: [Argument("NAME", completion: .groups)],
        examples: [Example("who is in it", "aegis group info shop")]
    ) { invocation, context in
        let answer = try await context.client().call(.get, APIClient.Route("groups", invocation.arguments[0]))
        try await context.show(answer, invocation) {
            let group = try answer.decoded(NetworkGroup.self)
            return invocation.quiet ? Plain.text(group.name) + "\n" : NetworkText.group(group)
        }
        return 0
    }
}
