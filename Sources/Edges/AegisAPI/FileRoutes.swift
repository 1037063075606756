internal import AegisChannel
internal import AegisCore
internal import AegisIO
package import AegisInstances
internal import AegisSessions
internal import AegisWire

/// Files of an instance, as tar streams in both directions.
package struct FileRoutes: Sendable {
    private let directory: InstanceDirectory

    /// Routes over a directory.
    package init(_ directory: InstanceDirectory) { self.directory = directory }

    package var routes: [Route] {
        [
            Route(.get, "/v1/instances/{id}/files", "Read a file or tree as a tar stream", query: ["path"]) {
                context, writer in
                let (instance, path) = try target(context)
                let hold = instance.holds.hold(.copy)
                try await send(instance, path, writer)
                _ = consume hold
            },
            Route(.put, "/v1/instances/{id}/files", "Extract a tar stream beneath a folder", query: ["path"]) {
                context, writer in
                let (instance, path) = try target(context)
                let hold = instance.holds.hold(.copy)
                try await receive(instance, path, context)
                try await writer.respond(200, headers: JSONBody.headers, body: JSONBody.encode(["path": path]))
                _ = consume hold
            },
        ]
    }

    private func target(_ context: RequestContext) throws(AegisError) -> (Instance, String) {
        let instance = try directory.find(context.parameter("id"), for: context.caller)
        guard let path = context.query["path"], path.hasPrefix("/") else {
            throw .usage(
                "'path' must be an absolute path inside the instance", hint: "for example ?path=/workspace/out.txt")
        }
        return (instance, path)
    }

    /// Errors come before the first byte of the archive as a status, later by cutting the body.
    private func send(_ instance: Instance, _ path: String, _ writer: consuming HTTPResponseWriter) async throws {
        let process = try await instance.copyOut(path)
        defer { instance.afterwards("copy-end") { await instance.finish(process) } }
        let (watcher, _) = try process.relay.attach(from: nil)
        defer { process.relay.detach(watcher) }
        var errors: [UInt8] = []
        var piece = await nextOutput(process, watcher, &errors)
        guard case .bytes? = piece else { throw copyError(errors, piece, path) }
        var body = try await writer.stream(200, headers: ["Content-Type": "application/x-tar"])
        while case .bytes(let kind, let offset, let bytes)? = piece {
            try await body.write(bytes)
            process.relay.consumed(watcher, kind, upTo: offset + UInt64(bytes.count))
            piece = await nextOutput(process, watcher, &errors)
        }
        guard case .exited(let end)? = piece, end.code == 0 else { throw copyError(errors, piece, path) }
        try await body.finish()
    }

    /// The next piece that is not an error text; error texts are collected, bounded.
    private func nextOutput(_ process: RunningProcess, _ watcher: UInt64, _ errors: inout [UInt8]) async -> ProcessRelay
        .Piece?
    {
        while let piece = await process.relay.next(watcher) {
            guard case .bytes(.stderr, let offset, let bytes) = piece else { return piece }
            errors += bytes.prefix(max(0, 4096 - errors.count))
            process.relay.consumed(watcher, .stderr, upTo: offset + UInt64(bytes.count))
        }
        return nil
    }

    private func receive(_ instance: Instance, _ path: String, _ context: RequestContext) async throws {
        let process = try await instance.copyIn(path)
        defer { instance.afterwards("copy-end") { await instance.finish(process) } }
        let (watcher, _) = try process.relay.attach(from: nil)
        defer { process.relay.detach(watcher) }
        var buffer = ByteBuffer()
        do {
            while try await context.request.body.read(into: &buffer, atMost: 256 << 10) > 0 {
                try await process.session.write(process.relay.number, buffer.readable)
                buffer.consume(buffer.readableBytes)
            }
        } catch let error as HTTPError {
            process.session.signal(process.relay.number, 9, group: true)
            throw error
        } catch {
            // The receiver ended early: its error text says why.
        }
        process.session.endInput(process.relay.number)
        var errors: [UInt8] = []
        var piece = await nextOutput(process, watcher, &errors)
        while case .bytes? = piece { piece = await nextOutput(process, watcher, &errors) }
        guard case .exited(let end)? = piece, end.code == 0 else { throw copyError(errors, piece, path) }
    }

    private func copyError(_ text: [UInt8], _ piece: ProcessRelay.Piece?, _ path: String) -> AegisError {
        let message =
            String(decoding: text, as: UTF8.self).split(separator: "\n").first.map(String.init)
            ?? "copy of \(path) failed"
        if case .lost? = piece {
            return .conflict("instance-stopped", "the instance was stopped while files were copied")
        }
        let isMissing = message.contains("No such file")
        return isMissing
            ? .notFound("path-not-found", message, hint: "look around with 'aegis exec'")
            : .failed("copy-failed", message)
    }
}
