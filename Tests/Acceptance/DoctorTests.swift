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
