package import AegisCapabilities
internal import AegisCore
package import LinuxSys

/// A file that was read whole.
package struct FileContent: Sendable {
    /// Its name as the kernel has it.
    package var path: CanonicalPath
    package var bytes: [UInt8]
}

/// What is at a path.
package struct FileListing: Sendable {
    /// One name in a directory.
    package struct Entry: Sendable {
        package var name: String
        package var kind: FileType
        /// 0 for everything but files.
        package var size: UInt64
    }
    /// The name as the kernel has it.
    package var path: CanonicalPath
    package var kind: FileType
    package var size: UInt64
    /// By name; empty when it is no directory.
    package var entries: [Entry]
    /// Whether there are more.
    package var isTruncated: Bool
}

extension AgentFiles {
    /// Reads a file.
    ///
    /// - Parameters:
    ///   - text: the path.
    ///   - limit: how long it may be, in bytes.
    /// - Returns: the whole of it.
    /// - Throws: `Denial`; `path-not-found`, `not-a-file`, `file-too-large`, `unsafe-path`, `path-denied`, `path-invalid`.
    package func read(_ text: String, limit: Int) throws -> FileContent {
        let path = try AgentPath(text)
        return try withRights(path) {
            let file = try decide(path, .read) { min($0.size, UInt64(limit)) }
            let bytes = try content(file.file, path, limit: limit)
            let name = file.file.path
            file.settle(bytes: UInt64(bytes.count))
            return FileContent(path: name, bytes: bytes)
        }
    }

    /// Says what is at a path, and what is in a directory.
    ///
    /// - Parameters:
    ///   - text: the path.
    ///   - limit: how many entries are told.
    /// - Returns: the entries by name.
    /// - Throws: as `read` does; `directory-too-large` beyond 100,000 entries.
    package func list(_ text: String, limit: Int) throws -> FileListing {
        let path = try AgentPath(text)
        return try withRights(path) {
            let file = try decide(path, .read) { _ in 0 }
            var listing = FileListing(
                path: file.file.path, kind: file.file.status.type, size: file.file.status.size, entries: [],
                isTruncated: false)
            if listing.kind == .directory {
                let descriptor = try calls(path) { () throws(Errno) in try file.file.opened([.readOnly, .directory]) }
                listing.size = 0
                (listing.entries, listing.isTruncated) = try entries(descriptor, path, limit)
            } else if listing.kind != .regular {
                listing.size = 0
            }
            file.settle(bytes: 0)
            return listing
        }
    }

    private func entries(
        _ directory: borrowing FileDescriptor, _ path: AgentPath, _ limit: Int
    ) throws(AegisError) -> ([FileListing.Entry], Bool) {
        let found: [DirectoryEntry]
        do throws(Errno) { found = try directory.entries(limit: 100_000) } catch {
            guard error != .fileTooLarge else {
                throw AegisError(.tooLarge, "directory-too-large", "'\(path.name)' has more than 100000 entries")
            }
            throw Self.refusal(error, path)
        }
        let sorted = found.sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }
        let told = sorted.prefix(limit).map { entry in
            let status = try? directory.status(ofBytes: entry.bytes)
            let kind = status?.type ?? entry.type
            return FileListing.Entry(name: entry.name, kind: kind, size: kind == .regular ? status?.size ?? 0 : 0)
        }
        return (told, sorted.count > limit)
    }

    // MARK: Parts that writing shares

    /// A place that may be used.
    struct Decided: ~Copyable {
        var file: FoundFile
        private let admission: Admission

        init(file: consuming FoundFile, admission: consuming Admission) {
            self.file = file
            self.admission = admission
        }

        /// Ends the use.
        consuming func settle(bytes: UInt64) { admission.settle(used: Amounts(bytes: bytes)) }
    }

    /// Looks a path up and asks for it. What does not exist is asked for too: whether it does is not told to everybody.
    func decide(_ path: AgentPath, _ access: Access, bytes: (FileStatus) -> UInt64) throws -> Decided {
        let root = try FileRoot(path, in: scope)
        switch root.find(path) {
        case .found(let file):
            let admission = try admit(access, file.path, given: path, bytes: bytes(file.status))
            do { try checkGuarded(file, path) } catch {
                admission.refund()
                throw error
            }
            return Decided(file: file, admission: admission)
        case .missing(let name, let errno):
            let admission = try admit(access, name, given: path)
            admission.refund()
            throw Self.refusal(errno, path)
        }
    }

    /// Reads a regular file whole.
    func content(_ file: borrowing FoundFile, _ path: AgentPath, limit: Int) throws(AegisError) -> [UInt8] {
        guard file.status.type == .regular else { throw Self.notAFile(file.status, path) }
        let size = file.status.size
        let tooLarge = AegisError(
            .tooLarge, "file-too-large", "'\(path.name)' has \(size) bytes, at most \(limit) are read",
            hint: "search it with grep")
        guard size <= UInt64(limit) else { throw tooLarge }
        do throws(Errno) { return try file.opened().readAll(limit: limit) } catch {
            throw error == .fileTooLarge ? tooLarge : Self.refusal(error, path)
        }
    }
}
