internal import AegisCore
package import AegisKits
internal import AegisSandboxTypes
internal import AegisWire

/// Kits: install, look at, remove. They belong to the node, as images do.
package struct KitRoutes: Sendable {
    private let kits: Kits

    /// Routes over the kits of a node.
    package init(_ kits: Kits) { self.kits = kits }

    package var routes: [Route] {
        [
            Route(.post, "/v1/kits", "Install a kit: {path}; 200: it is there already") { [kits] context, writer in
                try requireRoot(context)
                let request = try await JSONBody.decode(InstallKit.self, from: context)
                let (info, isNew) = try await kits.install(request.path, for: context.caller)
                try await writer.respond(isNew ? 201 : 200, headers: JSONBody.headers, body: try JSONBody.encode(info))
            },
            .json(.get, "/v1/kits", "List kits") { [kits] context in
                Page(items: try await kits.list(for: context.caller))
            },
            .json(.get, "/v1/kits/{name}", "Show a kit: NAME or NAME@VERSION") { [kits] context in
                try await kits.show(context.parameter("name"), for: context.caller)
            },
            .json(.delete, "/v1/kits/{name}", "Remove a kit that no instance uses") { [kits] context in
                try requireRoot(context)
                return try await kits.uninstall(context.parameter("name"), for: context.caller)
            },
        ]
    }
}
