internal import AegisCapabilities
internal import AegisCore

extension CreateRules {
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
