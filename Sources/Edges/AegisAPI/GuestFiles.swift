internal import AegisChannel
internal import AegisCore
internal import AegisIO
internal import AegisInstances
internal import AegisSessions
internal import AegisTar
internal import AegisWire

/// A path of the instance's own file system, worked on by its harness: the instance must run.
struct GuestFiles: Sendable {
    let instance: Instance
    let path: String

    /// What the path is, as the guest says; a link counts as what it leads to.
    ///
    /// - Throws: `path-not-found`, `instance-stopped`.
    func kind() async throws -> CopyRules.Kind {
        switch try await firstEntry(path) {
        case .directory: return .directory
        case .symbolicLink:
            // With a slash at the end the kernel follows the link, and wants a folder behind it.
            let behind = try? await firstEntry(path + "/")
            return behind == .directory ? .directory : .file
        default: return .file
        }
    }

    /// Reads the start of an archive of the path, and no more.
    private func firstEntry(_ path: String) async throws -> AegisTar.TarEntry.Kind {
        try await withCopy(try await instance.copyOut(path)) { process, watcher in
            var reader = TarReader()
            var errors: [UInt8] = []
            while true {
                let piece = await nextOutput(process, watcher, &errors)
                guard case .bytes(_, _, let bytes)? = piece else { throw copyError(errors, piece, path) }
                reader.feed(bytes[...])
                do throws(AegisTar.TarError) {
                    if case .entry(let entry)? = try reader.next() { return entry.kind }
                } catch { throw AegisError(error) }
            }
        }
    }

    /// Answers with the archive. Errors come before its first byte as a status, later by cutting the body.
    func send(_ writer: consuming HTTPResponseWriter) async throws {
        let process = try await instance.copyOut(path)
        defer { end(process) }
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

    /// Takes an archive into the folder that the path names.
    func receive(_ source: HTTPRequestBody, strip: Bool) async throws {
        // The slash says that only a folder will do.
        let target = path.hasSuffix("/") ? path : path + "/"
        try await withCopy(try await instance.copyIn(target)) { process, watcher in
            var stripper = strip ? TopStripper() : nil
            var buffer = ByteBuffer()
            // When the receiver ends early, its error text says why.
            var accepts = true
            while try await source.read(into: &buffer, atMost: 256 << 10) > 0 {
                let bytes = buffer.takeAll()
                let out = try stripper?.take(bytes[...]) ?? bytes
                guard accepts, !out.isEmpty else { continue }
                do { try await process.session.write(process.relay.number, out[...]) } catch is IOError {
                    accepts = false
                }
            }
            process.session.endInput(process.relay.number)
            var errors: [UInt8] = []
            var piece = await nextOutput(process, watcher, &errors)
            while case .bytes? = piece { piece = await nextOutput(process, watcher, &errors) }
            guard case .exited(let end)? = piece, end.code == 0 else { throw copyError(errors, piece, path) }
        }
    }

    /// Watches a copy; one that is left before its end is ended.
    private func withCopy<T>(
        _ process: RunningProcess, _ body: (RunningProcess, UInt64) async throws -> T
    ) async throws -> T {
        defer { end(process) }
        let (watcher, _) = try process.relay.attach(from: nil)
        defer { process.relay.detach(watcher) }
        return try await body(process, watcher)
    }

    /// Ends a copy, which may wait for a reader that is gone, and frees its number when it has ended.
    private func end(_ process: RunningProcess) {
        process.session.signal(process.relay.number, 9, group: true)
        instance.afterwards("copy-end") {
            _ = await process.relay.ended()
            await instance.finish(process)
        }
    }

    /// The next piece that is not an error text; error texts are collected, bounded.
    private func nextOutput(
        _ process: RunningProcess, _ watcher: UInt64, _ errors: inout [UInt8]
    ) async -> ProcessRelay.Piece? {
        while let piece = await process.relay.next(watcher) {
            guard case .bytes(.stderr, let offset, let bytes) = piece else { return piece }
            errors += bytes.prefix(max(0, 4096 - errors.count))
            process.relay.consumed(watcher, .stderr, upTo: offset + UInt64(bytes.count))
        }
        return nil
    }

    private func copyError(_ text: [UInt8], _ piece: ProcessRelay.Piece?, _ path: String) -> AegisError {
        let message =
            String(decoding: text, as: UTF8.self).split(separator: "\n").first.map(String.init)
            ?? "copy of \(path) failed"
        if case .lost? = piece {
            return .conflict("instance-stopped", "the instance was stopped while files were copied")
        }
        let hint = "files, folders and links can be copied"
        if message.hasSuffix(": \(hint)") {
            return .failed("not-copyable", String(message.dropLast(hint.utf8.count + 2)), hint: hint)
        }
        let isMissing = message.contains("No such file") || message.contains("no such file")
        return isMissing
            ? .notFound("path-not-found", message, hint: "look around with 'aegis exec'")
            : .failed("copy-failed", message)
    }
}
