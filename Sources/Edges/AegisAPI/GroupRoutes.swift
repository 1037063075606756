package import AegisInstances
internal import AegisSandboxTypes
internal import AegisWire

/// Network groups: look at them. Instances make them and end them.
package struct GroupRoutes: Sendable {
    private let directory: InstanceDirectory
    private static let instead = "a group is made by its first member, with --group NAME, and goes with its last"

    /// Routes over the instances of a node.
    package init(_ directory: InstanceDirectory) { self.directory = directory }

    package var routes: [Route] {
        let routes: [Route] = [
            .json(.get, "/v1/groups", "List the caller's network groups") { [directory] context in
                Page(items: directory.groups(for: context.caller))
            },
            .json(.get, "/v1/groups/{name}", "Show a network group and its members") { [directory] context in
                try directory.group(context.parameter("name"), for: context.caller)
            },
        ]
        return routes.map { $0.with(instead: Self.instead) }
    }
}
