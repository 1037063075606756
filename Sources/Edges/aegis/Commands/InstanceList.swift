internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisSandboxTypes

/// `aegis instance list`
enum InstanceList {
    static let command = Command(
        "instance list", "list instances",
        details: "With --quiet only ids are printed, one a line.",
        options: [
            Option(
                "state", .value("STATE"), "only these: running, stopped, paused, ...",
                completion: .words(InstanceState.allCases.map(\.rawValue))),
            Option("label", .values("K[=V]"), "only those with the label"),
        ],
        examples: [
            Example("all", "aegis instance list"),
            Example("ids of what runs", "aegis instance list --state running --quiet"),
        ], run: run)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        var state: InstanceState?
        if let text = invocation["state"] {
            let known = InstanceState.allCases.map(\.rawValue)
            state = InstanceState(rawValue: text)
            guard state != nil else {
                throw AegisError.usage(
                    "'\(text)' is not a state",
                    hint: nearest(text, in: known).map { "did you mean '\($0)'?" }
                        ?? "use one of: \(known.joined(separator: ", "))")
            }
        }
        let labels = invocation.all("label").map { $0.split(separator: "=", maxSplits: 1).map(String.init) }
        let items = try await context.client().list(APIClient.Route("instances")).filter { item in
            if let state, item["state"]?.text != state.rawValue { return false }
            return labels.allSatisfy { label in
                guard let key = label.first, let value = item["labels"]?[key]?.text else { return false }
                return label.count == 1 || value == label[1]
            }
        }
        try await context.showList(items, of: InstanceInfo.self, invocation, quiet: \.id) {
            InstanceText.list($0, now: context.now())
        }
        return 0
    }
}
