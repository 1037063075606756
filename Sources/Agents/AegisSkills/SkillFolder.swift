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

    /// All its files with their hashes, by path. Names that begin with a dot are left out.
    ///
    /// - Throws: `skill-invalid` for what leads out of it, is no file, or is too much.
    borrowing func files() throws(AegisError) -> [SkillFile] {
        var found: [SkillFile] = []
        var total = 0
        try walk("", depth: 0, into: &found, &total)
        return found.sorted { $0.path < $1.path }
    }

    private borrowing func walk(
        _ path: String, depth: Int, into found: inout [SkillFile], _ total: inout Int
    ) throws(AegisError) {
        guard depth <= limits.depth else { throw refused(path, "its folders are more than \(limits.depth) deep") }
        for entry in try entries(path) where !entry.name.hasPrefix(".") && entry.name != "node_modules" {
            let inner = path.isEmpty ? entry.name : "\(path)/\(entry.name)"
            guard String(validating: entry.bytes, as: UTF8.self) != nil else {
                throw refused(inner, "its name is not UTF-8")
            }
            if entry.type == .directory {
                try walk(inner, depth: depth + 1, into: &found, &total)
                continue
            }
            let bytes = try read(inner, limit: inner == SkillDocument.file ? limits.document : limits.total)
            total += bytes.count
            found.append(SkillFile(path: inner, size: bytes.count, hash: SkillHash.of(bytes)))
            guard found.count <= limits.files else { throw refused(inner, "it has more than \(limits.files) files") }
            guard total <= limits.total else {
                throw refused(inner, "its files have more than \(ByteSize(UInt64(limits.total)))")
            }
        }
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
            bytes = try file.status().type == .regular ? try file.readAll(limit: limit) : nil
        } catch {
            switch error {
            case .crossDevice: throw refused(path, "it leads out of the skill's folder")
            case .fileTooLarge: throw refused(path, "it is larger than \(ByteSize(UInt64(limit)))")
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
