internal import AegisCore
internal import AegisFiles
package import AegisInstances
internal import AegisTar
internal import AegisWire

/// Files of an instance, as tar streams in both directions.
///
/// A path in the workspace or in a mount is read and written on the host, also while the instance is stopped; any other path
/// is the instance's own, which must run and whose answers are the guest's word (decision D51).
package struct FileRoutes: Sendable {
    private let directory: InstanceDirectory

    /// Routes over a directory.
    package init(_ directory: InstanceDirectory) { self.directory = directory }

    package var routes: [Route] {
        [
            Route(
                .get, "/v1/instances/{id}/files", "Read a file or tree as a tar stream; with 'stat' only what it is",
                query: ["path", "stat"]
            ) { context, writer in
                let (instance, path) = try target(context)
                await instance.beginFiles()
                defer { instance.endFiles() }
                let place = try await place(of: path, in: instance)
                let onlyKind = try context.flag("stat")
                await instance.beginReading()
                do {
                    if onlyKind { try await tell(place, path, writer) } else { try await send(place, writer) }
                } catch {
                    await instance.endReading()
                    throw error
                }
                await instance.endReading()
            },
            Route(
                .put, "/v1/instances/{id}/files",
                "Extract a tar stream beneath a folder; with 'strip' without the paths' first component",
                query: ["path", "strip"]
            ) { context, writer in
                let (instance, path) = try target(context)
                let strip = try context.flag("strip")
                await instance.beginFiles()
                defer { instance.endFiles() }
                let place = try await place(of: path, in: instance)
                switch place {
                case .host(let files): try await files.receive(context.request.body, strip: strip)
                case .guest(let files): try await files.receive(context.request.body, strip: strip)
                }
                try await writer.respond(200, headers: JSONBody.headers, body: JSONBody.encode(["path": path]))
            },
        ]
    }

    /// Whose files a path names.
    private enum Place: Sendable {
        case host(HostFiles)
        case guest(GuestFiles)
    }

    private func tell(_ place: Place, _ path: String, _ writer: consuming HTTPResponseWriter) async throws {
        let kind: CopyRules.Kind
        switch place {
        case .host(let files): kind = try await files.kind()
        case .guest(let files): kind = try await files.kind()
        }
        try await writer.respond(
            200, headers: JSONBody.headers,
            body: JSONBody.encode(["path": path, "kind": kind == .directory ? "directory" : "file"]))
    }

    private func send(_ place: Place, _ writer: consuming HTTPResponseWriter) async throws {
        switch place {
        case .host(let files): try await files.send(writer)
        case .guest(let files): try await files.send(writer)
        }
    }

    private func place(of path: String, in instance: Instance) async throws -> Place {
        let trees = try await instance.hostTrees()
        guard let (tree, rest) = HostTree.find(path, in: trees) else {
            return .guest(GuestFiles(instance: instance, path: path))
        }
        return .host(HostFiles(tree: tree, path: rest))
    }

    private func target(_ context: RequestContext) throws(AegisError) -> (Instance, String) {
        let instance = try directory.find(context.parameter("id"), for: context.caller)
        guard let path = context.query["path"], path.hasPrefix("/"), !path.utf8.contains(0) else {
            throw .usage(
                "'path' must be an absolute path inside the instance", hint: "for example ?path=/workspace/out.txt")
        }
        return (instance, path)
    }
}
