package import AegisCore
package import LinuxSys
internal import Synchronization

/// What an extraction may do.
package struct TarExtractOptions: Sendable {
    /// Symbolic links.
    package enum LinkPolicy: Sendable, Equatable {
        /// No link is made.
        case refuse
        /// Links that stay inside whatever else lies there are made (see `TarPath.linkStaysInside`); others are refused.
        case keepInside
    }
    /// What a refused entry (link, device, FIFO) does to the rest.
    package enum Refusal: Sendable, Equatable {
        /// The extraction fails.
        case fail
        /// The entry is left out and reported.
        case report
    }
    package var top = TarTop.keep
    package var links = LinkPolicy.keepInside
    package var refusal = Refusal.report
    /// The most bytes of content, all files together.
    package var maximumBytes: UInt64 = 64 << 30
    /// The most entries.
    package var maximumEntries = 1_000_000
    /// Owner of what is made; nil = the ids of this process. Ids in the archive are never used.
    package var owner: (user: UInt32, group: UInt32)?

    /// The defaults: 64 GiB, a million entries, inner links kept, the rest reported.
    package init(top: TarTop = .keep) { self.top = top }
}

/// What an extraction did.
package struct TarReport: Sendable, Equatable {
    /// An entry that was left out.
    package struct Refused: Sendable, Equatable {
        package var path: String
        package var reason: String
    }
    package var files = 0
    package var directories = 0
    package var links = 0
    package var bytes: UInt64 = 0
    /// The first 100 entries that were left out.
    package var refused: [Refused] = []
    package var refusedCount = 0
    /// Set when the archive's first entry, the thing itself that was asked for, was left out.
    package var refusedTop: Refused?
    /// Nothing done.
    package init() {}

    mutating func refuse(_ path: [UInt8], _ reason: String) {
        refusedCount += 1
        if refused.count < 100 { refused.append(Refused(path: TarPath.shown(path), reason: reason)) }
    }
}

/// Extracts a tar stream, however hostile, beneath a directory.
///
/// Every name is looked up again from the root with `openat2`, beneath it and through no link, so neither the archive nor
/// somebody who changes the tree meanwhile leads a write outside. Files appear whole (written aside, then renamed);
/// set-id bits, devices and FIFOs are never made; owners of the archive are ignored.
package final class TarExtractor: Sendable {
    private let state: Mutex<Extraction>

    /// Takes the directory; whatever is in it may be replaced by files of the archive, never a directory by a file.
    package init(into root: consuming FileDescriptor, options: TarExtractOptions = TarExtractOptions()) {
        state = Mutex(Extraction(root: root, options: options))
    }

    /// Takes the next bytes of the stream and writes what they complete. Blocks on the disk.
    ///
    /// - Throws: `bad-archive`, `archive-too-large`, `unsafe-path`, `disk-full` or the file system's refusal. The
    ///   extraction is over then; the file being written is removed, earlier ones stay.
    package func consume(_ bytes: ArraySlice<UInt8>) throws(AegisError) {
        try state.withLock { state throws(AegisError) in try state.consume(bytes) }
    }

    /// Says that the stream has ended and sets what waited for the end (times and modes of directories).
    ///
    /// - Throws: `bad-archive` when the archive is not complete.
    package func finish() throws(AegisError) -> TarReport {
        try state.withLock { state throws(AegisError) in try state.finish() }
    }

    /// What was done so far.
    package var report: TarReport { state.withLock { $0.report } }
}

/// The file that is being written.
private struct OpenFile: ~Copyable {
    let parent: FileDescriptor
    let file: FileDescriptor
    let temporary: [UInt8]
    let name: [UInt8]
    let entry: TarEntry
    var isComplete = false

    init(
        parent: consuming FileDescriptor, file: consuming FileDescriptor, temporary: [UInt8], name: [UInt8],
        entry: TarEntry
    ) {
        self.parent = parent
        self.file = file
        self.temporary = temporary
        self.name = name
        self.entry = entry
    }

    // A file that was not completed leaves nothing behind.
    deinit { if !isComplete { try? parent.removeFile(bytes: temporary) } }
}

private struct Extraction: ~Copyable {
    let root: FileDescriptor
    let options: TarExtractOptions
    var report = TarReport()
    private var reader = TarReader()
    private var entries = 0
    private var current: OpenFile?
    /// Inodes made here: only these may get a second name.
    private var made: Set<UInt64> = []
    /// Directories made here, whose mode and time are set at the end.
    private var directories: [(path: [[UInt8]], entry: TarEntry)] = []

    init(root: consuming FileDescriptor, options: TarExtractOptions) {
        self.root = root
        self.options = options
    }

    mutating func consume(_ bytes: ArraySlice<UInt8>) throws(AegisError) {
        reader.feed(bytes)
        do {
            while let event = try nextEvent() {
                switch event {
                case .entry(let entry): try begin(entry)
                case .data(let piece): try write(piece)
                case .entryEnd: try complete()
                case .end: break
                }
            }
        } catch {
            current = nil
            throw error
        }
    }

    mutating func finish() throws(AegisError) -> TarReport {
        current = nil
        do { try reader.finish() } catch { throw AegisError(error) }
        for (path, entry) in directories.reversed() {
            // Somebody may have removed or replaced it meanwhile: then there is nothing to set.
            guard let directory = try? openDirectory(path) else { continue }
            try? directory.setPermissions(entry.permissions & 0o777)
            try? directory.setTimes(accessed: entry.modified, modified: entry.modified)
        }
        directories = []
        return report
    }

    private mutating func nextEvent() throws(AegisError) -> TarReader.Event? {
        do { return try reader.next() } catch { throw AegisError(error) }
    }

    // MARK: Entries

    private mutating func begin(_ entry: TarEntry) throws(AegisError) {
        entries += 1
        guard entries <= options.maximumEntries else {
            throw .tooLarge("the archive has more than \(options.maximumEntries) entries")
        }
        guard entry.size <= options.maximumBytes, report.bytes <= options.maximumBytes - entry.size else {
            throw .tooLarge("the archive has more than \(ByteSize(options.maximumBytes)) of content")
        }
        let path = try placed(entry.path)
        switch entry.kind {
        case .directory: try makeDirectory(path, entry)
        case .file: try openFile(path, entry)
        case .symbolicLink: try makeLink(path, entry)
        case .hardLink: try makeHardLink(path, entry)
        case .device: try refuse(entry, "devices are not extracted")
        case .fifo: try refuse(entry, "FIFOs are not extracted")
        }
    }

    /// The entry's place beneath the root.
    private func placed(_ raw: [UInt8]) throws(AegisError) -> [[UInt8]] {
        var path: [[UInt8]]
        do { path = try TarPath.components(raw) } catch { throw AegisError(error) }
        // A producer that was asked for the content of a folder calls it `.`: that is then the first component.
        if raw.first == TarPath.dot, raw.count == 1 || raw[1] == TarPath.slash { path.insert([TarPath.dot], at: 0) }
        guard !path.isEmpty else { return [] }
        switch options.top {
        case .keep: if path[0] == [TarPath.dot] { path.removeFirst() }
        case .rename(let name): path[0] = name
        case .strip: path.removeFirst()
        }
        return path
    }

    private mutating func refuse(_ entry: TarEntry, _ reason: String) throws(AegisError) {
        guard options.refusal == .report else {
            throw AegisError(.denied, "unsafe-entry", "'\(TarPath.shown(entry.path))' in the archive: \(reason)")
        }
        report.refuse(entry.path, reason)
        if entries == 1 { report.refusedTop = report.refused.first }
    }

    private mutating func makeDirectory(_ path: [[UInt8]], _ entry: TarEntry) throws(AegisError) {
        guard let name = path.last else { return }
        let parent = try parent(of: path)
        do {
            try parent.makeDirectory(bytes: name, mode: 0o700)
        } catch {
            guard error == .fileExists else { throw AegisError(error, entry.path) }
            guard let status = try? parent.status(ofBytes: name), status.type == .directory else {
                throw .occupied(entry.path, "a directory cannot replace what is not one")
            }
            return
        }
        try claim(name, in: parent, entry)
        directories.append((path, entry))
        report.directories += 1
    }

    private mutating func openFile(_ path: [[UInt8]], _ entry: TarEntry) throws(AegisError) {
        guard let name = path.last else {
            throw AegisError(.usage, "is-a-directory", "the archive's root is a file; name the file to write")
        }
        let parent = try parent(of: path)
        if let status = try? parent.status(ofBytes: name), status.type == .directory {
            throw .occupied(entry.path, "a file cannot replace a directory")
        }
        do {
            let temporary = Array(".aegis-\(try Random.hex(bytes: 8))".utf8)
            let file = try parent.open(
                bytes: temporary, [.writeOnly, .create, .exclusive, .noFollow], mode: 0o600)
            current = OpenFile(parent: parent, file: file, temporary: temporary, name: name, entry: entry)
        } catch { throw AegisError(error, entry.path) }
    }

    private mutating func write(_ bytes: ArraySlice<UInt8>) throws(AegisError) {
        report.bytes += UInt64(bytes.count)
        guard var open = current.take() else { return }
        do { try open.file.writeAll(bytes) } catch { throw AegisError(error, open.entry.path) }
        open.isComplete = false
        current = consume open
    }

    private mutating func complete() throws(AegisError) {
        guard var open = current.take() else { return }
        let path = open.entry.path
        do {
            if let owner = options.owner { try open.file.setOwner(user: owner.user, group: owner.group) }
            try open.file.setPermissions(open.entry.permissions & 0o777)
            try open.file.setTimes(accessed: open.entry.modified, modified: open.entry.modified)
            try open.parent.rename(bytes: open.temporary, to: open.parent, as: open.name)
            open.isComplete = true
            made.insert(try open.file.status().inode)
        } catch { throw AegisError(error, path) }
        report.files += 1
    }

    private mutating func makeLink(_ path: [[UInt8]], _ entry: TarEntry) throws(AegisError) {
        guard options.links == .keepInside else { return try refuse(entry, "links are not extracted") }
        guard let name = path.last, TarPath.linkStaysInside(entry.linkTarget, depth: path.count - 1) else {
            return try refuse(entry, "the link points outside, to '\(TarPath.shown(entry.linkTarget))'")
        }
        let parent = try parent(of: path)
        try replace(name, in: parent, entry) { aside throws(Errno) in
            try parent.makeLink(bytes: aside, to: entry.linkTarget)
        }
        try claim(name, in: parent, entry)
        try? parent.setModified(ofBytes: name, entry.modified)
        report.links += 1
    }

    /// A second name, only for a file that this extraction has made: else an archive could give names to files that were
    /// there before.
    private mutating func makeHardLink(_ path: [[UInt8]], _ entry: TarEntry) throws(AegisError) {
        guard options.links == .keepInside else { return try refuse(entry, "links are not extracted") }
        let target = try placed(entry.linkTarget)
        guard let name = path.last, let oldName = target.last else {
            return try refuse(entry, "the link has no file to point to")
        }
        let there = try parent(of: target)
        guard let status = try? there.status(ofBytes: oldName), status.type == .regular, made.contains(status.inode)
        else { return try refuse(entry, "the link points to no file of this archive") }
        let parent = try parent(of: path)
        try replace(name, in: parent, entry) { aside throws(Errno) in
            try parent.makeHardLink(bytes: aside, to: there, oldName)
        }
        report.links += 1
    }

    // MARK: Names

    /// Makes something aside and renames it over what has the name; a directory is never replaced.
    private func replace(
        _ name: [UInt8], in parent: borrowing FileDescriptor, _ entry: TarEntry,
        _ make: ([UInt8]) throws(Errno) -> Void
    ) throws(AegisError) {
        if let status = try? parent.status(ofBytes: name), status.type == .directory {
            throw .occupied(entry.path, "a link cannot replace a directory")
        }
        do throws(Errno) {
            let aside = Array(".aegis-\(try Random.hex(bytes: 8))".utf8)
            try make(aside)
            do { try parent.rename(bytes: aside, to: parent, as: name) } catch {
                try? parent.removeFile(bytes: aside)
                throw error
            }
            // Renaming one name of a file over another one of the same file does nothing and leaves both.
            try? parent.removeFile(bytes: aside)
        } catch { throw AegisError(error, entry.path) }
    }

    private func claim(_ name: [UInt8], in parent: borrowing FileDescriptor, _ entry: TarEntry) throws(AegisError) {
        guard let owner = options.owner else { return }
        do { try parent.setOwner(ofBytes: name, user: owner.user, group: owner.group) } catch {
            throw AegisError(error, entry.path)
        }
    }

    private func openDirectory(_ path: [[UInt8]]) throws(Errno) -> FileDescriptor {
        let joined = path.isEmpty ? [TarPath.dot] : Array(path.joined(separator: [TarPath.slash]))
        return try root.open(
            bytes: joined, [.readOnly, .directory], resolve: [.beneath, .noLinks, .noMagicLinks])
    }

    /// The directory that holds a path, made where it is missing.
    private func parent(of path: [[UInt8]]) throws(AegisError) -> FileDescriptor {
        let above = Array(path.dropLast())
        do { return try openDirectory(above) } catch {
            guard error == .noSuchFile else { throw AegisError(error, Array(above.joined(separator: [TarPath.slash]))) }
        }
        for count in 1...above.count {
            let here = Array(above.prefix(count))
            do throws(Errno) {
                let parent = try openDirectory(Array(here.dropLast()))
                do { try parent.makeDirectory(bytes: here[count - 1], mode: 0o755) } catch {
                    if error == .fileExists { continue }
                    throw error
                }
                if let owner = options.owner {
                    try parent.setOwner(ofBytes: here[count - 1], user: owner.user, group: owner.group)
                }
            } catch { throw AegisError(error, Array(here.joined(separator: [TarPath.slash]))) }
        }
        do { return try openDirectory(above) } catch {
            throw AegisError(error, Array(above.joined(separator: [TarPath.slash])))
        }
    }
}

extension AegisError {
    /// An archive's fault, for the user.
    package init(_ error: TarError) {
        switch error.reason {
        case .tooLarge: self = .tooLarge(error.message)
        case .unsafePath: self.init(.denied, "unsafe-path", error.message, hint: "nothing outside was touched")
        case .malformed, .unsupported, .truncated: self = .failed("bad-archive", error.message)
        }
    }

    static func tooLarge(_ message: String) -> AegisError { AegisError(.tooLarge, "archive-too-large", message) }

    static func notCopyable(_ path: [UInt8], _ what: String) -> AegisError {
        .failed(
            "not-copyable", "'\(TarPath.shown(path))' is \(what)", hint: "files, folders and links can be copied")
    }

    static func occupied(_ path: [UInt8], _ message: String) -> AegisError {
        .conflict("path-occupied", "'\(TarPath.shown(path))': \(message)")
    }

    /// A refusal of the file system, with the path of the archive at which it came.
    init(_ error: Errno, _ path: [UInt8]) {
        let name = "'\(TarPath.shown(path))'"
        switch error {
        case .noSpace, Errno.diskQuota:
            self = .failed("disk-full", "no space left while writing \(name)")
        case .accessDenied, .notPermitted, .readOnlyFileSystem:
            self = AegisError(.denied, "path-denied", "\(name): \(error)")
        case .tooManyLinks, .notDirectory, .crossDevice:
            self = AegisError(
                .denied, "unsafe-path", "\(name) leads through a link or a file", hint: "links are not followed")
        default:
            self = .failed("io-error", "\(name): \(error)")
        }
    }
}

extension Errno {
    fileprivate static let diskQuota = Errno(122)
}
