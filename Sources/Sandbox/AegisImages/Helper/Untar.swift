import AegisSandboxTypes
import CArchive
import CLinux

/// Reads one layer's tar stream and writes its entries into one directory.
struct Untar: ~Copyable {
    /// What a layer may cost.
    struct Limits: Sendable, Equatable {
        /// Entries of all kinds.
        var entries: Int64 = 2_000_000
        /// Bytes of the stream and, apart, of all files' lengths (holes count).
        var bytes: Int64 = 32 << 30
        /// Ids 0..<ids can be given to files; others become `nobody`.
        var ids = SandboxBounds.ids
    }

    private let limits: Limits
    private let report: (HelperRecord) -> Void
    private var tree: TreeWriter
    private var whiteouts: Set<[UInt8]> = []
    private var opaque: Set<[UInt8]> = []
    private var warnings = 0
    private var entries: Int64 = 0
    private var bytes: Int64 = 0

    /// The most warnings that are reported one by one.
    static let mostWarnings = 50
    /// The most names that a layer may hide.
    static let mostWhiteouts = 500_000
    private static let nobody: UInt32 = 65534

    /// Takes the directory to fill and where to tell what was left out.
    init(root: Int32, limits: Limits, report: @escaping (HelperRecord) -> Void) {
        tree = TreeWriter(root: root)
        self.limits = limits
        self.report = report
    }

    /// Reads the stream on `input` to its end and reports what the daemon has to do.
    mutating func run(input: Int32) throws(HelperFailure) {
        guard let archive = unsafe archive_read_new() else { throw HelperFailure("unpack-failed", "no memory") }
        defer { unsafe archive_read_free(archive) }
        unsafe archive_read_support_format_tar(archive)
        unsafe archive_read_support_format_empty(archive)
        guard unsafe archive_read_open_fd(archive, input, 256 << 10) == ARCHIVE_OK else {
            throw unsafe Self.corrupt(archive)
        }
        var entry: OpaquePointer?
        reading: while true {
            switch unsafe archive_read_next_header(archive, &entry) {
            case ARCHIVE_EOF: break reading
            case ARCHIVE_OK, ARCHIVE_WARN: break
            case ARCHIVE_RETRY: continue reading
            default: throw unsafe Self.corrupt(archive)
            }
            guard let entry = unsafe entry else { break }
            entries += 1
            guard entries <= limits.entries else {
                throw HelperFailure("image-too-large", "the layer has more than \(limits.entries) entries")
            }
            try unsafe take(entry, from: archive)
        }
        try tree.setDirectoryTimes()
        finish()
        warnings > Self.mostWarnings ? report(.warning("and \(warnings - Self.mostWarnings) more left out")) : ()
        report(.done(digest: nil, bytes: bytes, entries: entries))
    }

    private static func corrupt(_ archive: OpaquePointer) -> HelperFailure {
        let text = unsafe archive_error_string(archive).map { unsafe String(cString: $0) } ?? "it cannot be read"
        return HelperFailure("corrupt-layer", "the layer is not a valid tar stream: \(text)")
    }

    private mutating func warn(_ text: String) {
        warnings += 1
        if warnings <= Self.mostWarnings { report(.warning(text)) }
    }

    // MARK: Entries

    private mutating func take(_ entry: OpaquePointer, from archive: OpaquePointer) throws(HelperFailure) {
        guard let text = unsafe archive_entry_pathname(entry) else {
            throw HelperFailure("corrupt-layer", "an entry of the layer has no readable name")
        }
        let written = unsafe Array(UnsafeRawBufferPointer(start: text, count: al_tree_length(text)))
        let components = try Self.clean(written)
        let attributes = try unsafe attributes(of: entry)
        guard let name = components.last else {
            if unsafe Self.kind(of: entry) == TreeWriter.directoryKind { try tree.top(attributes) }
            return
        }
        if name.starts(with: Self.mark) {
            try hide(components, name)
        } else if let target = unsafe archive_entry_hardlink(entry) {
            let target = unsafe Array(UnsafeRawBufferPointer(start: target, count: al_tree_length(target)))
            try tree.hardLink(components, to: try Self.clean(target))
        } else {
            try unsafe make(entry, name, components, attributes, archive)
        }
    }

    private mutating func make(
        _ entry: OpaquePointer, _ name: [UInt8], _ components: [[UInt8]], _ attributes: TreeWriter.Attributes,
        _ archive: OpaquePointer
    ) throws(HelperFailure) {
        let place: TreeWriter.Place
        switch unsafe Self.kind(of: entry) {
        case TreeWriter.directoryKind:
            place = try tree.parent(components.dropLast())
            let made = try tree.directory(name, in: place, attributes)
            try unsafe setExtended(of: entry, on: made.raw, place.child(name))
        case 0o100000:
            place = try tree.parent(components.dropLast())
            let made = try tree.file(name, in: place)
            try unsafe copy(archive, entry, to: made.raw)
            try tree.describe(made.raw, attributes, place.child(name))
            try unsafe setExtended(of: entry, on: made.raw, place.child(name))
            try checked(al_tree_set_time_fd(made.raw, attributes.seconds, attributes.nanoseconds), "setting a time")
        case TreeWriter.linkKind:
            guard let target = unsafe archive_entry_symlink(entry), unsafe target.pointee != 0 else {
                throw HelperFailure("corrupt-layer", "the link '\(shown(name))' of the layer has no target")
            }
            place = try tree.parent(components.dropLast())
            let bytes = unsafe Array(UnsafeRawBufferPointer(start: target, count: al_tree_length(target)))
            try tree.symbolicLink(name, to: bytes, in: place, attributes)
        case 0o010000:
            place = try tree.parent(components.dropLast())
            try tree.fifo(name, in: place, attributes)
        case 0o020000, 0o060000:
            warn("device '\(shown(components.joined(separator: [0x2f])))' left out")
        default:
            warn("entry '\(shown(components.joined(separator: [0x2f])))' of unknown kind left out")
        }
    }

    /// The components of an entry's name.
    ///
    /// - Throws: `corrupt-layer` for a name that leads out of the image: no honest tool writes one.
    static func clean(_ written: [UInt8]) throws(HelperFailure) -> [[UInt8]] {
        guard written.count < TreeWriter.longestPath else {
            throw HelperFailure("corrupt-layer", "a name of the layer is longer than \(TreeWriter.longestPath) bytes")
        }
        var out: [[UInt8]] = []
        for component in TreeWriter.components(of: written, keepingUp: true) {
            if component == [0x2e, 0x2e] {
                guard out.popLast() != nil else {
                    throw HelperFailure(
                        "corrupt-layer", "the entry '\(shown(written))' of the layer leads out of the image")
                }
            } else {
                guard component.count <= 255 else {
                    throw HelperFailure(
                        "corrupt-layer", "a name of the layer is longer than 255 bytes: '\(shown(component))'")
                }
                out.append(component)
            }
        }
        return out
    }

    private static func kind(of entry: OpaquePointer) -> UInt32 {
        unsafe UInt32(archive_entry_filetype(entry)) & TreeWriter.kindMask
    }

    private mutating func attributes(of entry: OpaquePointer) throws(HelperFailure) -> TreeWriter.Attributes {
        let uid = unsafe archive_entry_uid(entry)
        let gid = unsafe archive_entry_gid(entry)
        let fits: (Int64) -> Bool = { [ids = limits.ids] in (0..<Int64(ids)).contains($0) }
        if !fits(uid) || !fits(gid) {
            warn("owner \(uid):\(gid) is beyond the ids that a sandbox can have; 'nobody' takes its place")
        }
        let nanoseconds = unsafe Int64(archive_entry_mtime_nsec(entry))
        return unsafe TreeWriter.Attributes(
            uid: fits(uid) ? UInt32(uid) : Self.nobody, gid: fits(gid) ? UInt32(gid) : Self.nobody,
            mode: UInt32(archive_entry_perm(entry)), seconds: Int64(archive_entry_mtime(entry)),
            nanoseconds: (0..<1_000_000_000).contains(nanoseconds) ? nanoseconds : 0)
    }

    private mutating func copy(_ archive: OpaquePointer, _ entry: OpaquePointer, to file: Int32) throws(HelperFailure) {
        let size = unsafe archive_entry_size(entry)
        bytes += max(size, 0)
        guard size >= 0, bytes <= limits.bytes else {
            throw HelperFailure("image-too-large", "the files of the layer have more than \(limits.bytes) bytes")
        }
        var block: UnsafeRawPointer?
        var count = 0
        var offset: Int64 = 0
        var end: Int64 = 0
        while true {
            let result = unsafe archive_read_data_block(archive, &block, &count, &offset)
            if result == ARCHIVE_EOF { break }
            guard result == ARCHIVE_OK || result == ARCHIVE_WARN else { throw unsafe Self.corrupt(archive) }
            guard offset >= end, offset + Int64(count) <= size else {
                throw HelperFailure("corrupt-layer", "a file of the layer is longer than it says")
            }
            var done = 0
            while done < count {
                // SAFETY: libarchive keeps `count` bytes at `block` until its next call.
                done += try checked(
                    unsafe al_tree_pwrite(file, block?.advanced(by: done), count - done, offset + Int64(done)),
                    "writing a file")
            }
            end = offset + Int64(count)
        }
        if end < size { try checked(al_tree_truncate(file, size), "writing a file") }
    }

    /// Sets the extended attributes that mean something inside: file capabilities and the user's own.
    private mutating func setExtended(of entry: OpaquePointer, on file: Int32, _ path: [UInt8]) throws(HelperFailure) {
        guard unsafe archive_entry_xattr_reset(entry) > 0 else { return }
        var name: UnsafePointer<CChar>?
        var value: UnsafeRawPointer?
        var size = 0
        while unsafe archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK {
            guard let name = unsafe name else { continue }
            let text = unsafe String(cString: name)
            guard text == "security.capability" || (text.hasPrefix("user.") && !text.hasPrefix("user.overlay.")) else {
                continue
            }
            let result = unsafe al_tree_set_attribute(file, name, value, size)
            if result == -HelperFailure.noSpace || result == -HelperFailure.overQuota {
                try checked(result, "setting \(text)")
            }
            if result < 0 { warn("attribute \(text) of '\(shown(path))' left out (error \(-result))") }
        }
    }

    // MARK: What is hidden of the layers below

    private static let mark = Array(".wh.".utf8)
    private static let opaqueMark = Array(".wh..wh..opq".utf8)
    private static let otherMark = Array(".wh..wh.".utf8)

    private mutating func hide(_ components: [[UInt8]], _ name: [UInt8]) throws(HelperFailure) {
        if name != Self.opaqueMark, name.starts(with: Self.otherMark) {
            return warn("'\(shown(name))' of another storage driver left out")
        }
        let place = try tree.parent(components.dropLast())
        if name == Self.opaqueMark {
            opaque.insert(place.path)
        } else {
            let hidden = Array(name.dropFirst(Self.mark.count))
            guard !hidden.isEmpty, hidden != [0x2e], hidden != [0x2e, 0x2e] else {
                throw HelperFailure("corrupt-layer", "'\(shown(name))' of the layer hides no name")
            }
            whiteouts.insert(place.child(hidden))
        }
        guard whiteouts.count + opaque.count <= Self.mostWhiteouts else {
            throw HelperFailure("image-too-large", "the layer hides more than \(Self.mostWhiteouts) names")
        }
    }

    /// Reports what hides names of the layers below. It never hides what this layer itself brings, in whatever order the
    /// entries stand (OCI image specification: "whiteout files MUST only apply to resources in lower/parent layers").
    private func finish() {
        for path in whiteouts.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
            switch tree.kind(path) {
            case nil: report(.whiteout(path))
            case TreeWriter.directoryKind: report(.opaque(path))
            default: break  // the new entry hides the old one by itself
            }
        }
        for path in opaque.sorted(by: { $0.lexicographicallyPrecedes($1) })
        where tree.kind(path) == TreeWriter.directoryKind {
            report(.opaque(path))
        }
        for path in tree.implicit.sorted(by: { $0.lexicographicallyPrecedes($1) }) { report(.implicit(path)) }
    }
}
