internal import AegisCore
internal import LinuxSys

/// Which segments are too many, and their seals, which are kept.
struct SegmentRetention {
    private let folder: LedgerFolder
    private let limit: UInt64

    init(_ folder: LedgerFolder, limit: UInt64) {
        self.folder = folder
        self.limit = limit
    }

    /// Appends the seals of the segments that are too many to the file of seals, synced.
    ///
    /// - Parameter newest: this segment and later ones stay.
    /// - Returns: the segments that may be deleted now, oldest first.
    /// - Throws: the error of the system call; nothing may be deleted then.
    func keepSeals(before newest: UInt64) throws(Errno) -> [UInt64] {
        let segments = try folder.segments()
        var total: UInt64 = 0
        var sizes: [UInt64: UInt64] = [:]
        for number in segments {
            let size = try folder.descriptor.status(of: LedgerFolder.name(number)).size
            sizes[number] = size
            total += size
        }
        var dropped: [UInt64] = []
        var seals: [UInt8] = []
        for number in segments where number < newest && total > limit {
            guard let seal = try seal(of: number) else { break }
            seals += seal + [10]
            total -= sizes[number] ?? 0
            dropped.append(number)
        }
        guard !dropped.isEmpty else { return [] }
        let file = try folder.descriptor.open(
            LedgerFolder.seals, [.writeOnly, .create, .append, .noFollow], mode: 0o600)
        // A crash may have left half a line.
        let before = try folder.sealLines().reduce(0) { $0 + $1.count + 1 }
        try file.truncate(to: UInt64(before))
        guard try file.write(seals[...]) == seals.count else {
            try? file.truncate(to: UInt64(before))
            throw .noSpace
        }
        try file.sync()
        try folder.descriptor.sync()
        return dropped
    }

    /// The last line of a segment when it is a seal: one that has none is never dropped.
    private func seal(of number: UInt64) throws(Errno) -> ArraySlice<UInt8>? {
        let file = try folder.descriptor.open(LedgerFolder.name(number), [.readOnly, .noFollow])
        let size = try file.status().size
        let start = size > 4096 ? size - 4096 : 0
        var end = [UInt8](repeating: 0, count: Int(size - start))
        let count = try file.read(at: start, into: &end)
        guard count == end.count, end.last == 10 else { return nil }
        let line = end.dropLast()
        let seal = line.lastIndex(of: 10).map { line[($0 + 1)...] } ?? line
        return RecordLine(seal)?.kind == AuditKind.segmentSealed.description ? seal : nil
    }
}
