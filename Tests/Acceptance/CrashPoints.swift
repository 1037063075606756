import AegisTestSupport
import Foundation
import Testing

/// Places where a daemon is killed: right before or right after it has saved something, in its database, in its ledger, or of
/// what its networks have refused.
///
/// A library that is loaded into the daemon sees what it saves (`Tests/CrashPoints`).
struct CrashPoints: Sendable {
    enum Side: String, Sendable, CaseIterable { case before, after }

    private let folder: TemporaryDirectory
    /// What starts a daemon that can be killed so.
    var launcher: [String] { ["/usr/bin/env"] + environment }
    /// What such a daemon has in its environment.
    var environment: [String] { ["LD_PRELOAD=\(folder.path("points.so"))", "AEGIS_CRASH_POINTS=\(folder.path)"] }

    /// Compiles the library.
    init() async throws {
        let folder = try TemporaryDirectory()
        let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("CrashPoints/crash_points.c").path
        let words = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", folder.path("points.so"), source, "-ldl"]
        try await onLoop { loop in
            let built = try await DaemonFixture(loop: loop, home: folder.path).run("/usr/bin/gcc", words)
            try #require(built.code == 0, "\(built)")
        }
        self.folder = folder
    }

    /// Kills the daemon at the nth thing that it saves and that contains all the words.
    func arm(_ side: Side, _ nth: Int = 1, _ words: [String] = []) throws {
        // In one piece, as the daemon may be reading.
        try "\(side) \(nth)\n\(words.joined(separator: "\n"))".write(
            toFile: folder.path("armed"), atomically: true, encoding: .utf8)
    }

    /// Whether it was killed there.
    var isSpent: Bool { !FileManager.default.fileExists(atPath: folder.path("armed")) }

    /// Lets it live.
    func disarm() { try? FileManager.default.removeItem(atPath: folder.path("armed")) }

    /// Begins to note what is saved.
    func watch() throws { try Data().write(to: URL(fileURLWithPath: folder.path("seen"))) }

    /// What was saved since, the beginning of each.
    func seen() throws -> [String] {
        let text = try String(contentsOfFile: folder.path("seen"), encoding: .utf8)
        try FileManager.default.removeItem(atPath: folder.path("seen"))
        return text.split(separator: "\n").map(String.init)
    }
}
