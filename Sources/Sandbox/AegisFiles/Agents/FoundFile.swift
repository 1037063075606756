internal import AegisCapabilities
internal import AegisCore
internal import LinuxSys

/// Where a path of an agent leads: an open place, with the name that the kernel has for it.
struct FoundFile: ~Copyable {
    /// Opened as a path only: nothing was read, created or waited for.
    let descriptor: FileDescriptor
    let status: FileStatus
    /// The kernel's name, with the workspace's folder as `/workspace`.
    let path: CanonicalPath

    /// A descriptor of the same file that can be read; it never waits.
    func opened(_ flags: OpenFlags = [.readOnly]) throws(Errno) -> FileDescriptor {
        try FileDescriptor.open("/proc/self/fd/\(descriptor.raw)", [flags, .nonblocking, .noTerminal])
    }
}

/// What is known of a path.
enum Lookup: ~Copyable {
    case found(FoundFile)
    /// It cannot be opened; `path` is what it would be called as far as that is known.
    case missing(path: CanonicalPath, errno: Errno)
}

/// The place below which an agent's paths are walked.
struct FileRoot: ~Copyable {
    private let descriptor: FileDescriptor
    /// The kernel's name of it now.
    private let realPath: [UInt8]
    private let isWorkspace: Bool

    /// The root for a path.
    ///
    /// - Throws: `no-workspace` where there is none.
    init(_ path: AgentPath, in scope: FileScope) throws(AegisError) {
        if path.isInWorkspace, scope.workspace == nil {
            throw AegisError(.denied, "no-workspace", "there is no workspace, and so no '\(path.name)'")
        }
        do throws(Errno) {
            let opened =
                if path.isInWorkspace, let workspace = scope.workspace {
                    try workspace.descriptor.duplicate()
                } else {
                    try FileDescriptor.open("/", [.pathOnly, .directory])
                }
            let name = try Self.name(of: opened)
            self.init(opened, realPath: name, isWorkspace: path.isInWorkspace)
        } catch { throw .failed("io-error", "'\(path.name)' cannot be opened: \(error)") }
    }

    private init(_ descriptor: consuming FileDescriptor, realPath: [UInt8], isWorkspace: Bool) {
        self.descriptor = descriptor
        self.realPath = realPath
        self.isWorkspace = isWorkspace
    }

    /// How names of others are walked: links of the workspace stay in it; at the host the one root is the root.
    private var resolve: ResolveFlags { isWorkspace ? [.beneath, .noMagicLinks] : [.inRoot, .noMagicLinks] }

    /// Opens a place, and nothing more than that.
    func open(_ parts: some Collection<[UInt8]>, noLinks: Bool = false) throws(Errno) -> FileDescriptor {
        let path = parts.isEmpty ? [0x2e] : Array(parts.joined(separator: [0x2f]))
        return try descriptor.open(
            bytes: path, [.pathOnly], resolve: noLinks ? resolve.union(.noLinks) : resolve)
    }

    /// Whether there is something, reached without a link.
    func holds(_ parts: some Collection<[UInt8]>) -> Bool { (try? open(parts, noLinks: true)) != nil }

    /// Looks a path up.
    func find(_ path: AgentPath) -> Lookup {
        do throws(Errno) {
            return .found(try found(open(path.parts)))
        } catch {
            return .missing(path: nameOfMissing(path), errno: error)
        }
    }

    /// An opened place with its name.
    ///
    /// - Throws: `ENOENT` when it was deleted meanwhile; `EXDEV` when it lies outside.
    func found(_ descriptor: consuming FileDescriptor) throws(Errno) -> FoundFile {
        let status = try descriptor.status()
        guard let path = try name(descriptor) else { throw .crossDevice }
        return FoundFile(descriptor: descriptor, status: status, path: path)
    }

    /// What the agent's world calls an open place; nil when it is not in it.
    private func name(_ place: borrowing FileDescriptor) throws(Errno) -> CanonicalPath? {
        let real = try Self.name(of: place)
        let workspace = Array(FileScope.workspaceName.utf8)
        guard isWorkspace else {
            // A folder of the host that has the workspace's name cannot be named at all.
            guard let path = CanonicalPath(bytes: real), let reserved = CanonicalPath(bytes: workspace),
                !path.isWithin(reserved)
            else { return nil }
            return path
        }
        if real == realPath { return CanonicalPath(bytes: workspace) }
        guard real.starts(with: realPath), real.count > realPath.count, real[realPath.count] == 0x2f else { return nil }
        return CanonicalPath(bytes: workspace + real[realPath.count...])
    }

    /// What would be the name of something that is not there: the deepest folder that is, and the rest as it was written.
    private func nameOfMissing(_ path: AgentPath) -> CanonicalPath {
        for count in stride(from: path.parts.count - 1, through: 0, by: -1) {
            guard let folder = try? open(path.parts.prefix(count)), let name = try? name(folder),
                let whole = CanonicalPath(
                    bytes: (name.bytes.count > 1 ? name.bytes : [])
                        + AgentPath.joined(path.parts.dropFirst(count)))
            else { continue }
            return whole
        }
        return path.name
    }

    /// The kernel's name of an open place.
    ///
    /// - Throws: `ENOENT` when nothing has that name any more.
    private static func name(of place: borrowing FileDescriptor) throws(Errno) -> [UInt8] {
        let name = try place.readLink(bytes: Array("/proc/self/fd/\(place.raw)".utf8))
        guard name.first == 0x2f else { throw .noSuchFile }
        if name.suffix(10).elementsEqual(" (deleted)".utf8) {
            // What the kernel adds to a name that is gone; a name that really ends so is still there.
            let named = try place.open(bytes: name, [.pathOnly, .noFollow])
            guard try named.status().isSameFile(as: place.status()) else { throw .noSuchFile }
        }
        return name
    }
}
