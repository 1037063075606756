import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// The ledger in systemd's own journal.
@Suite struct JournalTests {
    private static let program = "/lib/systemd/systemd-journald"

    /// A journal of the test's own: the real program, with another folder in place of `/run`.
    private static func journal(_ f: DaemonFixture) async throws -> (process: RunningCommand, folder: String) {
        let folder = f.path("journal")
        try Files.makeDirectories("\(folder)/run/systemd/journal", mode: 0o755)
        try """
        [Journal]
        Storage=volatile
        ReadKMsg=no
        Audit=no
        RateLimitIntervalSec=0
        ForwardToSyslog=no
        ForwardToWall=no

        """.write(toFile: "\(folder)/journald.conf", atomically: true, encoding: .utf8)
        let script = """
            mount --make-rprivate / && mount --bind "$0/journald.conf" /etc/systemd/journald.conf \
            && mount --bind "$0/run" /run && exec \(program)
            """
        let process = try f.begin(program: "/usr/bin/unshare", ["-m", "/bin/sh", "-c", script, folder])
        try await f.eventually("the journal listens") { Files.exists("\(folder)/run/systemd/journal/socket") }
        return (process, folder)
    }

    private static func entries(_ f: DaemonFixture, _ folder: String) async throws -> [[String: String]] {
        let read = try await f.run(
            "/usr/bin/journalctl",
            ["-D", "\(folder)/run/log/journal", "-o", "json", "--all", "-q", "SYSLOG_IDENTIFIER=aegis-audit"])
        return try read.out.split(separator: "\n").map {
            let parsed = try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any] ?? [:]
            return parsed.compactMapValues { $0 as? String }
        }
    }

    private static let isThere = [program, "/usr/bin/journalctl", "/etc/systemd/journald.conf", "/etc/machine-id"]
        .allSatisfy { Files.exists($0) }

    @Test(.enabled(if: isThere, "there is no systemd-journald here"))
    func everyRecordIsAnEntryOfTheJournal() async throws {
        try await DaemonFixture.with { f in
            let (journal, folder) = try await Self.journal(f)
            defer { _ = journal.child.signal(9) }
            try await f.succeed("down")
            try """
            apiVersion: 100monkeys.ai/v1
            kind: NodeConfig
            metadata: { name: x }
            spec:
              audit: { sinks: [file, journald], journal_socket: \(folder)/run/systemd/journal/socket }

            """.write(toFile: "\(f.home)/aegis-config.yaml", atomically: true, encoding: .utf8)
            try await f.up()
            try await f.succeed("run", "--", "true")
            // What is recorded at the end of a daemon is in it, too.
            try await f.succeed("down")
            let text = try String(contentsOfFile: "\(f.home)/audit/000000000001.jsonl", encoding: .utf8)
            let lines = text.split(separator: "\n").map(String.init)
            let from = try #require(lines.lastIndex { $0.contains(#""kind":"daemon_started""#) })
            try await f.eventually("all of it is in the journal") {
                let found = try await Self.entries(f, folder).filter { $0["AEGIS_AUDIT_SEQ"] != nil }
                return found.map { $0["MESSAGE"] } == Array(lines[from...])
            }
            let found = try await Self.entries(f, folder)
            #expect(
                found.contains {
                    $0["AEGIS_AUDIT_KIND"] == "exec_started" || $0["AEGIS_AUDIT_KIND"] == "instance_started"
                })
            let heads = found.compactMap { $0["AEGIS_AUDIT_HEAD"] }
            let last = try #require(heads.last)
            let check = try await f.aegis("audit", "verify", "--head", last)
            #expect(check.code == 0, "\(check)")
            try await f.up()
        }
    }
}
