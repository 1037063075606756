package import AegisInstances
internal import AegisSandboxTypes
internal import AegisWire

/// Named workspaces: look at them, remove them. Instances make them.
package struct WorkspaceRoutes: Sendable {
    private let directory: InstanceDirectory

    /// Routes over the instances of a node.
    package init(_ directory: InstanceDirectory) { self.directory = directory }

    package var routes: [Route] {
        [
            .json(.get, "/v1/workspaces", "List the caller's named workspaces") { [directory] context in
                Page(items: try await directory.workspaces(for: context.caller))
            },
            .json(.delete, "/v1/workspaces/{name}", "Delete a named workspace that no instance uses") {
                [directory] context in
                try await directory.deleteWorkspace(context.parameter("name"), for: context.caller)
            },
        ]
    }
}
