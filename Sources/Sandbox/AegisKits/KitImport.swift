internal import AegisCore
internal import AegisFiles
internal import AegisIO
internal import AegisImages
internal import AegisTar
internal import LinuxSys

/// Copies a kit of a user's, a folder or an archive, into a folder of ours; links, devices and ways out are refused.
struct KitImport: Sendable {
    let inflater: Inflater

    /// Fills a folder.
    ///
    /// - Parameters:
    ///   - target: an empty folder.
    ///   - source: opened with the rights of its user.
    ///   - identity: whose rights count beneath a folder; nil for this process's own.
    /// - Throws: `unsafe-entry`, `unsafe-path`, `archive-too-large`, `bad-archive`, and refusals of the file system.
    func fill(_ target: String, from source: OpenedPath, as identity: FileIdentity?) async throws {
        var options = TarExtractOptions(top: source.isDirectory ? .strip : .keep)
        options.links = .refuse
        options.refusal = .fail
        options.maximumBytes = KitTree.mostBytes
        options.maximumEntries = KitTree.mostEntries
        let extractor = TarExtractor(
            into: try FileDescriptor.open(target, [.readOnly, .directory]), options: options)
        guard source.isDirectory else {
            // Headers and padding come on top of the content.
            let limit = KitTree.mostBytes + UInt64(KitTree.mostEntries + 64) * 2048
            do {
                try await inflater.inflate(try source.reopened(), limit: limit, of: "'\(source.realPath)'") { bytes in
                    try await BlockingPool.shared.run { try extractor.consume(bytes[...]) }
                }
                _ = try await BlockingPool.shared.run { try extractor.finish() }
            } catch let error as AegisError where error.code == "bad-archive" {
                throw AegisError.failed(
                    error.code,
                    "'\(source.realPath)' is neither a folder nor a whole archive of a kit: \(error.message)",
                    hint: "name the folder that kit.yaml is in, or a .tar, .tar.gz or .tar.zst of it")
            }
            return
        }
        try await BlockingPool.shared.run { try Self.copy(source, identity, to: extractor) }
        _ = try await BlockingPool.shared.run { try extractor.finish() }
    }

    private static func copy(_ source: OpenedPath, _ identity: FileIdentity?, to extractor: TarExtractor) throws {
        let tree = HostTree(target: source.realPath, root: source, readOnly: true, owner: (0, 0), identity: identity)
        let producer = try tree.withRights { () throws(AegisError) in try tree.read(".") }
        while let piece = try tree.withRights({ () throws(AegisError) in try producer.next() }) {
            try extractor.consume(piece[...])
        }
    }
}
