package import AegisCore
package import LinuxSys
internal import Synchronization

/// Makes a tar stream of a file or tree beneath a directory, piece by piece.
///
/// No link is followed below the start: links are stored as links. Set-id bits, sockets, devices and FIFOs are left out;
/// owners are written as 0. Files that do not tell their size, as those of `/proc`, are read to their end first. Memory:
/// one directory's names per level, one piece of content, or one such file.
package final class TarProducer: Sendable {
    private let state: Mutex<Production>

    /// Starts at a path beneath a directory.
    ///
    /// - Parameters:
    ///   - root: the directory that nothing leaves.
    ///   - path: what to read, relative; empty or `.` for the directory itself. Links on the way are followed as long as
    ///     they stay beneath the directory; the last component is not followed.
    ///   - name: what the archive's first component is called.
    ///   - marksLeftOut: FIFOs and devices below the start get a header, so that whoever extracts the archive can say that
    ///     they were there.
    /// - Throws: `path-not-found`, `path-denied`, `unsafe-path`; `not-copyable` when the path itself is a device or the like.
    package init(
        root: consuming FileDescriptor, path: [UInt8], named name: [UInt8], marksLeftOut: Bool = false
    ) throws(AegisError) {
        let start: Start
        do throws(Errno) { start = try Start(root: root, path: path) } catch { throw Self.refusal(error, path) }
        if let what = Production.strange(start.status.type) { throw AegisError.notCopyable(path, what) }
        let (first, status) = (start.name, start.status)
        var production = Production(base: start.base, name: name, marksLeftOut: marksLeftOut)
        do throws(Errno) { try production.begin(first, status) } catch { throw Self.refusal(error, path) }
        state = Mutex(production)
    }

    private static func refusal(_ error: Errno, _ path: [UInt8]) -> AegisError {
        error == .noSuchFile
            ? .notFound("path-not-found", "'\(TarPath.shown(path))' does not exist") : AegisError(error, path)
    }

    /// The next piece of the archive, at most about `maximum` bytes (a header, or a file that was read whole, may pass it);
    /// nil at its end.
    ///
    /// - Throws: `io-error` when reading failed. Blocks on the disk.
    package func next(max maximum: Int = 256 << 10) throws(AegisError) -> [UInt8]? {
        try state.withLock { state throws(AegisError) in try state.next(max: max(maximum, 512)) }
    }

    /// What was archived, and what was left out.
    package var report: TarReport { state.withLock { $0.report } }
}

/// Where the walk starts.
private struct Start: ~Copyable {
    let base: FileDescriptor
    /// What to read in `base`; nil for all of it.
    let name: [UInt8]?
    let status: FileStatus

    init(root: borrowing FileDescriptor, path: [UInt8]) throws(Errno) {
        let parts = path.split(separator: TarPath.slash).filter { $0 != [TarPath.dot] }
        let above = parts.dropLast()
        let parentPath = above.isEmpty ? [TarPath.dot] : Array(above.joined(separator: [TarPath.slash]))
        // To pass through a directory needs less than to list it: only what is listed is opened for reading.
        let parent = try root.open(bytes: parentPath, [.pathOnly, .directory], resolve: [.beneath, .noMagicLinks])
        let last = parts.last.map(Array.init) ?? [TarPath.dot]
        let status = try parent.status(ofBytes: last)
        let isDirectory = status.type == .directory
        // Every field is set after the last call that can fail: a half-made owner of a descriptor does not compile.
        base = try parent.open(
            bytes: isDirectory ? last : [TarPath.dot], [.pathOnly, .directory, .noFollow],
            resolve: [.beneath, .noMagicLinks])
        self.status = status
        name = isDirectory ? nil : last
    }
}

private struct Production: ~Copyable {
    /// A directory whose names are being worked off.
    private struct Level {
        var path: [[UInt8]]
        /// Sorted backwards: the next one is last.
        var names: [[UInt8]]
    }

    /// What the walk works beneath: the start if it is a directory, else the directory that holds it.
    private let base: FileDescriptor
    private let name: [UInt8]
    private let marksLeftOut: Bool
    var report = TarReport()
    private var levels: [Level]
    private var file: FileDescriptor?
    private var remaining: UInt64 = 0
    private var padding = 0
    private var ended = false
    private var pending: [UInt8] = []

    init(base: consuming FileDescriptor, name: [UInt8], marksLeftOut: Bool) {
        self.base = base
        self.name = name
        self.marksLeftOut = marksLeftOut
        levels = []
    }

    /// Takes up the start: the base itself, or a name in it that is no directory.
    mutating func begin(_ file: [UInt8]?, _ status: FileStatus) throws(Errno) {
        if let file { try start(file, in: [], shownAs: [], status) } else { try enter([], status) }
    }

    mutating func next(max maximum: Int) throws(AegisError) -> [UInt8]? {
        var out = pending
        pending = []
        while out.count < maximum, !ended {
            if remaining > 0 {
                try readContent(into: &out, atMost: maximum - out.count)
            } else if var level = levels.popLast() {
                guard let name = level.names.popLast() else { continue }
                levels.append(level)
                try visit(name, in: level.path)
                out += pending
                pending = []
            } else {
                out += TarWriter.trailer
                ended = true
            }
        }
        return out.isEmpty ? nil : out
    }

    private mutating func readContent(into out: inout [UInt8], atMost room: Int) throws(AegisError) {
        var buffer = [UInt8](repeating: 0, count: Int(min(UInt64(max(room, 1)), remaining)))
        var count = 0
        if let open = file.take() {
            do { count = try open.read(into: &buffer) } catch { throw AegisError(error, name) }
            if count > 0 { file = consume open }
        }
        // The file became shorter than its header said: zeros keep the archive readable.
        if count == 0 { count = buffer.count }
        out += buffer[..<count]
        remaining -= UInt64(count)
        report.bytes += UInt64(count)
        guard remaining == 0 else { return }
        file = nil
        out += [UInt8](repeating: 0, count: padding)
    }

    private mutating func visit(_ name: [UInt8], in path: [[UInt8]]) throws(AegisError) {
        let shown = path + [name]
        do {
            let status = try directory(path).status(ofBytes: name)
            if status.type == .directory {
                try enter(shown, status)
            } else {
                try start(name, in: path, shownAs: shown, status)
            }
        } catch {
            // Gone since the directory was read, or not ours to read: the rest of the tree is still wanted.
            report.refuse(joined(shown), "\(error)")
        }
    }

    private borrowing func directory(
        _ path: [[UInt8]], _ access: OpenFlags = .pathOnly
    ) throws(Errno) -> FileDescriptor {
        let joined = path.isEmpty ? [TarPath.dot] : Array(path.joined(separator: [TarPath.slash]))
        return try base.open(bytes: joined, [access, .directory], resolve: [.beneath, .noLinks, .noMagicLinks])
    }

    private mutating func enter(_ path: [[UInt8]], _ status: FileStatus) throws(Errno) {
        var names: [[UInt8]] = []
        names = try directory(path, .readOnly).entries().map(\.bytes)
        names.sort { $1.lexicographicallyPrecedes($0) }
        header(path, .directory, status)
        levels.append(Level(path: path, names: names))
        report.directories += 1
    }

    private mutating func start(
        _ name: [UInt8], in path: [[UInt8]], shownAs shown: [[UInt8]], _ status: FileStatus
    ) throws(Errno) {
        let parent = try directory(path)
        switch status.type {
        case .regular:
            // Nonblocking: should it have become a FIFO meanwhile, opening must not wait for a writer.
            let open = try parent.open(bytes: name, [.readOnly, .noFollow, .nonblocking])
            let now = try open.status()
            guard now.type == .regular else { throw .noSuchFile }
            if now.size <= Self.smallFile {
                try whole(open, shown, now)
            } else {
                header(shown, .file, now)
                remaining = now.size
                padding = TarWriter.padding(after: now.size)
                file = consume open
            }
            report.files += 1
        case .symbolicLink:
            header(shown, .symbolicLink, status, target: try parent.readLink(bytes: name))
            report.links += 1
        case .fifo:
            if marksLeftOut { header(shown, .fifo, status) }
            report.refuse(joined(shown), "FIFOs are not archived")
        case .socket: report.refuse(joined(shown), "sockets are not archived")
        default:
            if marksLeftOut { header(shown, .device, status) }
            report.refuse(joined(shown), "devices are not archived")
        }
    }

    /// What is neither file, folder nor link, in words.
    static func strange(_ type: FileType) -> String? {
        switch type {
        case .regular, .directory, .symbolicLink: nil
        case .fifo: "a FIFO"
        case .socket: "a socket"
        default: "a device"
        }
    }

    /// Files up to this size are read before their header is written: it then tells how long they really are.
    private static let smallFile: UInt64 = 64 << 10
    /// The longest file that is read although it says that it is empty.
    private static let sizeless = 16 << 20

    /// Archives a small file, or one that does not tell its size.
    private mutating func whole(
        _ open: borrowing FileDescriptor, _ shown: [[UInt8]], _ status: FileStatus
    ) throws(Errno) {
        let limit = status.size == 0 ? Self.sizeless : Int(status.size)
        var content: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: status.size == 0 ? 4096 : limit)
        while content.count < limit {
            let count: Int
            // A file of the kernel's that waits for events has nothing to tell now.
            do throws(Errno) { count = try open.read(into: &buffer) } catch {
                guard error == .wouldBlock else { throw error }
                break
            }
            guard count > 0 else { break }
            content += buffer[..<min(count, limit - content.count)]
            if buffer.count < 64 << 10, status.size == 0 { buffer = [UInt8](repeating: 0, count: 64 << 10) }
        }
        guard status.size > 0 || content.count < limit else { throw .fileTooLarge }
        var entry = status
        entry.size = UInt64(content.count)
        header(shown, .file, entry)
        pending += content
        pending += [UInt8](repeating: 0, count: TarWriter.padding(after: entry.size))
        report.bytes += entry.size
    }

    private func joined(_ path: [[UInt8]]) -> [UInt8] { Array(([name] + path).joined(separator: [TarPath.slash])) }

    private mutating func header(
        _ path: [[UInt8]], _ kind: TarEntry.Kind, _ status: FileStatus, target: [UInt8] = []
    ) {
        let size = kind == .file ? status.size : 0
        pending += TarWriter.header(
            for: TarEntry(
                path: joined(path), kind: kind, permissions: status.permissions & 0o777, size: size,
                modified: status.modified, linkTarget: target))
    }
}
