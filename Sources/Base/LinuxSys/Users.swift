internal import CLinux
internal import Glibc

extension CurrentProcess {
    /// Becomes another user for good: groups, ids, no new privileges, not dumpable. Only before a second thread exists.
    ///
    /// - Throws: `EPERM` without the right to change; the process must then end, because it may be half changed.
    package static func become(_ identity: UserIdentity) throws(Errno) {
        try check(unsafe al_become(identity.user, identity.group, identity.groups, identity.groups.count))
        guard getuid() == identity.user, geteuid() == identity.user, getgid() == identity.group else {
            throw .notPermitted
        }
    }

    /// The groups that the system's data bases give a user (at most 1024); asks them, which can block.
    package static func groups(ofUser user: UInt32, group: UInt32) throws(Errno) -> [UInt32] {
        var groups = [gid_t](repeating: 0, count: 1024)
        var count = groups.count
        try check(unsafe al_user_groups(user, group, &groups, &count))
        return Array(groups.prefix(count))
    }
}

/// What somebody wants to do with a file.
package struct FileAccess: OptionSet, Sendable {
    package let rawValue: Int32
    package init(rawValue: Int32) { self.rawValue = rawValue }
    package static let read = FileAccess(rawValue: R_OK)
    package static let write = FileAccess(rawValue: W_OK)
    /// Of a directory: to enter it.
    package static let execute = FileAccess(rawValue: X_OK)
}

extension FileDescriptor {
    /// Asks whether the process may do something with an open file, also when it was opened as a path only.
    ///
    /// - Throws: `EACCES`, `EROFS`.
    package borrowing func checkAccess(_ access: FileAccess) throws(Errno) {
        try check(al_access_of(raw, access.rawValue))
    }

    /// The supplementary groups (at most 1024) of a Unix socket's peer, as the kernel noted when it connected.
    package borrowing func peerGroups() throws(Errno) -> [UInt32] {
        var groups = [gid_t](repeating: 0, count: 1024)
        var count = groups.count
        try check(unsafe al_peer_groups(raw, &groups, &count))
        return Array(groups.prefix(count))
    }

    /// The magic number of the file system that holds this file.
    package borrowing func fileSystemMagic() -> UInt64 { al_file_system(raw) }

    /// Where the kernel says that this file is now; ` (deleted)` is appended to one without a name.
    package borrowing func realPath() throws(Errno) -> String { try Files.readLink("/proc/self/fd/\(raw)") }
}
