internal import AegisCore
internal import AegisTar
package import LinuxSys

/// Fills a workspace with copies of files that Aegis keeps.
package enum WorkspaceLayout {
    /// Whether a folder has nothing in it. Blocks on the disk.
    ///
    /// - Throws: why it cannot be listed.
    package static func isEmpty(_ folder: OpenedPath) throws(Errno) -> Bool {
        try folder.openForUse().entries().isEmpty
    }

    /// Copies a file, or what is in a folder, to a place in the workspace. Blocks on the disk.
    ///
    /// - Parameters:
    ///   - source: the file or folder.
    ///   - target: relative to the workspace; the folder to fill, or the name of the file.
    ///   - workspace: the workspace.
    ///   - owner: whom everything that is made belongs to.
    /// - Throws: `disk-full` and other refusals of the file system.
    package static func copy(
        _ source: OpenedPath, to target: String, in workspace: OpenedPath, owner: FileIdentity
    ) throws {
        var folders = target.split(separator: "/").filter { $0 != "." }.map(String.init)
        var options = TarExtractOptions(top: .strip)
        if !source.isDirectory, let name = folders.popLast() { options.top = .rename(Array(name.utf8)) }
        options.owner = (owner.user, owner.group)
        options.links = .refuse
        options.refusal = .fail
        let extractor = TarExtractor(into: try makeFolders(folders[...], in: workspace, owner), options: options)
        let producer = try Self.producer(source)
        while let piece = try producer.next() { try extractor.consume(piece[...]) }
        _ = try extractor.finish()
    }

    private static func producer(_ source: OpenedPath) throws -> TarProducer {
        if source.isDirectory {
            return try TarProducer(root: try source.openForUse(), path: Array(".".utf8), named: Array("kit".utf8))
        }
        let (folder, name) = Files.split(source.realPath)
        return try TarProducer(
            root: try FileDescriptor.open(folder, [.readOnly, .directory]), path: Array(name.utf8),
            named: Array("kit".utf8))
    }

    /// Name by name, each opened before the next: another instance with the same workspace may put links there meanwhile.
    private static func makeFolders(
        _ names: ArraySlice<String>, in workspace: OpenedPath, _ owner: FileIdentity
    ) throws(Errno) -> FileDescriptor {
        var folder = try workspace.openForUse()
        for name in names {
            var isNew = true
            do throws(Errno) { try folder.makeDirectory(name, mode: 0o755) } catch {
                guard error == .fileExists else { throw error }
                isNew = false
            }
            let next = try folder.open(
                name, [.readOnly, .directory, .noFollow], resolve: [.beneath, .noLinks, .noMagicLinks])
            if isNew { try next.setOwner(of: ".", user: owner.user, group: owner.group) }
            folder = next
        }
        return folder
    }
}
