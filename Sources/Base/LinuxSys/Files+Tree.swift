internal import CLinux
internal import Glibc

extension FileDescriptor {
    /// Removes a name of this directory with everything beneath it; a name that does not exist is fine.
    ///
    /// Works by descriptor and never follows a link, so that nobody who changes the tree meanwhile can lead it out. It
    /// goes down by opening and up by `..`, whose identity is checked, so that depth costs neither descriptors nor stack.
    ///
    /// - Throws: `EBUSY` when somebody moved a directory that was being cleared; what the kernel refused otherwise.
    package borrowing func removeTree(_ name: String) throws(Errno) {
        let bytes = Array(name.utf8)
        if try removedAsFile(bytes) { return }
        var here = try openForRemoval(bytes)
        var path = [Level(name: bytes, status: try here.status())]
        while let level = path.last {
            if let child = level.pending.last {
                path[path.count - 1].pending.removeLast()
                if try here.removedAsFile(child) { continue }
                here = try here.openForRemoval(child)
                path.append(Level(name: child, status: try here.status()))
            } else if let directories = try here.clearFiles() {
                path[path.count - 1].pending = directories
            } else {
                path.removeLast()
                guard let above = path.last else { return try removeEmptied(level.name) }
                let parent = try here.open("..", [.readOnly, .directory])
                guard try parent.status().isSameFile(as: above.status) else { throw .busy }
                here = parent
                try here.removeEmptied(level.name)
            }
        }
    }

    /// One directory on the way down.
    private struct Level {
        var name: [UInt8]
        var status: FileStatus
        /// Directories seen in it and not yet cleared.
        var pending: [[UInt8]] = []
    }

    /// Names are taken in portions, so that a huge directory does not fill memory.
    private static var portion: Int { 4096 }

    private borrowing func openForRemoval(_ name: [UInt8]) throws(Errno) -> FileDescriptor {
        let raw = raw
        let flags: OpenFlags = [.readOnly, .directory, .noFollow]
        return try FileDescriptor(
            checking: unsafe withPath(name) { unsafe al_open(raw, $0, flags.rawValue, 0, 0) })
    }

    /// Removes the name if it is no directory; true also when nothing is there.
    private borrowing func removedAsFile(_ name: [UInt8]) throws(Errno) -> Bool {
        let raw = raw
        if unsafe withPath(name, { unsafe unlinkat(raw, $0, 0) }) == 0 { return true }
        let error = Errno.current
        if error == .noSuchFile { return true }
        // Linux says EISDIR; EPERM is what POSIX and some file systems say.
        if error == .isDirectory || error == .notPermitted { return false }
        throw error
    }

    private borrowing func removeEmptied(_ name: [UInt8]) throws(Errno) {
        let raw = raw
        if unsafe withPath(name, { unsafe unlinkat(raw, $0, AT_REMOVEDIR) }) == 0 { return }
        let error = Errno.current
        if error != .noSuchFile { throw error }
    }

    /// What a name of this directory and everything beneath it occupy on its file system, in bytes.
    ///
    /// Goes through the tree as `removeTree` does; what changes meanwhile is counted as it is met.
    ///
    /// - Parameters:
    ///   - name: a directory.
    ///   - limit: how many names are looked at, so that a hostile tree costs neither time nor memory without end.
    /// - Returns: the bytes, and whether they are all of it.
    /// - Throws: what the kernel refused at the top.
    package borrowing func treeSize(_ name: String, atMost limit: Int) throws(Errno) -> (bytes: UInt64, isWhole: Bool) {
        let bytes = Array(name.utf8)
        var here = try openForRemoval(bytes)
        let top = try here.status()
        var sum = TreeSum(bytes: top.allocated, left: limit, device: top.device)
        var path = [Level(name: bytes, status: top, pending: try here.measure(&sum))]
        while let level = path.last {
            if let child = level.pending.last {
                path[path.count - 1].pending.removeLast()
                do throws(Errno) {
                    let next = try here.openForRemoval(child)
                    let status = try next.status()
                    // Another file system is mounted there.
                    guard status.device == sum.device else { continue }
                    path.append(Level(name: child, status: status, pending: try next.measure(&sum)))
                    here = next
                } catch { sum.isWhole = sum.isWhole && error == .noSuchFile }
            } else {
                path.removeLast()
                guard let above = path.last else { break }
                let parent = try here.open("..", [.readOnly, .directory])
                guard try parent.status().isSameFile(as: above.status) else { return (sum.bytes, false) }
                here = parent
            }
        }
        return (sum.bytes, sum.isWhole)
    }

    /// What has been counted of a tree.
    private struct TreeSum {
        var bytes: UInt64
        /// How many names may still be looked at.
        var left: Int
        let device: UInt64
        var isWhole = true
        /// Files with several names that were counted.
        var linked: Set<UInt64> = []
    }

    /// Counts what is directly in this directory.
    ///
    /// - Returns: the directories in it.
    private borrowing func measure(_ sum: inout TreeSum) throws(Errno) -> [[UInt8]] {
        var directories: [[UInt8]] = []
        let found = try firstEntries(sum.left + 1)
        if found.count > sum.left { sum.isWhole = false }
        for entry in found.prefix(sum.left) {
            sum.left -= 1
            guard let status = try? status(ofBytes: entry.bytes), status.device == sum.device else { continue }
            if status.type == .directory {
                directories.append(entry.bytes)
            } else if status.links > 1, !sum.linked.insert(status.inode).inserted {
                continue
            }
            sum.bytes += status.allocated
        }
        return directories
    }

    /// Removes what is no directory; the directories of one portion, or nil when nothing is left.
    private borrowing func clearFiles() throws(Errno) -> [[UInt8]]? {
        let found = try firstEntries(Self.portion)
        if found.isEmpty { return nil }
        var directories: [[UInt8]] = []
        for entry in found {
            if entry.type != .directory, try removedAsFile(entry.bytes) { continue }
            directories.append(entry.bytes)
        }
        return directories
    }
}

/// Calls `body` with a path as C wants it.
private func withPath(_ bytes: [UInt8], _ body: (UnsafePointer<CChar>) -> Int32) -> Int32 {
    let terminated = bytes.map { CChar(bitPattern: $0) } + [0]
    return unsafe terminated.withUnsafeBufferPointer { buffer in
        guard let base = buffer.baseAddress else { return -1 }
        return unsafe body(base)
    }
}
