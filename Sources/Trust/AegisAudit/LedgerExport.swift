package import AegisCore
internal import LinuxSys

/// A copy of a ledger, or of a part of it, that can be checked elsewhere.
package struct LedgerExport: Sendable {
    /// What was copied.
    package struct Report: Sendable, Codable {
        /// The folder.
        package var path: String
        /// Segments that were copied in full, or as far as they went.
        package var segments: Int
        /// Segments of which only the seal was.
        package var seals: Int
        /// The newest record, as `SEQ:HASH`.
        package var head: String?
    }

    private let source: String

    /// Prepares a copy.
    package init(path: String) { source = path }

    /// Copies the segments that hold a range of records; of those before it the seals, so that the chain can be followed.
    ///
    /// - Parameters:
    ///   - from: the first record that is wanted.
    ///   - to: the last one; the copy ends with its segment.
    ///   - target: a folder that does not exist.
    /// - Returns: what was copied.
    /// - Throws: `audit-not-found`, `audit-unreadable`, `file-exists`, `audit-not-exported`.
    package func write(from: UInt64 = 1, to: UInt64 = .max, into target: String) throws(AegisError) -> Report {
        guard !Files.exists(target) else {
            throw .conflict("file-exists", "\(target) exists already", hint: "name a folder that does not exist")
        }
        let folder: LedgerFolder
        do throws(Errno) { folder = try LedgerFolder(existing: source) } catch {
            throw LedgerVerifier.explained(error, source)
        }
        do {
            try Files.makeDirectories(target, mode: 0o700)
            return try copy(folder, from, to, target)
        } catch {
            throw .failed("audit-not-exported", "the ledger cannot be copied to \(target): \(error)")
        }
    }

    private func copy(_ folder: LedgerFolder, _ from: UInt64, _ to: UInt64, _ target: String) throws -> Report {
        var report = Report(path: target, segments: 0, seals: 0)
        var seals = try folder.sealLines().map { Array($0) }
        for number in try folder.segments() {
            let bytes = try folder.read(number).lines
            let lines = bytes.lines
            guard let first = lines.first.flatMap({ RecordLine($0) }), let end = lines.last,
                let last = RecordLine(end), first.seq <= to
            else { continue }
            if last.seq < from, last.kind == AuditKind.segmentSealed.description {
                seals.append(Array(end))
                continue
            }
            try Files.writeAtomically("\(target)/\(LedgerFolder.name(number))", bytes, mode: 0o600)
            report.segments += 1
            report.head = LedgerHead(seq: last.seq, hash: last.hash).description
        }
        report.seals = seals.count
        if !seals.isEmpty {
            try Files.writeAtomically(
                "\(target)/\(LedgerFolder.seals)", Array(seals.map { $0 + [10] }.joined()), mode: 0o600)
        }
        try FileDescriptor.open(target, [.readOnly, .directory]).sync()
        return report
    }
}
