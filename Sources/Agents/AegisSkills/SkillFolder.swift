internal import AegisCore
internal import LinuxSys

/// A skill's folder, read without ever leaving it: each open is beneath its descriptor, and what is no plain file is refused.
struct SkillFolder: ~Copyable {
    let descriptor: FileDescriptor
    let limits: SkillLimits

    /// Opens the folder of a root; nil when there is none.
    static func open(_ root: SkillRoot) throws(Errno) -> FileDescriptor? {
        do throws(Errno) {
            let base = try FileDescriptor.open(root.base, [.readOnly, .directory])
            guard !root.inside.isEmpty else { return base }
            return try base.open(root.inside, [.readOnly, .directory], resolve: [.beneath, .noLinks, .noMagicLinks])
        } catch {
            guard error == .noSuchFile || error == .notDirectory else { throw error }
            return nil
        }
    }

    /// Opens a skill in a root's folder; a link is not followed.
    init(_ name: String, in root: borrowing FileDescriptor, limits: SkillLimits) throws(Errno) {
        descriptor = try root.open(name, [.readOnly, .directory], resolve: [.beneath, .noLinks, .noMagicLinks])
        self.limits = limits
    }

    /// What looking through a folder may still cost.
    private struct Walk {
        var found: [SkillFile] = []
        /// Names seen, folders among them: a tree of empty folders is large, too.
        var names = 0
        var bytes = 0
        /// Whether somebody else can change what was seen.
        var isOpen = false
    }

    /// Whether somebody but root and the daemon's own user can change what has this status.
    static func isOpen(_ status: FileStatus) -> Bool {
        let isOwn = status.user == 0 || status.user == CurrentProcess.effectiveUser
        // Whoever is in its group, or anybody.
        return !isOwn || (status.type != .symbolicLink && status.permissions & 0o022 != 0)
    }

    /// All its files with their hashes, by path. Names that begin with a dot are left out.
    ///
    /// - Parameter budget: bytes that may be read, for this skill and those after it; less when this returns or throws.
    /// - Returns: the files, and whether somebody else than the daemon's user can change one of them.
    /// - Throws: `skill-invalid` for what leads out of it, is no file, or is too much.
    borrowing func files(budget: inout Int) throws(AegisError) -> (files: [SkillFile], isOpen: Bool) {
        var walk = Walk()
        defer { budget -= walk.bytes }
        try look("", depth: 0, &walk, min(limits.total, budget))
        return (walk.found.sorted { $0.path < $1.path }, walk.isOpen)
    }

    private borrowing func look(_ path: String, depth: Int, _ walk: inout Walk, _ most: Int) throws(AegisError) {
        guard depth <= limits.depth else { throw refused(path, "its folders are more than \(limits.depth) deep") }
        if !walk.isOpen { walk.isOpen = try isOpen(path) }
        for entry in try entries(path) where !entry.name.hasPrefix(".") && entry.name != "node_modules" {
            let inner = path.isEmpty ? entry.name : "\(path)/\(entry.name)"
            walk.names += 1
            guard walk.names <= limits.files * 2 else {
                throw refused(inner, "it has more than \(limits.files * 2) files and folders")
            }
            guard String(validating: entry.bytes, as: UTF8.self) != nil else {
                throw refused(inner, "its name is not UTF-8")
            }
            if entry.type == .directory {
                try look(inner, depth: depth + 1, &walk, most)
                continue
            }
            let limit = inner == SkillDocument.file ? limits.document : most
            let bytes = try read(inner, limit: min(limit, max(0, most - walk.bytes)))
            walk.bytes += bytes.count
            if !walk.isOpen { walk.isOpen = try isOpen(inner) }
            walk.found.append(SkillFile(path: inner, size: bytes.count, hash: SkillHash.of(bytes)))
            guard walk.found.count <= limits.files else {
                throw refused(inner, "it has more than \(limits.files) files")
            }
        }
    }

    /// Looks at the name itself and, for a link, at what it leads to.
    private borrowing func isOpen(_ path: String) throws(AegisError) -> Bool {
        do throws(Errno) {
            guard !path.isEmpty else { return Self.isOpen(try descriptor.status()) }
            let own = try descriptor.status(of: path)
            guard own.type == .symbolicLink, !Self.isOpen(own) else { return Self.isOpen(own) }
            return Self.isOpen(try descriptor.status(of: path, followLinks: true))
        } catch { throw refused(path, "\(error)") }
    }

    private borrowing func entries(_ path: String) throws(AegisError) -> [DirectoryEntry] {
        do throws(Errno) {
            let folder = try descriptor.open(
                path.isEmpty ? "." : path, [.readOnly, .directory], resolve: [.beneath, .noLinks, .noMagicLinks])
            return try folder.entries(limit: limits.files * 4)
        } catch { throw refused(path, "\(error)") }
    }

    /// Reads a file beneath the folder. A link inside it may be used, one out of it may not.
    ///
    /// - Throws: `skill-invalid`.
    borrowing func read(_ path: String, limit: Int) throws(AegisError) -> [UInt8] {
        let bytes: [UInt8]?
        do throws(Errno) {
            // Not waiting: a FIFO would.
            let file = try descriptor.open(
                path, [.readOnly, .nonblocking, .noTerminal], resolve: [.beneath, .noMagicLinks])
            let status = try file.status()
            // Told by its size: reading up to the limit of one large file after the other would cost, too.
            guard status.size <= UInt64(limit) else { throw Errno.fileTooLarge }
            bytes = status.type == .regular ? try file.readAll(limit: limit) : nil
        } catch {
            switch error {
            case .crossDevice: throw refused(path, "it leads out of the skill's folder")
            case .fileTooLarge:
                throw refused(
                    path, "it, or all that was read with it, is too large: \(ByteSize(UInt64(limit))) were left")
            default: throw refused(path, "\(error)")
            }
        }
        guard let bytes else { throw refused(path, "it is not a file") }
        return bytes
    }

    private borrowing func refused(_ path: String, _ why: String) -> AegisError {
        AegisError(.usage, "skill-invalid", "\(path.isEmpty ? "the folder" : "'\(path)'"): \(why)")
    }
}
