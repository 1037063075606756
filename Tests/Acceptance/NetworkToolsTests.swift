import AegisTestSupport
import Foundation
import Testing

/// Networks on a host that lacks programs (needs root and a kernel with nf_tables).
@Suite struct NetworkToolsTests {
    /// What starts a daemon that does not find a program.
    static func without(_ program: String) -> [String] {
        let hidden = """
            mount --make-rprivate /; for place in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do
            [ ! -f $place/\(program) ] || mount --bind /dev/null $place/\(program); done; exec "$@"
            """
        return ["/usr/bin/unshare", "-m", "/bin/sh", "-c", hidden, "sh"]
    }

    /// Links are made without help.
    @Test(arguments: backends) func nobodyNeedsTheProgramIP(_ backend: String) async throws {
        try await DaemonFixture.with(launcher: Self.without("ip")) { f in
            let look = """
                import socket
                print(*(socket.gethostbyname(name) for name in ('me.shop.internal', 'web.example')))
                """
            let run = try await f.succeed(
                "run", "--name", "me", "--isolation", backend, "--group", "shop", "--allow", "web.example", "--",
                "python3", "-c", look)
            #expect(run.out == "198.19.0.1 198.18.1.0\n")
        }
    }

    /// Without these programs there is no network, and that is said; what needs none runs.
    @Test(arguments: backends, [("nft", "nftables"), ("nsenter", "util-linux")])
    func withoutItsToolsThereIsNoNetwork(_ backend: String, _ tool: (String, String)) async throws {
        let (program, package) = tool
        try await DaemonFixture.with(launcher: Self.without(program)) { f in
            for place in [["--allow", "web.example"], ["--group", "shop"], ["--network", "allow"]] {
                let result = try await f.run(
                    DaemonFixture.cli, ["run", "--isolation", backend] + place + ["--", "true"])
                #expect(
                    result.code == 125 && result.err.contains("(network-unavailable)")
                        && result.err.contains("\(program) is missing") && result.err.contains("install \(package)"),
                    "\(result)")
            }
            try await f.succeed("run", "--isolation", backend, "--", "true")
            try await f.succeed("run", "-d", "--name", "later", "--isolation", backend, "--", "sleep", "100000")
            try await f.refuse(
                "instance", "network", "later", "--allow", "web.example", code: 1, error: "network-unavailable")
            #expect(try await f.record("later").state == "running")
            let shown = try await f.succeed("instance", "info", "later", "--output", "json").out
            #expect(!shown.contains("web.example"), "\(shown)")
        }
    }
}
