internal import CLinux
internal import Glibc

/// Whole files and trees by path.
package enum Files {
    /// Reads a small file.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - limit: a larger file is an error (`EFBIG`), in bytes.
    /// - Returns: the content.
    /// - Throws: the error of the system call.
    package static func read(_ path: String, limit: Int) throws(Errno) -> [UInt8] {
        try FileDescriptor.open(path, [.readOnly, .nonblocking, .noTerminal]).readAll(limit: limit)
    }

    /// Replaces a file as a whole: readers see the old content or the new, never a mixture.
    ///
    /// - Parameters:
    ///   - path: the file; its directory must exist.
    ///   - bytes: the new content.
    ///   - mode: permissions of the new file, exactly.
    ///   - synced: content and name survive a power loss when this returns.
    /// - Throws: the error of the system call.
    package static func writeAtomically(_ path: String, _ bytes: [UInt8], mode: UInt32 = 0o600, synced: Bool = false)
        throws(Errno)
    {
        let (directory, name) = split(path)
        try FileDescriptor.open(directory, [.readOnly, .directory])
            .writeAtomically(name, bytes, mode: mode, synced: synced)
    }

    /// Makes a directory and what is missing above it (`mkdir -p`).
    ///
    /// - Parameters:
    ///   - path: the directory.
    ///   - mode: permissions of the directories that are made, before the umask.
    /// - Throws: the error of the system call.
    package static func makeDirectories(_ path: String, mode: UInt32 = 0o700) throws(Errno) {
        try FileDescriptor.open(path.hasPrefix("/") ? "/" : ".", [.readOnly, .directory])
            .makeDirectories(String(path.drop { $0 == "/" }), mode: mode)
    }

    /// Removes a file or a whole tree; links are removed, never followed. A name that does not exist is fine.
    package static func removeTree(_ path: String) throws(Errno) {
        let (directory, name) = split(path)
        let parent: FileDescriptor
        do { parent = try FileDescriptor.open(directory, [.readOnly, .directory]) } catch {
            if error == .noSuchFile { return }
            throw error
        }
        try parent.removeTree(name)
    }

    /// The status of a path; links are followed unless said otherwise.
    package static func status(_ path: String, followLinks: Bool = true) throws(Errno) -> FileStatus {
        var raw = al_status()
        try check(unsafe al_status_at(AT_FDCWD, path, followLinks ? 1 : 0, &raw))
        return FileStatus(raw)
    }

    /// Whether something has this name.
    package static func exists(_ path: String) -> Bool { (try? status(path, followLinks: false)) != nil }

    /// Removes a name that is not a directory.
    package static func removeFile(_ path: String) throws(Errno) { try check(unsafe unlink(path)) }

    /// Renames, replacing an existing file.
    package static func rename(_ path: String, to newPath: String, _ mode: RenameMode = .replace) throws(Errno) {
        try check(unsafe al_rename(AT_FDCWD, path, AT_FDCWD, newPath, mode.flags))
    }

    /// Changes permissions of what the path names.
    package static func setPermissions(_ path: String, _ mode: UInt32) throws(Errno) {
        try check(unsafe chmod(path, mode))
    }

    /// Changes the owner of a path; a link itself, never what it points to.
    package static func setOwner(_ path: String, user: UInt32, group: UInt32) throws(Errno) {
        try check(unsafe lchown(path, user, group))
    }

    /// Where a symbolic link points.
    package static func readLink(_ path: String) throws(Errno) -> String {
        let (directory, name) = split(path)
        return try FileDescriptor.open(directory, [.pathOnly, .directory]).readLink(name)
    }

    /// Makes a symbolic link.
    package static func makeLink(_ path: String, to target: String) throws(Errno) {
        try check(unsafe symlink(target, path))
    }

    /// Makes a named pipe.
    package static func makeFIFO(_ path: String, mode: UInt32 = 0o600) throws(Errno) {
        try check(unsafe mkfifo(path, mode))
    }

    /// What lies in a directory, sorted by name.
    package static func list(_ path: String, limit: Int = 1_000_000) throws(Errno) -> [DirectoryEntry] {
        try FileDescriptor.open(path, [.readOnly, .directory]).entries(limit: limit)
            .sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }
    }

    /// How the files begin that `writeAtomically` writes before they get their names.
    static let unfinishedPrefix = ".new-"

    /// Removes the files of a directory that `writeAtomically` has not come to the end of, as its process was killed.
    ///
    /// - Parameter directory: one in which nobody writes.
    /// - Throws: the error of the system call; what it could remove is gone.
    package static func removeUnfinished(in directory: String) throws(Errno) {
        for entry in try list(directory) where entry.type == .regular && entry.name.hasPrefix(unfinishedPrefix) {
            try removeFile("\(directory)/\(entry.name)")
        }
    }

    /// A path as it is from `directory` on if it is relative, without `.` and slashes that mean nothing.
    ///
    /// `..` stays: what it leads to is the kernel's to say when links are on the way.
    package static func absolute(_ path: String, from directory: String) -> String {
        // By bytes: every command of the CLI comes through here before it does anything.
        let whole = (path.hasPrefix("/") ? path : directory + "/" + path).utf8
        var kept: [UInt8] = []
        for component in whole.split(separator: 0x2f) where !(component.count == 1 && component.first == 0x2e) {
            kept.append(0x2f)
            kept += component
        }
        return kept.isEmpty ? "/" : String(decoding: kept, as: UTF8.self)
    }

    /// A path's directory (`.` when it has none) and its last component.
    package static func split(_ path: String) -> (directory: String, name: String) {
        let trimmed = path.count > 1 && path.hasSuffix("/") ? path.dropLast() : path[...]
        guard let slash = trimmed.lastIndex(of: "/") else { return (".", String(trimmed)) }
        let directory = trimmed[..<slash]
        return (directory.isEmpty ? "/" : String(directory), String(trimmed[trimmed.index(after: slash)...]))
    }

    /// Looks a program up as a shell would.
    ///
    /// - Parameters:
    ///   - name: with a slash it is taken as a path.
    ///   - path: folders separated by colons.
    /// - Returns: nil when no executable file of that name is there.
    package static func findExecutable(_ name: String, path: String) -> String? {
        if name.contains("/") { return isExecutable(name) ? name : nil }
        return path.split(separator: ":").lazy.map { "\($0)/\(name)" }.first(where: isExecutable)
    }

    private static func isExecutable(_ path: String) -> Bool {
        guard let status = try? status(path), status.type == .regular else { return false }
        return unsafe access(path, X_OK) == 0
    }
}

extension FileDescriptor {
    /// Reads from here to the end.
    ///
    /// - Parameter limit: more than this many bytes is an error (`EFBIG`).
    /// - Returns: what was read; empty at the end of the stream.
    /// - Throws: the error of the system call.
    package borrowing func readAll(limit: Int) throws(Errno) -> [UInt8] {
        var all: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let count = try read(into: &chunk)
            if count == 0 { return all }
            guard all.count + count <= limit else { throw .fileTooLarge }
            all.append(contentsOf: chunk[..<count])
        }
    }

    /// Replaces a file of this directory as a whole; see `Files.writeAtomically`.
    package borrowing func writeAtomically(
        _ name: String, _ bytes: [UInt8], mode: UInt32 = 0o600, synced: Bool = false
    ) throws(Errno) {
        // The kernel's limit for a name is 255 bytes; the temporary one has 24 of its own.
        let end = String(decoding: name.utf8.prefix(200), as: UTF8.self)
        let temporary = "\(Files.unfinishedPrefix)\(try Random.hex(bytes: 8))-\(end)"
        let file = try open(temporary, [.writeOnly, .create, .exclusive, .noFollow], mode: mode)
        do {
            try file.setPermissions(mode)
            try file.writeAll(bytes[...])
            if synced { try file.sync() }
            try rename(temporary, as: name)
        } catch {
            try? removeFile(temporary)
            throw error
        }
        if synced { try sync() }
    }

    /// Makes a relative directory and what is missing above it; what exists stays as it is.
    package borrowing func makeDirectories(_ path: String, mode: UInt32 = 0o700) throws(Errno) {
        var here = try duplicate()
        for component in path.split(separator: "/") where component != "." {
            do { try here.makeDirectory(String(component), mode: mode) } catch {
                if error != .fileExists { throw error }
            }
            here = try here.open(String(component), [.readOnly, .directory])
        }
    }
}
