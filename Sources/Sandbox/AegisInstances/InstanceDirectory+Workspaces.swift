internal import AegisCore
internal import AegisFiles
package import AegisSandboxTypes

/// The named workspaces that instances use, and that outlive them.
extension InstanceDirectory {
    /// The named workspaces of a user, by name; root sees all.
    ///
    /// - Throws: `workspaces-unusable`.
    package func workspaces(for caller: Caller) async throws -> [NamedWorkspace] {
        let all = try await services.workspaces.list(as: caller.uid).filter { !$0.isAutomatic }
        return try await describe(all, for: caller)
    }

    /// Deletes a named workspace that no instance uses.
    ///
    /// - Returns: what it was.
    /// - Throws: `workspace-not-found`, `workspace-denied`, `workspace-in-use`.
    package func deleteWorkspace(_ name: String, for caller: Caller) async throws -> NamedWorkspace {
        let own = try await services.workspaces.list(as: caller.uid).filter { !$0.isAutomatic }
        let last = try await describe(own.filter { $0.name == name }, for: caller).first
        let users: () async -> [String] = {
            await self.users(for: caller, of: Self.workspace).filter { $0.thing == name }.map(\.instance)
        }
        do throws(AegisError) {
            try await services.workspaces.remove(named: name, as: caller.uid, usedBy: users)
        } catch {
            guard error.code == "workspace-not-found", last == nil else { throw error }
            let near = nearest(name, in: own.map(\.name)).map { "did you mean '\($0)'?" }
            throw AegisError.notFound(error.code, error.message, hint: near ?? "see 'aegis workspace list'")
        }
        guard let last else { throw AegisError.notFound("workspace-not-found", "there was no workspace '\(name)'") }
        return last
    }

    private func describe(_ all: [WorkspaceInfo], for caller: Caller) async throws -> [NamedWorkspace] {
        let sizes = try await services.workspaces.sizes(of: all.map(\.name))
        let used = await users(for: caller, of: Self.workspace)
        return all.map { info in
            let size = sizes[info.name] ?? (0, false)
            return NamedWorkspace(
                name: info.name, owner: info.owner, size: size.bytes, isWholeSize: size.isWhole,
                createdAt: info.createdAt, usedAt: info.usedAt,
                usedBy: used.filter { $0.thing == info.name }.map(\.instance))
        }
    }

    private static func workspace(_ stored: StoredInstance) -> String? {
        stored.workspaceKind == .named ? stored.workspaceSource : nil
    }
}
