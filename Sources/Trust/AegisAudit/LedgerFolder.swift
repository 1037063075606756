internal import AegisCore
internal import LinuxSys

/// The folder of a ledger: segments by number, and the seals of those that were dropped.
final class LedgerFolder: Sendable {
    /// The seals of dropped segments, as they stood.
    static let seals = "seals.jsonl"
    /// The largest file that is read at once.
    static let readLimit = 1 << 30

    let path: String
    let descriptor: FileDescriptor

    /// Opens a folder that is there.
    init(existing path: String) throws(Errno) {
        self.path = path
        descriptor = try FileDescriptor.open(path, [.readOnly, .directory])
    }

    /// Opens a folder, making it when it is missing.
    init(_ path: String) throws(Errno) {
        try Files.makeDirectories(path, mode: 0o700)
        self.path = path
        descriptor = try FileDescriptor.open(path, [.readOnly, .directory, .noFollow])
    }

    static func name(_ segment: UInt64) -> String {
        let digits = String(segment)
        return String(repeating: "0", count: max(0, 12 - digits.utf8.count)) + digits + ".jsonl"
    }

    static func segment(_ name: String) -> UInt64? {
        guard name.hasSuffix(".jsonl"), let number = UInt64(name.dropLast(6)), number > 0,
            Self.name(number) == name
        else {
            return nil
        }
        return number
    }

    /// The segments that are there, oldest first.
    func segments() throws(Errno) -> [UInt64] {
        // A description of its own: readers at the same time share no position.
        let own = try descriptor.open(".", [.readOnly, .directory])
        return try own.entries().compactMap { Self.segment($0.name) }.sorted()
    }

    /// The content of a segment up to the last newline, and how many bytes follow that.
    func read(_ segment: UInt64) throws(Errno) -> (lines: [UInt8], torn: Int) {
        let bytes = try readWhole(Self.name(segment))
        let end = bytes.lastIndex(of: 10).map { $0 + 1 } ?? 0
        return (Array(bytes[..<end]), bytes.count - end)
    }

    /// The lines of the file of seals.
    func sealLines() throws(Errno) -> [ArraySlice<UInt8>] {
        do throws(Errno) { return try readWhole(Self.seals).lines } catch {
            if error == .noSuchFile { return [] }
            throw error
        }
    }

    private func readWhole(_ name: String) throws(Errno) -> [UInt8] {
        try descriptor.open(name, [.readOnly, .noFollow, .nonblocking, .noTerminal]).readAll(limit: Self.readLimit)
    }
}

extension [UInt8] {
    /// The lines, without their newlines; what follows the last newline is not one.
    var lines: [ArraySlice<UInt8>] {
        var found: [ArraySlice<UInt8>] = []
        var start = startIndex
        while let end = self[start...].firstIndex(of: 10) {
            found.append(self[start..<end])
            start = end + 1
        }
        return found
    }
}
