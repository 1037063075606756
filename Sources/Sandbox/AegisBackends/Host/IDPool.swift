package import AegisCore
import LinuxSys
import Synchronization

/// The host ids of sandboxes: each running one has 65,536 of its own, never shared by two (decision D17).
///
/// Two daemons on one host share the pool through a folder with one file per range: the file is locked while its daemon lives
/// and names the run directory of its sandbox. A range is free when nobody has the lock and the named run directory is gone
/// (a sandbox survives its daemon, its lock does not).
package final class IDPool: Sendable {
    /// Ids of one range.
    package static let rangeSize: UInt32 = 65_536
    /// Above what systemd gives to containers (1,878,982,656 is its last), below what programs read as a negative number.
    package static let defaultStart: UInt32 = 0x7000_0000
    /// The ranges up to 2^31, without the reserved first one.
    package static let defaultCount = 4095

    /// First id that stands for "another user of a sandbox" in folders of host users; the pool's first range.
    package let reservedBase: UInt32
    private let count: Int
    private let folder: String
    private let foreign: [Range<UInt64>]
    private let state = Mutex(State())

    private struct State {
        var next = 1
        var held: Set<UInt32> = []
    }

    /// Describes a pool.
    ///
    /// - Parameters:
    ///   - folder: where the files are, the same for all daemons of the host.
    ///   - start: first id.
    ///   - count: how many sandboxes can run at once, at most.
    ///   - subordinateIDs: texts of `/etc/subuid` and `/etc/subgid`; ranges in them are never used.
    package init(
        folder: String, start: UInt32 = defaultStart, count: Int = defaultCount, subordinateIDs: [String]
    ) {
        self.folder = folder
        self.count = count
        reservedBase = start
        foreign = subordinateIDs.flatMap(Self.subordinateRanges)
    }

    /// The pool of this machine.
    package convenience init(folder: String) {
        let texts = ["/etc/subuid", "/etc/subgid"].compactMap { path in
            (try? Files.read(path, limit: 1 << 20)).map { String(decoding: $0, as: UTF8.self) }
        }
        self.init(folder: folder, subordinateIDs: texts)
    }

    /// Reads `name:first:count` lines.
    static func subordinateRanges(_ text: String) -> [Range<UInt64>] {
        text.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            guard fields.count == 3, let first = UInt64(fields[1]), let count = UInt64(fields[2]), count < 1 << 32
            else {
                return nil
            }
            return first..<(first + count)
        }
    }

    /// Takes a free range for the sandbox with this run directory (which need not exist yet, but soon must).
    ///
    /// - Throws: `id-ranges-exhausted` when all are taken.
    package func take(for runDirectory: String) throws(AegisError) -> IDLease {
        do throws(Errno) {
            try Files.makeDirectories(folder, mode: 0o711)
            for _ in 0..<count {
                let base = state.withLock { state -> UInt32 in
                    let index = state.next
                    state.next = index >= count ? 1 : index + 1
                    return reservedBase + UInt32(index) * Self.rangeSize
                }
                if let lease = try claim(base, for: runDirectory, adopting: false) { return lease }
            }
        } catch {
            throw .failed("id-ranges-failed", "cannot use the folder of id ranges \(folder): \(error)")
        }
        throw AegisError(
            .unavailable, "id-ranges-exhausted", "all \(count) ranges of host ids are in use",
            hint: "stop some instances")
    }

    /// Takes the range that a living sandbox of an earlier daemon has.
    ///
    /// - Returns: nil if it belongs to somebody else.
    package func adopt(_ base: UInt32, for runDirectory: String) -> IDLease? {
        guard base > reservedBase, (base - reservedBase) % Self.rangeSize == 0 else { return nil }
        try? Files.makeDirectories(folder, mode: 0o711)
        return (try? claim(base, for: runDirectory, adopting: true)) ?? nil
    }

    /// Takes the range of a sandbox that an earlier daemon has left, and of which no record tells the number.
    ///
    /// - Returns: nil if it has none.
    package func adopt(for runDirectory: String) -> IDLease? {
        let owner = Array(runDirectory.utf8)
        for name in ((try? Files.list(folder)) ?? []).map(\.name) {
            guard let base = UInt32(name), (try? Files.read("\(folder)/\(name)", limit: 4096)) == owner else {
                continue
            }
            return adopt(base, for: runDirectory)
        }
        return nil
    }

    private func claim(_ base: UInt32, for runDirectory: String, adopting: Bool) throws(Errno) -> IDLease? {
        let range = UInt64(base)..<(UInt64(base) + UInt64(Self.rangeSize))
        if foreign.contains(where: { $0.overlaps(range) }) { return nil }
        guard state.withLock({ $0.held.insert(base).inserted }) else { return nil }
        do throws(Errno) {
            let path = "\(folder)/\(base)"
            let file = try FileDescriptor.open(path, [.readWrite, .create, .noFollow], mode: 0o600)
            if try file.lock() {
                let owner = String(decoding: try file.readAll(limit: 4096), as: UTF8.self)
                // The file may have been removed between open and lock: then the lock says nothing.
                let isCurrent = (try? Files.status(path, followLinks: false).isSameFile(as: file.status())) == true
                let free = owner.isEmpty || owner == runDirectory || (!adopting && !Files.exists(owner))
                if isCurrent, free {
                    try file.truncate(to: 0)
                    _ = try file.write(Array(runDirectory.utf8)[...], at: 0)
                    return IDLease(base: base, file: file, path: path, pool: self)
                }
            }
        } catch {
            giveBack(base)
            throw error
        }
        giveBack(base)
        return nil
    }

    fileprivate func giveBack(_ base: UInt32) { _ = state.withLock { $0.held.remove(base) } }
}

/// A range of host ids that is taken; given back by `release`, or kept by the sandbox's run directory if this daemon ends first.
package final class IDLease: Sendable {
    /// First id of the range.
    package let base: UInt32
    private let file: FileDescriptor
    private let path: String
    private let pool: IDPool
    private let released = Mutex(false)

    fileprivate init(base: UInt32, file: consuming FileDescriptor, path: String, pool: IDPool) {
        self.base = base
        self.file = file
        self.path = path
        self.pool = pool
    }

    /// Gives the range back. Idempotent.
    package func release() {
        guard
            released.withLock({ done in
                defer { done = true }
                return !done
            })
        else { return }
        try? Files.removeFile(path)
        try? file.unlock()
        pool.giveBack(base)
    }
}
