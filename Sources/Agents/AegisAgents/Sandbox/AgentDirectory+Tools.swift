internal import AegisCapabilities
internal import AegisCore
package import AegisTools

extension AgentSandboxes {
    /// No tools.
    package func tools(
        of owner: AgentRecord, _ plan: SandboxPlan, mayCall: @escaping @Sendable (String) -> Bool,
        stands: @escaping @Sendable () async -> Bool
    ) async -> OwnTools? { nil }
}

extension AgentDirectory {
    /// The tools that an agent has by way of the sandbox that its programs run in; nil when that brings none.
    func ownTools(of process: AgentProcess) async -> OwnTools? {
        guard let sandboxes = services.sandboxes, live(process.id) != nil else { return nil }
        let top = live(process.record.tree) ?? process
        guard top.manifest.sandbox?.kit != nil else { return nil }
        let place = sandbox(of: process)
        return await sandboxes.tools(
            of: place.owner, place.plan, mayCall: process.mayCall,
            stands: { [weak self] in await self?.stands(place) ?? false })
    }

    /// Whether a sandbox is still what its owner's grants say.
    private func stands(_ place: SandboxPlace) async -> Bool {
        guard live(place.owner.id) != nil else { return false }
        // The workspace that it shows is made by the first who wants to have to do with it.
        _ = await services.files(place.owner)
        guard let owner = live(place.owner.id) else { return false }
        return sandbox(of: owner).plan == place.plan
    }
}

extension AgentProcess {
    /// Tools beside those that the node has now. Of its own an agent has any only by a kit, which is named by the manifest at the
    /// top of the tree; those of the node that have not come yet are waited for.
    nonisolated func ownTools() async -> OwnTools? {
        var missing: [(prefix: String, error: AegisError)] = []
        if let late = services.late, late.areExpected {
            missing = await late.missing(for: record.owner, mayCall: mayCall)
        }
        let own = record.parent != nil || manifest.sandbox?.kit != nil ? await findTools(self) : nil
        guard own != nil || !missing.isEmpty else { return nil }
        return OwnTools(own?.registry ?? ToolRegistry(), missing: missing + (own?.missing ?? []))
    }

    /// Whether it may call tools whose names begin so.
    nonisolated var mayCall: @Sendable (String) -> Bool {
        { [grants = services.grants, holder] prefix in
            grants.records(of: holder).contains { record in
                guard case .tool(let name) = record.terms.capability else { return false }
                return name?.hasPrefix(prefix) ?? true
            }
        }
    }

    /// The tools that the agent may call now, by name.
    package nonisolated func declarations() async -> [ToolDeclaration] {
        services.registry.entries(for: holder, in: services.grants, owner: record.owner, with: await ownTools()).map(
            \.declaration)
    }
}
