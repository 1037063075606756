package import AegisCore
internal import LinuxSys

/// A place behind a record.
package struct LedgerCursor: Sendable, Equatable {
    var segment: UInt64
    /// In the segment's file.
    var offset: UInt64
    /// The number of the last record before it.
    package internal(set) var seq: UInt64
}

/// What a reader found in one go.
package struct LedgerBatch: Sendable {
    /// The lines that were wanted, each with its newline.
    package var lines: [UInt8] = []
    /// Records that were dropped before they could be read.
    package var lost: UInt64 = 0
    /// Where to go on.
    package var cursor: LedgerCursor
    /// Whether there may be more now.
    package var hasMore = false
}

/// Reads a ledger's records from its files. Whoever follows holds a place and no memory: one that is slow loses only what
/// was dropped from the disk meanwhile, and is told how much.
package struct LedgerReader: Sendable {
    /// Bytes that are read in one go; no record is longer.
    static let portion = 256 << 10
    /// The most records that a tail gives.
    package static let tailLimit = 100_000

    let folder: LedgerFolder

    /// Opens the folder of a ledger.
    ///
    /// - Throws: `audit-not-found`, `audit-unreadable`.
    package init(path: String) throws(AegisError) {
        do throws(Errno) { folder = try LedgerFolder(existing: path) } catch {
            throw LedgerVerifier.explained(error, path)
        }
    }

    /// The last records that are wanted, and the place behind the newest one. It blocks.
    ///
    /// - Parameters:
    ///   - count: how many at most.
    ///   - filter: which.
    /// - Returns: them, oldest first.
    /// - Throws: `audit-unreadable`.
    package func tail(_ count: Int, _ filter: AuditFilter) throws(AegisError) -> LedgerBatch {
        do throws(Errno) {
            var batch = LedgerBatch(cursor: LedgerCursor(segment: 0, offset: 0, seq: 0))
            var found: [[UInt8]] = []
            for number in try folder.segments().reversed() {
                let bytes: [UInt8]
                do throws(Errno) { bytes = try folder.read(number).lines } catch {
                    // Dropped meanwhile.
                    if error == .noSuchFile { break }
                    throw error
                }
                let lines = bytes.lines
                if batch.cursor.segment == 0 {
                    batch.cursor = LedgerCursor(
                        segment: number, offset: UInt64(bytes.count),
                        seq: lines.last.flatMap { RecordLine($0)?.seq } ?? 0)
                }
                if let since = filter.since, let last = lines.last.flatMap({ RecordLine($0) }),
                    last.time.lexicographicallyPrecedes(since.utf8)
                {
                    break
                }
                for line in lines.reversed() where found.count < count && filter.admits(line) {
                    found.append(Array(line) + [10])
                }
                if found.count >= count { break }
            }
            batch.lines = Array(found.reversed().joined())
            return batch
        } catch { throw LedgerVerifier.explained(error, folder.path) }
    }

    /// The records behind a place, as many as are read in one go. It blocks.
    ///
    /// - Parameters:
    ///   - cursor: where to go on.
    ///   - filter: which are wanted.
    /// - Returns: them, and where to go on.
    /// - Throws: `audit-unreadable`.
    package func next(_ cursor: LedgerCursor, _ filter: AuditFilter) throws(AegisError) -> LedgerBatch {
        do throws(Errno) { return try read(cursor, filter) } catch {
            throw LedgerVerifier.explained(error, folder.path)
        }
    }

    private func read(_ cursor: LedgerCursor, _ filter: AuditFilter) throws(Errno) -> LedgerBatch {
        var batch = LedgerBatch(cursor: cursor)
        let bytes: [UInt8]
        do throws(Errno) { bytes = try portion(at: cursor) } catch {
            guard error == .noSuchFile, let oldest = try folder.segments().first(where: { $0 > cursor.segment }) else {
                if error == .noSuchFile { return batch }
                throw error
            }
            batch.cursor = LedgerCursor(segment: oldest, offset: 0, seq: cursor.seq)
            batch.hasMore = true
            return batch
        }
        var end = 0
        for line in bytes.lines {
            end = line.endIndex + 1
            guard let record = RecordLine(line) else { continue }
            if record.seq > batch.cursor.seq + 1, batch.cursor.seq > 0 {
                batch.lost += record.seq - batch.cursor.seq - 1
            }
            batch.cursor.seq = record.seq
            if filter.admits(line) { batch.lines += line + [10] }
        }
        batch.cursor.offset += UInt64(end)
        batch.hasMore = bytes.count == Self.portion && end > 0
        guard end == 0 else { return batch }
        // Nothing more here: the next segment, when there is one, was begun after this one's seal.
        if let next = try folder.segments().first(where: { $0 > cursor.segment }), try portion(at: cursor).isEmpty {
            batch.cursor = LedgerCursor(segment: next, offset: 0, seq: cursor.seq)
            batch.hasMore = true
        }
        return batch
    }

    private func portion(at cursor: LedgerCursor) throws(Errno) -> [UInt8] {
        let file = try folder.descriptor.open(LedgerFolder.name(cursor.segment), [.readOnly, .noFollow])
        var bytes = [UInt8](repeating: 0, count: Self.portion)
        let count = try file.read(at: cursor.offset, into: &bytes)
        bytes.removeLast(bytes.count - count)
        return bytes
    }
}
