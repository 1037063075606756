package import AegisCapabilities
package import AegisCore

/// Tools that one agent has beside those of the node: what its sandbox brings. Where both have a name the node's counts.
package struct OwnTools: Sendable {
    package var registry: ToolRegistry
    /// How the names of tools begin that cannot be had now, and why.
    package var missing: [(prefix: String, error: AegisError)]

    /// Describes them.
    package init(_ registry: ToolRegistry, missing: [(prefix: String, error: AegisError)] = []) {
        self.registry = registry
        self.missing = missing
    }

    /// Why there is no tool of that name.
    func problem(of name: String) -> AegisError? {
        // Models may have been told of it by another name.
        missing.first { name.hasPrefix($0.prefix) || name.hasPrefix($0.prefix.replacing(".", with: "__")) }?.error
    }
}

/// Tools of the node that may still come: those of servers which have not said yet what they have.
package protocol LateTools: Sendable {
    /// Whether there are any. It is asked at each step of each agent.
    var areExpected: Bool { get }

    /// Waits for them, for a bounded time.
    ///
    /// - Parameters:
    ///   - user: whose agent wants them.
    ///   - mayCall: whether it may call tools whose names begin so.
    /// - Returns: how the names of those begin that have not come, and why.
    func missing(
        for user: UInt32, mayCall: @escaping @Sendable (String) -> Bool
    ) async -> [(prefix: String, error: AegisError)]
}

extension ToolRegistry {
    /// The tools that there are for agents of a user.
    package func declarations(forUser user: UInt32) -> [ToolDeclaration] {
        all.filter { $0.tool.serves(user: user) }.map(\.declaration)
    }

    /// The tools that a holder may call now, by name, an agent's own among them.
    ///
    /// - Parameters:
    ///   - holder: whose grants count.
    ///   - grants: where they are.
    ///   - owner: the user that the agent belongs to.
    ///   - own: the agent's own tools.
    /// - Returns: the tools.
    package func entries(
        for holder: HolderID, in grants: GrantBook, owner: UInt32, with own: OwnTools?
    ) -> [Entry] {
        let all = entries(for: holder, in: grants).filter { $0.tool.serves(user: owner) }
        guard let own else { return all }
        let more = own.registry.entries(for: holder, in: grants).filter { entry($0.declaration.name) == nil }
        return (all + more).sorted { $0.declaration.name < $1.declaration.name }
    }
}

extension ToolGate {
    /// A tool by its name: the node's, else one of the caller's own.
    func find(_ name: String, _ context: ToolContext) -> ToolRegistry.Entry? {
        guard let entry = registry.entry(name) else { return context.own?.registry.entry(name) }
        return entry.tool.serves(user: context.owner) ? entry : nil
    }
}
