package import AegisCapabilities
internal import AegisCore
internal import LinuxSys

/// How far a walk through folders may go.
package struct WalkBounds: Sendable {
    /// Names that are looked at.
    package var entries = 200_000
    /// Folders in folders.
    package var depth = 64
    /// Asked now and then; true ends the walk with what was found.
    package var isOver: @Sendable () -> Bool = { false }
    /// The bounds as they stand.
    package init() {}
}

/// Which files a walk visits.
package enum FileFilter: Sendable {
    /// By their names as the kernel has them.
    case named(PathPattern)
    /// By their names, of a pattern that begins where the walk does, as that was written: it may be reached through a link.
    case rebased(PathPattern)
    /// By what follows the folder where the walk begins, as if that were the root; where it begins with a file, by the file's name.
    case below(PathPattern)
}

/// Which names a walk takes, below one place.
struct WalkNames {
    let pattern: PathPattern?
    /// How many bytes of a name come before what the pattern is for.
    private let base: Int

    init(_ filter: FileFilter?, _ start: CanonicalPath, isFolder: Bool) {
        (pattern, base) =
            switch filter {
            case nil: (nil, 0)
            case .named(let pattern): (pattern, 0)
            case .rebased(let pattern): (pattern.rebased(to: start) ?? pattern, 0)
            case .below(let pattern) where isFolder: (pattern, start.bytes.count > 1 ? start.bytes.count : 0)
            case .below(let pattern): (pattern, start.bytes.lastIndex(of: 0x2f) ?? 0)
            }
    }

    func fits(_ path: CanonicalPath) -> Bool {
        guard let pattern else { return true }
        guard base > 0 else { return pattern.matches(path) }
        guard let rest = CanonicalPath(bytes: Array(path.bytes.dropFirst(base))) else { return false }
        return pattern.matches(rest)
    }
}

/// What a walk left out.
package struct WalkSummary: Sendable, Equatable {
    /// Files that were looked at.
    package var files = 0
    /// Files that no grant lets be read.
    package var notGranted = 0
    /// Files that are larger than is searched.
    package var tooLarge = 0
    /// Files that are no text.
    package var binary = 0
    /// Whether a bound ended the walk.
    package var isCut = false
}

/// What a walk does by one grant.
final class WalkShare {
    let grant: GrantID
    /// Nil once it is settled.
    private var admission: Admission?
    /// Bytes that were reserved and not used yet; those that were used.
    private var reserved: UInt64
    private var used: UInt64 = 0

    init(_ admission: consuming Admission, reserved: UInt64 = 0) {
        grant = admission.grant
        self.reserved = reserved
        self.admission = consume admission
    }

    func check() throws(Denial) { try admission?.check() }

    /// Counts bytes that are about to be read. What is reserved is reserved in large portions: each is a record.
    ///
    /// - Throws: when there are not so many left, or the grant was taken back.
    func use(_ bytes: UInt64) throws(Denial) {
        try check()
        if bytes > reserved {
            let portion: UInt64 = 4 << 20
            do throws(Denial) {
                try admission?.reserve(Amounts(bytes: bytes + portion))
                reserved += bytes + portion
            } catch {
                guard error.reason == .bytesUsedUp else { throw error }
                try admission?.reserve(Amounts(bytes: bytes - reserved))
                reserved = bytes
            }
        }
        reserved -= bytes
        used += bytes
    }

    /// Ends it: what was read takes the place of what was reserved.
    func settle() {
        guard let last = admission.take() else { return }
        last.settle(used: Amounts(bytes: used))
    }
}

/// Says during a file whether the walk may go on: neither its time nor the grant of the place may be over.
final class WalkWatch {
    private let share: WalkShare
    private let hasEnded: @Sendable () -> Bool
    /// Why it must not.
    private(set) var reason: any Error = CancellationError()

    init(_ share: WalkShare, _ hasEnded: @escaping @Sendable () -> Bool) {
        self.share = share
        self.hasEnded = hasEnded
    }

    func isOver() -> Bool {
        if hasEnded() { return true }
        do throws(Denial) { try share.check() } catch {
            reason = error
            return true
        }
        return false
    }
}

/// One walk: below one folder that was asked for, with every file decided on by itself.
struct FileWalk: ~Copyable {
    let files: AgentFiles
    let path: AgentPath
    private let names: WalkNames
    let bounds: WalkBounds
    var summary = WalkSummary()
    private let root: FileRoot
    /// What decides on files, without the grants that are used up or taken back meanwhile.
    private var grants: GrantSet
    private let now = Timestamp.now()
    /// By the grant that allowed the place where it starts.
    private let own: WalkShare
    /// By other grants that files are read by.
    private var others: [GrantID: WalkShare] = [:]
    /// The largest file that is read; nil when names are enough.
    private let reads: UInt64?
    private var left: Int

    /// Asks for the folder (or file) that the walk starts from.
    init(
        _ files: AgentFiles, _ path: AgentPath, names: WalkNames, bounds: WalkBounds, reads: UInt64?,
        admission: consuming Admission
    ) throws {
        self.files = files
        self.path = path
        self.names = names
        self.bounds = bounds
        root = try FileRoot(path, in: files.scope)
        grants = files.grants.grants(of: files.holder)
        self.reads = reads
        own = WalkShare(admission)
        left = bounds.entries
    }

    /// What long work on one file asks meanwhile.
    var watch: WalkWatch { WalkWatch(own, bounds.isOver) }

    /// Ends the walk.
    consuming func finish() -> WalkSummary {
        let summary = summary
        own.settle()
        for share in others.values { share.settle() }
        return summary
    }

    /// Visits a file, or all files in a folder and below, by name.
    ///
    /// - Returns: whether the walk goes on.
    mutating func visit(
        _ file: borrowing FoundFile, depth: Int, _ body: (inout FileWalk, borrowing FoundFile) throws -> Bool
    ) throws -> Bool {
        guard file.status.type == .directory else {
            return file.status.type == .regular ? try visitFile(file, body) : true
        }
        guard depth < bounds.depth, grants.protected.refusal(of: file.path) == nil,
            (try? files.checkGuarded(file, path)) != nil
        else { return true }
        // What cannot be listed is left out; so is what vanished.
        guard let folder = try? file.opened([.readOnly, .directory]),
            let entries = try? folder.entries(limit: left)
        else {
            summary.isCut = true
            return true
        }
        for entry in entries.sorted(by: { $0.bytes.lexicographicallyPrecedes($1.bytes) }) {
            left -= 1
            if left % 256 == 0 { try own.check() }
            if bounds.isOver() { left = 0 }
            guard left > 0 else {
                summary.isCut = true
                return false
            }
            guard entry.type == .regular || entry.type == .directory || entry.type == .unknown,
                entry.bytes != Array(".git".utf8), mayMatch(file.path, entry),
                let opened = try? folder.open(bytes: entry.bytes, [.pathOnly, .noFollow]),
                let next = try? root.found(opened)
            else { continue }
            guard try visit(next, depth: depth + 1, body) else { return false }
        }
        return true
    }

    /// Whether it is worth opening: files are compared by name first.
    private func mayMatch(_ folder: CanonicalPath, _ entry: DirectoryEntry) -> Bool {
        guard entry.type == .regular, names.pattern != nil else { return true }
        let above = folder.bytes.count > 1 ? folder.bytes : []
        guard let path = CanonicalPath(bytes: above + [0x2f] + entry.bytes) else { return false }
        return names.fits(path)
    }

    private mutating func visitFile(
        _ file: borrowing FoundFile, _ body: (inout FileWalk, borrowing FoundFile) throws -> Bool
    ) throws -> Bool {
        guard names.fits(file.path) else { return true }
        // Without the place nothing below it is found.
        try own.check()
        let isLarge = reads.map { file.status.size > $0 } ?? false
        let bytes = reads == nil || isLarge ? 0 : file.status.size
        while case .allow(let allowance) = evaluate(Request(.fileRead(file.path)), with: grants, at: now) {
            guard try takes(bytes, of: file.path, by: allowance.grant) else { continue }
            summary.files += 1
            if isLarge { summary.tooLarge += 1 }
            return try isLarge || body(&self, file)
        }
        summary.notGranted += 1
        return true
    }

    /// Counts a file at the grant that lets it be read: each grant has one use of a walk, and all bytes that are read by it.
    ///
    /// - Returns: whether it may be read; else the grant is asked no more.
    /// - Throws: the refusal, of the grant that the walk began with.
    private mutating func takes(_ bytes: UInt64, of path: CanonicalPath, by grant: GrantID) throws(Denial) -> Bool {
        if grant == own.grant {
            try own.use(bytes)
            return true
        }
        do throws(Denial) {
            let share: WalkShare
            if let known = others[grant] {
                share = known
            } else {
                let request = Request(.fileRead(path), needs: Amounts(bytes: bytes))
                share = WalkShare(try files.grants.admit(request, by: files.holder), reserved: bytes)
                others[grant] = share
            }
            try share.use(bytes)
            return true
        } catch {
            guard error.reason != .notRecorded else { throw error }
            grants = GrantSet(grants.grants.filter { $0.id != grant }, protected: grants.protected)
            return false
        }
    }
}

extension AgentFiles {
    /// The files whose names match a pattern, and that may be read.
    ///
    /// - Parameters:
    ///   - pattern: absolute; `*`, `?` and `**` as in grants.
    ///   - limit: how many are told.
    ///   - bounds: how far is looked.
    /// - Returns: the names as the kernel has them, in order, and what was left out.
    /// - Throws: `Denial` for the folder where the pattern begins; as `list` does.
    package func glob(
        _ pattern: PathPattern, limit: Int, bounds: WalkBounds = WalkBounds()
    ) throws -> (paths: [CanonicalPath], summary: WalkSummary) {
        let start = AgentPath(pattern.root)
        return try withRights(start) {
            var found: [CanonicalPath] = []
            let summary = try walk(start, only: .rebased(pattern), bounds: bounds) { walk, file in
                guard found.count < limit else {
                    walk.summary.isCut = true
                    return false
                }
                found.append(file.path)
                return true
            }
            return (found, summary)
        }
    }

    /// Walks from a path on.
    ///
    /// - Parameters:
    ///   - start: a folder or a file.
    ///   - filter: which files are visited; nil is all.
    ///   - bounds: how far is looked.
    ///   - reads: the largest file that `body` reads, whose bytes are counted; nil when it reads none.
    ///   - body: visits a file; false ends the walk.
    /// - Returns: what was left out.
    /// - Throws: as `list` does; what `body` throws.
    func walk(
        _ start: AgentPath, only filter: FileFilter? = nil, bounds: WalkBounds, reads: UInt64? = nil,
        _ body: (inout FileWalk, borrowing FoundFile) throws -> Bool
    ) throws -> WalkSummary {
        let root = try FileRoot(start, in: scope)
        guard case .found(let file) = root.find(start) else {
            _ = try decide(start, .read) { _ in 0 }
            throw Self.refusal(.noSuchFile, start)
        }
        let admission = try admit(.read, file.path, given: start)
        try checkGuarded(file, start)
        let names = WalkNames(filter, file.path, isFolder: file.status.type == .directory)
        var walk = try FileWalk(self, start, names: names, bounds: bounds, reads: reads, admission: admission)
        do { _ = try walk.visit(file, depth: 0, body) } catch {
            _ = walk.finish()
            throw error
        }
        return walk.finish()
    }
}
