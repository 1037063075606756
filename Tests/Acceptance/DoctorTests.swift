import AegisTestSupport
import Foundation
import Testing

/// What `aegis doctor` says of programs that are missing.
@Suite struct DoctorTests {
    private struct Report: Decodable {
        struct Check: Decodable {
            var name: String
            var status: String
            var detail: String
            var hint: String?
        }
        var checks: [Check]
    }

    private func checks(_ f: DaemonFixture) async throws -> [String: Report.Check] {
        let json = try await f.aegis("doctor", "--output", "json")
        let report = try JSONDecoder().decode(Report.self, from: Data(json.stdout))
        return Dictionary(uniqueKeysWithValues: report.checks.map { ($0.name, $0) })
    }

    @Test func whatIsThereIsNamedWithItsPlace() async throws {
        try await DaemonFixture.shared { f in
            let checks = try await checks(f)
            for name in ["skopeo", "mmdebstrap", "mkfs.btrfs", "nsenter", "nft", "netfilter"] {
                #expect(checks[name]?.status == "ok", "\(name): \(checks)")
            }
            #expect(checks["nft"]?.detail.hasSuffix("/nft") == true)
        }
    }

    /// A grant that would do nothing: goals are refused at once, and not when they are begun.
    @Test func aManifestForGoalsWithASecretIsRefused() async throws {
        let bootstrap = "/tmp/aegis-test-bootstrap-\(UUID().uuidString).yaml"
        try "name: boot\nmodel: default\ncapabilities: ['secret: KEY@api.example.com']\n".write(
            toFile: bootstrap, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: bootstrap) }
        try await AgentDoor.with("  agents: { bootstrap_manifest: \(bootstrap) }\n") { door in
            #expect(try await door.problem("goal.submit", ["goal": "report"]) == "capability-without-effect")
            let check = try #require(try await checks(door.fixture)["bootstrap"])
            #expect(check.detail.contains("secret: KEY@api.example.com' would have no effect"), "\(check)")
        }
    }

    /// Grants that hold more than they seem to, of whoever asks (decision D31).
    @Test func grantsThatGiveMoreAwayAreNamed() async throws {
        let bootstrap = "/tmp/aegis-test-bootstrap-\(UUID().uuidString).yaml"
        try "name: boot\nmodel: default\ncapabilities: ['file_read: /**']\n".write(
            toFile: bootstrap, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: bootstrap) }
        try await AgentDoor.with("  agents: { bootstrap_manifest: \(bootstrap) }\n") { door in
            let f = door.fixture
            func manifest(_ name: String, _ grants: String) -> String {
                "name: \(name)\nmodel: default\nlifecycle: persistent\ncapabilities: [\(grants)]\n"
            }
            let plain = try await door.spawn(
                manifest("plain", "'file_write: /workspace/**', 'file_read: /srv/data/**'"))
            let wide = try await door.spawn(manifest("wide", "'file_write: /home/u/**', 'exec: *'"))
            let file = f.path("etc.yaml")
            try manifest("cron", "'file_write: /etc/cron.d/*', 'tool: echo'").write(
                toFile: file, atomically: true, encoding: .utf8)
            let valid = try await f.succeed("agent", "validate", file)
            #expect(valid.out.contains("lets be written what is in crontabs"), "\(valid)")
            try await f.succeed("agent", "deploy", file)
            let found = try await checks(f)
            for (name, words) in [
                ("agent \(wide)", ["wide: ", "~/.ssh", "shell start files"]), ("manifest cron", ["/etc", "crontabs"]),
                ("bootstrap", ["every file of the host"]),
            ] {
                let check = try #require(found[name], "\(name): \(found.keys)")
                #expect(check.status == "warning" && words.allSatisfy { check.detail.contains($0) }, "\(check)")
            }
            #expect(found["agent \(plain)"] == nil)
            // Others see nothing of it.
            try await door.openToAll()
            let text = try await f.run(
                "/usr/bin/setpriv",
                ["--reuid", "65534", "--regid", "65534", "--clear-groups", DaemonFixture.cli, "doctor"])
            #expect(text.out.contains("Kernel") && !text.out.contains("wide") && !text.out.contains("cron"), "\(text)")
            try await f.succeed("agent", "stop", wide)
            #expect(try await checks(f)["agent \(wide)"] == nil)
            let status = try await f.aegis("agent", "status", plain)
            #expect(!status.out.contains("mounts ("), "\(status)")
            let runs = try await door.spawn(manifest("runs", "'exec: *'"))
            let shown = try await f.succeed("agent", "status", runs)
            #expect(shown.out.contains("mounts (single operations of programs are neither decided nor recorded)"))
        }
    }

    /// The daemon has a mount namespace of its own, in which the programs are covered by something that is none.
    @Test func whatIsMissingIsNamedWithItsPackageAndItsUse() async throws {
        let cover = """
            for p in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do for n in nft mkfs.btrfs; do
            [ -f $p/$n ] && mount --bind /dev/null $p/$n; done; done; exec "$@"
            """
        let launcher = ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", cover, "sh"]
        try await DaemonFixture.with(launcher: launcher) { f in
            let checks = try await checks(f)
            for (name, package, use) in [("nft", "nftables", "networks"), ("mkfs.btrfs", "btrfs-progs", "--disk")] {
                let check = try #require(checks[name])
                #expect(
                    check.status == "failed" && check.detail.contains("\(name) is missing")
                        && check.detail.contains(use) && check.hint == "apt install \(package)", "\(check)")
            }
            #expect(checks["netfilter"] == nil && checks["nsenter"]?.status == "ok", "\(checks)")
            let text = try await f.aegis("doctor")
            #expect(text.code == 1 && text.out.contains("failed   nft"), "\(text)")
            // Who needs it hears the same, all others do not notice.
            let run = try await f.aegis("run", "--isolation", "runc", "--allow", "example.org:443", "--", "true")
            #expect(
                run.code == 125 && run.err.contains("(network-unavailable)") && run.err.contains("nft is missing")
                    && run.err.contains("apt install nftables"), "\(run)")
            try await f.succeed("run", "--isolation", "runc", "--", "true")
        }
    }
}
