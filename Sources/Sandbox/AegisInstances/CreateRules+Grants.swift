internal import AegisCapabilities
internal import AegisCore
internal import AegisSandboxTypes

extension CreateRules {
    /// Refuses what a kit wants beyond what the agent was granted whose programs the instance runs. Places that it wants to
    /// reach are refused by the book of grants, from which the instance has them.
    ///
    /// - Throws: `agent-kit`.
    func checkOfAgent(_ request: CreateInstance) throws(AegisError) {
        var more: [String] = []
        if let secrets = request.secrets, !secrets.isEmpty {
            more.append("the secret" + (secrets.count == 1 ? " " : "s ") + secrets.joined(separator: ", "))
        }
        if let grants = request.grants, !grants.isEmpty { more.append(grants.joined(separator: ", ")) }
        if let group = request.network?.group { more.append("the group \(group)") }
        guard !more.isEmpty else { return }
        throw AegisError(
            .denied, "agent-kit",
            "kit \(request.kit ?? "") wants \(more.joined(separator: " and ")), which programs of agents are not given",
            hint: "use another kit, or its image")
    }

    /// Hosts and secrets have flags of their own, which say more than a capability does.
    func grants(_ texts: [String]) throws(AegisError) -> [String]? {
        guard texts.count <= 64 else { throw .usage("\(texts.count) grants are too many", hint: "at most 64") }
        var all: [String] = []
        for text in texts {
            let spec: GrantSpec
            do { spec = try GrantSpec(parsing: text) } catch { throw error.asAegisError }
            guard spec.capability.kind == .spawn else {
                throw .usage(
                    "'\(spec.capability)' is not granted to instances",
                    hint: spec.capability.kind == .network
                        ? "write --allow HOST[:PORT]" : "an instance can be granted spawn, as in --grant 'spawn: *'")
            }
            all.append("\(spec)")
        }
        return all.isEmpty ? nil : all
    }
}
