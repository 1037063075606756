import LinuxSys

/// Whether there is room for a little more in a folder.
enum RoomProbe {
    /// About what a start writes: what a failed one had written is gone when this is asked.
    private static let (files, bytes) = (32, 1 << 20)

    /// Tries to write there, without leaving anything.
    ///
    /// What file systems say is free is what anybody may take: root, which the daemon is, may still write where that is nothing
    /// (blocks kept for root), and may not where a quota has been reached.
    ///
    /// - Parameter folder: an absolute path.
    /// - Returns: true when there is no room for a few files and a MiB; false also when that cannot be found out.
    static func isFull(_ folder: String) -> Bool {
        do throws(Errno) {
            // They have no names, and go with their descriptors.
            let file = try FileDescriptor.open(folder, [.writeOnly, .nameless])
            var others: [SharedDescriptor] = []
            while others.count < files - 1 {
                others.append(SharedDescriptor(try FileDescriptor.open(folder, [.writeOnly, .nameless])))
            }
            // Not all the same: it would be no room at all to a file system that compresses.
            var noise = SystemRandomNumberGenerator()
            let block = (0..<4096).map { _ in UInt8.random(in: 0...255, using: &noise) }
            for _ in 0..<(bytes / block.count) { try file.writeAll(block[...]) }
            withExtendedLifetime(others) {}
            return false
        } catch {
            if error == .noSpace || error == .quotaReached { return true }
            guard error == .notSupported || error == .isDirectory || error == .invalidArgument else { return false }
            // A file system without nameless files: what it says has to do.
            guard let space = try? FileDescriptor.open(folder, [.pathOnly, .directory]).freeSpace() else {
                return false
            }
            return (space.totalBytes > 0 && space.freeBytes < bytes) || space.freeInodes < files
        }
    }
}

extension OpenFlags {
    /// A new file without a name in the folder that is given (`O_TMPFILE`).
    fileprivate static let nameless: OpenFlags = [.directory, OpenFlags(rawValue: 0o20000000)]
}

extension Errno {
    /// `EDQUOT`.
    fileprivate static let quotaReached = Errno(122)
}
