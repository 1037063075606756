package import AegisSandboxTypes
import FoundationEssentials
import LinuxSys
import Synchronization

/// Reports of earlier probes, kept in a file as long as nothing changed that they stand on: the runtime's program, the
/// kernel, this boot, the configuration (decision D37).
package final class ProbeCache: Sendable {
    private struct Entry: Codable {
        var key: String
        var report: BackendReport
        /// What the canary's harness said about the kernel.
        var quirks: UInt8
    }
    private let path: String
    private let entries: Mutex<[String: Entry]>

    /// Reads the file; one that cannot be read counts as empty.
    package init(path: String) {
        self.path = path
        let bytes = (try? Files.read(path, limit: 1 << 20)) ?? []
        entries = Mutex((try? JSONDecoder().decode([String: Entry].self, from: Data(bytes))) ?? [:])
    }

    /// The report of a backend with its kernel's quirks, if it was made under the same key.
    package func report(_ backend: String, key: String) -> (report: BackendReport, quirks: UInt8)? {
        entries.withLock { entries in
            guard let entry = entries[backend], entry.key == key else { return nil }
            return (entry.report, entry.quirks)
        }
    }

    /// Keeps a report, in the file too; a file that cannot be written costs only time at the next start.
    package func keep(_ report: BackendReport, quirks: UInt8, key: String) {
        let all = entries.withLock { entries -> [String: Entry] in
            entries[report.backend] = Entry(key: key, report: report, quirks: quirks)
            return entries
        }
        guard let bytes = try? JSONEncoder().encode(all) else { return }
        try? Files.writeAtomically(path, Array(bytes))
    }
}
