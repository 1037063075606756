internal import CLinux
internal import Glibc

/// How to open a file; close-on-exec is always added.
package struct OpenFlags: OptionSet, Sendable {
    package let rawValue: Int32
    package init(rawValue: Int32) { self.rawValue = rawValue }
    /// Joins a literal. The standard library's way is generic and looks conformances up at run time, on every start.
    package init(arrayLiteral elements: OpenFlags...) { rawValue = elements.reduce(0) { $0 | $1.rawValue } }

    package static let readOnly = OpenFlags(rawValue: O_RDONLY)
    package static let writeOnly = OpenFlags(rawValue: O_WRONLY)
    package static let readWrite = OpenFlags(rawValue: O_RDWR)
    package static let create = OpenFlags(rawValue: O_CREAT)
    /// With `create`: fails when the name exists, never follows a link.
    package static let exclusive = OpenFlags(rawValue: O_EXCL)
    package static let truncate = OpenFlags(rawValue: O_TRUNC)
    package static let append = OpenFlags(rawValue: O_APPEND)
    package static let nonblocking = OpenFlags(rawValue: O_NONBLOCK)
    package static let directory = OpenFlags(rawValue: O_DIRECTORY)
    /// The last component may not be a symbolic link.
    package static let noFollow = OpenFlags(rawValue: O_NOFOLLOW)
    /// Only a reference to the place: no reading or writing, no permission on the file needed.
    package static let pathOnly = OpenFlags(rawValue: 0o10000000)
    /// A terminal opened this way does not become the controlling one.
    package static let noTerminal = OpenFlags(rawValue: O_NOCTTY)
}

/// Restrictions on how a path is walked (`openat2`).
package struct ResolveFlags: OptionSet, Sendable {
    package let rawValue: UInt64
    package init(rawValue: UInt64) { self.rawValue = rawValue }

    /// No mount point is crossed.
    package static let noMounts = ResolveFlags(rawValue: 0x01)
    /// No `/proc/*/fd`-like magic link is followed.
    package static let noMagicLinks = ResolveFlags(rawValue: 0x02)
    /// No symbolic link at all is followed.
    package static let noLinks = ResolveFlags(rawValue: 0x04)
    /// The result lies beneath the directory; `..` and absolute links that would leave it fail with `EXDEV`.
    package static let beneath = ResolveFlags(rawValue: 0x08)
    /// The directory acts as the root: absolute paths and links start there.
    package static let inRoot = ResolveFlags(rawValue: 0x10)
}

/// What a rename may do with the new name.
package enum RenameMode: Sendable {
    /// An existing target is replaced.
    case replace
    /// An existing target is an error (`EEXIST`).
    case noReplace
    /// Both names must exist and change places.
    case exchange
    var flags: UInt32 {
        switch self {
        case .replace: 0
        case .noReplace: 1
        case .exchange: 2
        }
    }
}

/// What kind of thing a name stands for.
package enum FileType: Sendable, Equatable {
    case regular, directory, symbolicLink, fifo, socket, characterDevice, blockDevice, unknown

    init(mode: UInt32) {
        self =
            switch mode & 0o170000 {
            case 0o100000: .regular
            case 0o040000: .directory
            case 0o120000: .symbolicLink
            case 0o010000: .fifo
            case 0o140000: .socket
            case 0o020000: .characterDevice
            case 0o060000: .blockDevice
            default: .unknown
            }
    }
}

/// What the kernel knows of a file.
package struct FileStatus: Sendable, Equatable {
    package var type: FileType
    /// The twelve permission bits (set-id and sticky included).
    package var permissions: UInt32
    package var user: UInt32
    package var group: UInt32
    package var links: UInt32
    package var inode: UInt64
    package var device: UInt64
    /// The device that a device file stands for.
    package var specialDevice: UInt64
    /// In bytes.
    package var size: UInt64
    /// What the file occupies, in bytes.
    package var allocated: UInt64
    /// Nanoseconds since 1970, UTC.
    package var modified: Int64
    /// Nanoseconds since 1970, UTC: the inode's last change.
    package var changed: Int64
    /// Nanoseconds since 1970, UTC.
    package var accessed: Int64

    init(_ raw: al_status) {
        type = FileType(mode: raw.mode)
        permissions = raw.mode & 0o7777
        user = raw.uid
        group = raw.gid
        links = raw.links
        inode = raw.inode
        device = raw.device
        specialDevice = raw.special_device
        size = raw.size
        allocated = raw.blocks512 * 512
        modified = raw.modified_ns
        changed = raw.changed_ns
        accessed = raw.accessed_ns
    }

    /// Whether two statuses describe the same file.
    package func isSameFile(as other: FileStatus) -> Bool { inode == other.inode && device == other.device }
}

/// One name in a directory.
package struct DirectoryEntry: Sendable, Equatable {
    /// The name's bytes; Linux names are bytes, not text.
    package var bytes: [UInt8]
    /// What the directory says about it; `unknown` where the file system does not tell.
    package var type: FileType
    package var inode: UInt64
    /// The name as text, with replacement characters where it is not UTF-8.
    package var name: String { String(decoding: bytes, as: UTF8.self) }
}

/// Room on a file system.
package struct FreeSpace: Sendable, Equatable {
    /// Bytes that a caller without privileges may still use.
    package var freeBytes: UInt64
    package var totalBytes: UInt64
    /// Files that can be made still; the greatest number where the file system does not count them.
    package var freeInodes: UInt64
}

// MARK: - Relative to a directory

extension FileDescriptor {
    /// Opens a path, relative to the current directory when it does not start with `/`.
    package static func open(_ path: String, _ flags: OpenFlags = .readOnly, mode: UInt32 = 0o600) throws(Errno)
        -> FileDescriptor
    { try FileDescriptor(checking: unsafe al_open(AT_FDCWD, path, flags.rawValue, mode, 0)) }

    /// Opens a path relative to this directory.
    ///
    /// - Parameters:
    ///   - path: relative; what an absolute one means depends on `resolve`.
    ///   - flags: how to open.
    ///   - mode: permissions of a file that is created, before the umask.
    ///   - resolve: restrictions; give `.beneath` for every path that somebody else chose.
    /// - Returns: the open descriptor.
    /// - Throws: the error of the system call.
    package borrowing func open(
        _ path: String, _ flags: OpenFlags = .readOnly, mode: UInt32 = 0o600, resolve: ResolveFlags = []
    ) throws(Errno) -> FileDescriptor {
        try FileDescriptor(checking: unsafe al_open(raw, path, flags.rawValue, mode, resolve.rawValue))
    }

    /// Makes a directory in this one.
    package borrowing func makeDirectory(_ name: String, mode: UInt32 = 0o700) throws(Errno) {
        try check(unsafe mkdirat(raw, name, mode))
    }

    /// Removes a name that is not a directory.
    package borrowing func removeFile(_ name: String) throws(Errno) { try check(unsafe unlinkat(raw, name, 0)) }

    /// Removes an empty directory.
    package borrowing func removeDirectory(_ name: String) throws(Errno) {
        try check(unsafe unlinkat(raw, name, AT_REMOVEDIR))
    }

    /// Renames from this directory into another (or the same).
    package borrowing func rename(
        _ name: String, to directory: borrowing FileDescriptor, as newName: String, _ mode: RenameMode = .replace
    ) throws(Errno) { try check(unsafe al_rename(raw, name, directory.raw, newName, mode.flags)) }

    /// Renames within this directory.
    package borrowing func rename(_ name: String, as newName: String, _ mode: RenameMode = .replace) throws(Errno) {
        try check(unsafe al_rename(raw, name, raw, newName, mode.flags))
    }

    /// Makes a symbolic link `name` in this directory that points to `target`.
    package borrowing func makeLink(_ name: String, to target: String) throws(Errno) {
        try check(unsafe symlinkat(target, raw, name))
    }

    /// Where a symbolic link points.
    package borrowing func readLink(_ name: String) throws(Errno) -> String {
        let raw = raw
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = try check(
            unsafe buffer.withUnsafeMutableBytes { room -> Int in
                guard let base = room.baseAddress else { return 0 }
                return unsafe readlinkat(raw, name, base, room.count)
            })
        guard count < buffer.count else { throw .nameTooLong }
        return String(decoding: buffer[..<count], as: UTF8.self)
    }

    /// The status of a name in this directory; links are not followed unless asked.
    package borrowing func status(of name: String, followLinks: Bool = false) throws(Errno) -> FileStatus {
        var raw = al_status()
        try check(unsafe al_status_at(self.raw, name, followLinks ? 1 : 0, &raw))
        return FileStatus(raw)
    }

    /// Changes the owner of a name in this directory; a link itself, never what it points to.
    package borrowing func setOwner(of name: String, user: UInt32, group: UInt32) throws(Errno) {
        try check(unsafe fchownat(raw, name, user, group, AT_SYMLINK_NOFOLLOW))
    }

    /// Everything in this directory but `.` and `..`, in the kernel's order.
    ///
    /// - Parameter limit: more entries than this are an error (`EFBIG`), so that a hostile directory cannot fill memory.
    /// - Returns: the entries.
    /// - Throws: the error of the system call.
    package borrowing func entries(limit: Int = 1_000_000) throws(Errno) -> [DirectoryEntry] {
        let found = try firstEntries(limit + 1)
        guard found.count <= limit else { throw .fileTooLarge }
        return found
    }

    /// The first entries of this directory: at least `count` where there are so many, and a few more perhaps.
    borrowing func firstEntries(_ count: Int) throws(Errno) -> [DirectoryEntry] {
        try rewind()
        var found: [DirectoryEntry] = []
        var buffer = [UInt8](repeating: 0, count: 8192)
        while found.count < count {
            let used = try check(unsafe al_read_directory(raw, &buffer, buffer.count))
            if used == 0 { break }
            Self.parse(buffer[..<used], into: &found)
        }
        return found
    }

    private static func parse(_ bytes: ArraySlice<UInt8>, into found: inout [DirectoryEntry]) {
        var rest = bytes
        while rest.count > 9 {
            let type = UInt32(rest[rest.startIndex])
            let inode = rest.dropFirst().prefix(8).reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
            let name = rest.dropFirst(9).prefix { $0 != 0 }
            rest = rest.dropFirst(9 + name.count + 1)
            let bytes = Array(name)
            if bytes == [0x2E] || bytes == [0x2E, 0x2E] { continue }
            // A directory entry's type is the mode's type field, shifted.
            found.append(DirectoryEntry(bytes: bytes, type: FileType(mode: type << 12), inode: inode))
        }
    }

    /// Back to the start of a file or directory.
    package borrowing func rewind() throws(Errno) { _ = try seek(to: 0) }
}

// MARK: - The open file itself

extension FileDescriptor {
    /// The status of the open file.
    package borrowing func status() throws(Errno) -> FileStatus {
        var raw = al_status()
        try check(unsafe al_status_of(self.raw, &raw))
        return FileStatus(raw)
    }

    /// Changes the owner.
    package borrowing func setOwner(user: UInt32, group: UInt32) throws(Errno) { try check(fchown(raw, user, group)) }

    /// Changes the permissions, exactly: the umask has no part in it.
    package borrowing func setPermissions(_ mode: UInt32) throws(Errno) { try check(fchmod(raw, mode)) }

    /// Sets both times, in nanoseconds since 1970.
    package borrowing func setTimes(accessed: Int64, modified: Int64) throws(Errno) {
        try check(al_set_times(raw, accessed, modified))
    }

    /// Data and metadata are on the disk when this returns.
    package borrowing func sync() throws(Errno) {
        let raw = raw
        try retrying { fsync(raw) }
    }

    /// Data, and the metadata needed to read it, are on the disk when this returns.
    package borrowing func syncData() throws(Errno) {
        let raw = raw
        try retrying { fdatasync(raw) }
    }

    /// Cuts or extends the file to a size in bytes.
    package borrowing func truncate(to size: UInt64) throws(Errno) {
        let raw = raw
        try retrying { ftruncate(raw, off_t(size)) }
    }

    /// Moves the offset, in bytes from the start.
    package borrowing func seek(to offset: UInt64) throws(Errno) -> UInt64 {
        UInt64(try check(lseek(raw, off_t(offset), SEEK_SET)))
    }

    /// Takes an advisory lock on the open file (`flock`), held until it is closed everywhere or unlocked.
    ///
    /// - Returns: false when another holder has it and `wait` is false.
    package borrowing func lock(exclusive: Bool = true, wait: Bool = false) throws(Errno) -> Bool {
        if al_lock(raw, exclusive ? 1 : 0, wait ? 1 : 0) == 0 { return true }
        let error = Errno.current
        if error == .wouldBlock { return false }
        throw error
    }

    /// Gives an advisory lock back.
    package borrowing func unlock() throws(Errno) { try check(al_unlock(raw)) }

    /// Room on the file system that holds this file.
    package borrowing func freeSpace() throws(Errno) -> FreeSpace {
        var space = FreeSpace(freeBytes: 0, totalBytes: 0, freeInodes: 0)
        try check(unsafe al_free_space(raw, &space.freeBytes, &space.totalBytes, &space.freeInodes))
        return space
    }

    /// An unnamed file in memory.
    package static func inMemory(name: String) throws(Errno) -> FileDescriptor {
        try FileDescriptor(checking: unsafe al_memfd(name))
    }
}
