package import AegisCore
package import LinuxSys

/// A path of a caller's, opened with the caller's rights. Everything later works on the descriptor, never on the name.
package final class OpenedPath: Sendable {
    /// Opened as a path only (`O_PATH`).
    package let descriptor: FileDescriptor
    /// As it was when opened.
    package let status: FileStatus
    /// Where it is, without links.
    package let realPath: String
    /// For example `ext4`; the magic number in hexadecimal where the name is not known.
    package let fileSystem: String

    /// Whether it is a directory (else a regular file).
    package var isDirectory: Bool { status.type == .directory }

    /// Opens a folder that Aegis itself has made, with this process's rights.
    package convenience init(ownFolder path: String) throws(AegisError) {
        do throws(Errno) {
            try self.init(FileDescriptor.open(path, [.pathOnly, .directory, .noFollow]))
        } catch { throw .failed("workspaces-unusable", "'\(path)' cannot be opened: \(error)") }
    }

    /// Opens a file or folder beneath a folder of Aegis's own, with this process's rights; no link is followed.
    ///
    /// - Parameters:
    ///   - path: relative; `.` for the folder itself.
    ///   - root: the folder's absolute path.
    /// - Throws: why it cannot be opened.
    package convenience init(own path: String, beneath root: String) throws(Errno) {
        let folder = try FileDescriptor.open(root, [.pathOnly, .directory, .noFollow])
        try self.init(folder.open(path, [.pathOnly, .noFollow], resolve: [.beneath, .noLinks]))
    }

    /// Opens a folder beneath one that is open; no link is followed, and no other file system is entered by a link.
    ///
    /// - Parameters:
    ///   - path: relative; `.` for the folder itself.
    ///   - root: the folder that it lies in.
    /// - Throws: why it cannot be opened.
    package convenience init(folder path: String, in root: OpenedPath) throws(Errno) {
        try self.init(
            root.descriptor.open(path, [.pathOnly, .directory, .noFollow], resolve: [.beneath, .noLinks]))
    }

    init(_ descriptor: consuming FileDescriptor) throws(Errno) {
        status = try descriptor.status()
        realPath = try descriptor.realPath()
        fileSystem = FileSystems.name(descriptor.fileSystemMagic())
        self.descriptor = descriptor
    }

    /// A descriptor of the same file or directory that can be read; who opened the path may read it.
    package func reopened() throws(AegisError) -> FileDescriptor {
        do throws(Errno) { return try FileDescriptor.open("/proc/self/fd/\(descriptor.raw)", [.readOnly]) } catch {
            throw .failed("io-error", "'\(realPath)' cannot be read: \(error)")
        }
    }

    /// A directory's descriptor that can be read, for work beneath it with this process's rights.
    package func openForUse() throws(Errno) -> FileDescriptor {
        try descriptor.open(".", [.readOnly, .directory])
    }
}

/// Names of file systems by their magic numbers.
enum FileSystems {
    private static let names: [UInt64: String] = [
        0xEF53: "ext4", 0x5846_5342: "xfs", 0x9123_683E: "btrfs", 0x0102_1994: "tmpfs", 0x794C_7630: "overlay",
        0x6969: "nfs", 0x6573_5546: "fuse", 0x0102_1997: "9p", 0x4D44: "vfat", 0x5346_544E: "ntfs",
        0x2FC1_2FC1: "zfs", 0xF2F5_2010: "f2fs", 0xFF53_4D42: "cifs", 0xFE53_4D42: "smb2", 0x9660: "iso9660",
        0x7371_7368: "squashfs", 0xE0F5_E1E2: "erofs", 0x2011_BAB0: "exfat", 0xCA45_1A4E: "bcachefs",
        0x9FA0: "proc", 0x6265_6572: "sysfs", 0x27E0EB: "cgroup", 0x6367_7270: "cgroup2", 0x6462_6720: "debugfs",
        0x7472_6163: "tracefs", 0x7363_6673: "securityfs", 0xCAFE_4A11: "bpf", 0x1CD1: "devpts", 0x6E73_6673: "nsfs",
        0x6265_6570: "configfs", 0xDE5E_81E4: "efivarfs", 0x6165_676C: "pstore", 0x1980_0202: "mqueue",
    ]
    /// File systems that show the kernel, not data.
    static let ofTheKernel: Set<String> = [
        "proc", "sysfs", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "bpf", "devpts", "nsfs", "configfs",
        "efivarfs", "pstore", "mqueue",
    ]

    static func name(_ magic: UInt64) -> String { names[magic] ?? "0x" + String(magic, radix: 16) }
}
