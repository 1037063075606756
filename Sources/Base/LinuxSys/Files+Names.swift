internal import CLinux
internal import Glibc

// Names as bytes: a Linux file name need not be text, and a name that was decoded may be another one. What comes from a
// guest's tree or from an archive goes through these.

extension FileDescriptor {
    /// Opens a path of bytes relative to this directory; see `open(_:_:mode:resolve:)`.
    package borrowing func open(
        bytes path: [UInt8], _ flags: OpenFlags = .readOnly, mode: UInt32 = 0o600, resolve: ResolveFlags = []
    ) throws(Errno) -> FileDescriptor {
        let raw = raw
        return try FileDescriptor(
            checking: try unsafe named(path) { unsafe al_open(raw, $0, flags.rawValue, mode, resolve.rawValue) })
    }

    /// Makes a directory in this one.
    package borrowing func makeDirectory(bytes name: [UInt8], mode: UInt32 = 0o700) throws(Errno) {
        let raw = raw
        try check(try unsafe named(name) { unsafe mkdirat(raw, $0, mode) })
    }

    /// Removes a name that is not a directory.
    package borrowing func removeFile(bytes name: [UInt8]) throws(Errno) {
        let raw = raw
        try check(try unsafe named(name) { unsafe unlinkat(raw, $0, 0) })
    }

    /// Renames from this directory into another (or the same).
    package borrowing func rename(
        bytes name: [UInt8], to directory: borrowing FileDescriptor, as newName: [UInt8], _ mode: RenameMode = .replace
    ) throws(Errno) {
        let from = raw
        let to = directory.raw
        let result = try unsafe named(name) { old throws(Errno) in
            try unsafe named(newName) { unsafe al_rename(from, old, to, $0, mode.flags) }
        }
        try check(result)
    }

    /// Makes a symbolic link in this directory.
    package borrowing func makeLink(bytes name: [UInt8], to target: [UInt8]) throws(Errno) {
        let raw = raw
        let result = try unsafe named(name) { name throws(Errno) in
            try unsafe named(target) { unsafe symlinkat($0, raw, name) }
        }
        try check(result)
    }

    /// Makes a second name (in this directory) for a file of another directory; a link is not followed.
    package borrowing func makeHardLink(
        bytes name: [UInt8], to directory: borrowing FileDescriptor, _ oldName: [UInt8]
    ) throws(Errno) {
        let here = raw
        let there = directory.raw
        let result = try unsafe named(name) { new throws(Errno) in
            try unsafe named(oldName) { unsafe linkat(there, $0, here, new, 0) }
        }
        try check(result)
    }

    /// Where a symbolic link of this directory points.
    package borrowing func readLink(bytes name: [UInt8]) throws(Errno) -> [UInt8] {
        let raw = raw
        var buffer = [CChar](repeating: 0, count: 4097)
        let count = try unsafe named(name) { Int32(unsafe readlinkat(raw, $0, &buffer, 4097)) }
        try check(count)
        guard count < 4097 else { throw .nameTooLong }
        return buffer[..<Int(count)].map(UInt8.init(bitPattern:))
    }

    /// The status of a name in this directory; links are not followed.
    package borrowing func status(ofBytes name: [UInt8]) throws(Errno) -> FileStatus {
        let raw = raw
        var status = al_status()
        try check(try unsafe named(name) { unsafe al_status_at(raw, $0, 0, &status) })
        return FileStatus(status)
    }

    /// Changes the owner of a name in this directory; a link itself, never what it points to.
    package borrowing func setOwner(ofBytes name: [UInt8], user: UInt32, group: UInt32) throws(Errno) {
        let raw = raw
        try check(try unsafe named(name) { unsafe fchownat(raw, $0, user, group, AT_SYMLINK_NOFOLLOW) })
    }

    /// Sets the modification time (nanoseconds since 1970) of a name in this directory; of a link itself.
    package borrowing func setModified(ofBytes name: [UInt8], _ nanoseconds: Int64) throws(Errno) {
        let raw = raw
        let seconds = nanoseconds >= 0 ? nanoseconds / 1_000_000_000 : -((999_999_999 - nanoseconds) / 1_000_000_000)
        let rest = nanoseconds - seconds * 1_000_000_000
        // UTIME_OMIT of the kernel: leave the access time as it is.
        let times = [timespec(tv_sec: 0, tv_nsec: (1 << 30) - 2), timespec(tv_sec: Int(seconds), tv_nsec: Int(rest))]
        let result = try unsafe named(name) { name in
            unsafe times.withUnsafeBufferPointer { unsafe utimensat(raw, name, $0.baseAddress, AT_SYMLINK_NOFOLLOW) }
        }
        try check(result)
    }
}

/// Calls `body` with a name as C wants it; a zero byte inside is `EINVAL`.
private func named(_ bytes: [UInt8], _ body: (UnsafePointer<CChar>) throws(Errno) -> Int32) throws(Errno) -> Int32 {
    guard !bytes.contains(0) else { throw .invalidArgument }
    let terminated = bytes.map { CChar(bitPattern: $0) } + [0]
    return try unsafe terminated.withUnsafeBufferPointer { buffer throws(Errno) in
        guard let base = buffer.baseAddress else { throw .invalidArgument }
        return try unsafe body(base)
    }
}
