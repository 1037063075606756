package import AegisCore
internal import LinuxSys

/// The files of a ledger, for copies of a whole home.
package enum LedgerFiles {
    /// What a ledger consists of now: names and how many bytes of each hold whole records. It may grow meanwhile.
    ///
    /// - Returns: them, empty when there is no ledger.
    /// - Throws: `audit-unreadable`.
    package static func snapshot(_ path: String) throws(AegisError) -> [(name: String, size: UInt64)] {
        guard Files.exists(path) else { return [] }
        do throws(Errno) {
            let folder = try LedgerFolder(existing: path)
            var files: [(name: String, size: UInt64)] = []
            let segments = try folder.segments()
            for number in segments {
                let name = LedgerFolder.name(number)
                let size =
                    number == segments.last
                    ? UInt64(try folder.read(number).lines.count) : try folder.descriptor.status(of: name).size
                files.append((name, size))
            }
            let seals = try folder.sealLines().reduce(0) { $0 + UInt64($1.count) + 1 }
            if seals > 0 { files.append((LedgerFolder.seals, seals)) }
            return files
        } catch { throw LedgerVerifier.explained(error, path) }
    }

    /// Whether a file of this name can belong to a ledger.
    package static func isName(_ name: String) -> Bool {
        name == LedgerFolder.seals || LedgerFolder.segment(name) != nil
    }
}
