internal import AegisCore
internal import AegisFiles
internal import AegisIO
internal import AegisTar
internal import AegisWire

/// A path of a workspace or mount, worked on from the host.
struct HostFiles: Sendable {
    let tree: HostTree
    /// Within the tree.
    let path: String

    /// What the path is.
    ///
    /// - Throws: `path-not-found`, `unsafe-path`, `path-denied`.
    func kind() async throws -> CopyRules.Kind {
        let target = try await blocking { tree, path throws(AegisError) in try tree.kind(of: path) }
        guard case .exists(let kind) = target else { throw missing }
        return kind
    }

    /// Answers with the archive. Errors come before its first byte as a status, later by cutting the body.
    func send(_ writer: consuming HTTPResponseWriter) async throws {
        let producer = try await blocking { tree, path throws(AegisError) in try tree.read(path) }
        var piece = try await blocking { _, _ throws(AegisError) in try producer.next() }
        var body = try await writer.stream(200, headers: ["Content-Type": "application/x-tar"])
        while let bytes = piece {
            try await body.write(bytes[...])
            piece = try await blocking { _, _ throws(AegisError) in try producer.next() }
        }
        try await body.finish()
    }

    /// Takes an archive into the folder that the path names.
    func receive(_ body: HTTPRequestBody, strip: Bool) async throws {
        guard try await kind() == .directory else {
            throw AegisError(.usage, "not-a-directory", "'\(shown)' is a file, not a folder", hint: "name its folder")
        }
        let plan = CopyPlan(directory: path, top: strip ? .strip : .keep)
        let extractor = try await blocking { tree, _ throws(AegisError) in try tree.write(plan) }
        var buffer = ByteBuffer()
        while try await body.read(into: &buffer, atMost: 256 << 10) > 0 {
            let bytes = buffer.takeAll()
            try await blocking { _, _ throws(AegisError) in try extractor.consume(bytes[...]) }
        }
        _ = try await blocking { _, _ throws(AegisError) in try extractor.finish() }
    }

    private var shown: String { path == "." ? tree.target : "\(tree.target)/\(path)" }
    private var missing: AegisError { .notFound("path-not-found", "'\(shown)' does not exist in the instance") }

    /// Works on a thread that may block, with the rights that count in the tree.
    private func blocking<T: Sendable>(
        _ body: @escaping @Sendable (HostTree, String) throws(AegisError) -> T
    ) async throws -> T {
        let (tree, path) = (tree, path)
        return try await BlockingPool.shared.run {
            try tree.withRights { () throws(AegisError) in try body(tree, path) }
        }
    }
}
