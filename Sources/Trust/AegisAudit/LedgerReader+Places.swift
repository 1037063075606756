package import AegisCore
internal import LinuxSys

extension LedgerReader {
    /// The place behind a record, for who goes on after it. It blocks.
    ///
    /// - Parameter seq: the record; nil, or one that is not there yet, is the newest.
    /// - Returns: the place. Where the record was dropped, what follows it counts as lost when it is read on.
    /// - Throws: `audit-unreadable`.
    package func cursor(after seq: UInt64?) throws(AegisError) -> LedgerCursor {
        guard let seq else { return try tail(0, AuditFilter()).cursor }
        do throws(Errno) {
            let segments = try folder.segments()
            for number in segments.reversed() {
                let bytes: [UInt8]
                do throws(Errno) { bytes = try folder.read(number).lines } catch {
                    // Dropped meanwhile.
                    if error == .noSuchFile { break }
                    throw error
                }
                var cursor = LedgerCursor(segment: number, offset: 0, seq: 0)
                for line in bytes.lines {
                    guard let record = RecordLine(line), record.seq <= seq else { break }
                    cursor.offset = UInt64(line.endIndex + 1)
                    cursor.seq = record.seq
                }
                if cursor.seq > 0 { return cursor }
            }
            // From the oldest that there is; it says itself how much is missing before it.
            return LedgerCursor(segment: segments.first ?? 0, offset: 0, seq: seq)
        } catch { throw LedgerVerifier.explained(error, folder.path) }
    }
}
