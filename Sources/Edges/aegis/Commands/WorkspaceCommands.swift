internal import AegisClient
internal import AegisCore
internal import AegisSandboxTypes
internal import AegisWire

/// `aegis workspace list`
enum WorkspaceList {
    static let command = Command(
        "workspace list", "list named workspaces",
        details: """
            Those that --workspace NAME has made: they stay when their instances go. An automatic workspace goes with its instance,
            and a folder of yours (--workspace ./x) is not Aegis's; neither is listed.
            """,
        examples: [Example("names only", "aegis workspace list --quiet")]
    ) { invocation, context in
        let items = try await context.client().list(APIClient.Route("workspaces"))
        try await context.showList(items, of: NamedWorkspace.self, invocation, quiet: \.name) {
            ServiceText.workspaces($0, now: context.now())
        }
        return 0
    }
}

/// `aegis workspace delete`
enum WorkspaceDelete {
    static let command = Command(
        "workspace delete", "delete named workspaces with all that is in them",
        details: "Refused while an instance has it, running or not: delete that first.",
        arguments: [Argument("NAME", .many, completion: .workspaces)],
        examples: [Example("one", "aegis workspace delete data")]
    ) { invocation, context in
        try await InstanceActions.eachInstance(invocation, context, "deleted") { client, name throws(AegisError) in
            try await client.call(.delete, APIClient.Route("workspaces", name))
        }
    }
}
