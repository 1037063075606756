import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// A daemon takes over sandboxes whose keeper and harness are of another release.
@Suite struct ReleaseTests {
    /// Crashes the daemon and starts another one, to which the keepers look as told.
    private func upgrade(
        _ f: DaemonFixture, _ forms: [(instance: String, form: OtherRelease.Form)],
        _ body: @escaping @Sendable ([OtherRelease]) async throws -> Void
    ) async throws {
        var sockets: [(String, OtherRelease.Form)] = []
        for (name, form) in forms {
            sockets.append(("/run/aegis/\(try f.node)/\(try await f.record(name).id)/keep.sock", form))
        }
        try await f.crash()
        let others = try sockets.map { try OtherRelease(before: $0.0, as: $0.1, on: f.loop) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for other in others { group.addTask { await other.serve() } }
            let result: Result<Void, any Error>
            do {
                try await f.up()
                result = .success(try await body(others))
            } catch { result = .failure(error) }
            for other in others { other.close() }
            group.cancelAll()
            try result.get()
        }
    }

    @Test(arguments: backends) func aNewerReleaseIsWorkedWithAndAnAncientOneRefused(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let script = "trap 'echo got it; exit 9' TERM; echo up; while :; do sleep 0.05; done"
            for name in ["newer", "ancient"] {
                try await f.succeed("run", "-d", "--name", name, "--isolation", backend, "--", "sh", "-c", script)
                try await f.eventually("it is up") { try await f.aegis("logs", name).out == "up\n" }
            }
            let ancient = try await f.sandbox(of: try await f.record("ancient").id).keeperPid
            try await upgrade(f, [("newer", .newer), ("ancient", .ancient)]) { _ in
                // Everything that the channel does, with fields that neither side knows.
                #expect(try await f.record("newer").state == "running")
                let bytes = (0..<600_000).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 8) }
                let echo = try await f.succeed("exec", "-i", "newer", "--", "cat", input: bytes)
                #expect(echo.stdout == bytes)
                #expect(try await f.aegis("exec", "newer", "--", "sh", "-c", "exit 5").code == 5)
                #expect(try await f.aegis("exec", "newer", "--", "no-such").code == 127)
                let killed = try await f.aegis("exec", "newer", "--", "timeout", "-s", "KILL", "0.1", "sleep", "100")
                #expect(killed.code == 137, "\(killed)")
                let copied = try await f.succeed("cp", "newer:/etc/hostname", "-")
                #expect(copied.out.contains("hostname"))
                try await f.succeed("instance", "pause", "newer")
                try await f.succeed("instance", "resume", "newer")
                try await f.succeed("instance", "stop", "newer")
                let stopped = try await f.record("newer")
                #expect(stopped.exitCode == 9 && stopped.stopReason == "stopped", "\(stopped)")
                #expect(try await f.succeed("logs", "newer").out.hasSuffix("got it\n"))
                // The other one: its end is not guessed, and the reason has both numbers.
                let refused = try await f.succeed("instance", "info", "ancient")
                #expect(
                    refused.out.contains("(channel-version)") && refused.out.contains("version 0")
                        && refused.out.contains("speaks 1 and later"), "\(refused)")
                let lost = try await f.record("ancient")
                #expect(lost.state == "stopped" && lost.stopReason == "lost" && lost.exitCode == nil, "\(lost)")
                #expect(try f.processes(of: lost.id).isEmpty)
                try await f.eventually("its keeper has gone") {
                    let stat = (try? Files.read("/proc/\(ancient)/stat", limit: 4096)) ?? []
                    return stat.isEmpty || String(decoding: stat, as: UTF8.self).contains(") Z ")
                }
            }
            // Both are made anew by this release.
            for name in ["newer", "ancient"] {
                try await f.succeed("instance", "start", name)
                #expect(try await f.succeed("exec", name, "--", "echo", "here").out == "here\n")
            }
        }
    }

    /// The release before had no door in its sandboxes. What runs goes on, and that the guest API is gone is said.
    @Test(arguments: backends) func aSandboxOfVersionOneGoesOnWithoutADoor(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let script = "trap 'echo got it; exit 9' TERM; echo up; while :; do sleep 0.05; done"
            try await f.succeed("run", "-d", "--name", "former", "--isolation", backend, "--", "sh", "-c", script)
            try await f.eventually("it is up") { try await f.aegis("logs", "former").out == "up\n" }
            #expect(try await f.ask("former", "GET", "/v1/self").hasPrefix("200 "))
            try await upgrade(f, [("former", .former)]) { others in
                try await f.eventually("it is said") {
                    try await f.aegis("logs", "former").err.contains("the guest API: not there until the next start")
                }
                let told = try await f.succeed("instance", "info", "former")
                #expect(told.out.contains("(guest-api-missing)") && told.out.contains("earlier release"), "\(told)")
                #expect(try await f.record("former").state == "running")
                #expect(try await f.ask("former", "GET", "/v1/self").hasPrefix("unreachable"))
                // Everything else of version 1.
                let bytes = (0..<600_000).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 8) }
                #expect(try await f.succeed("exec", "-i", "former", "--", "cat", input: bytes).stdout == bytes)
                #expect(try await f.aegis("exec", "former", "--", "sh", "-c", "exit 5").code == 5)
                #expect(try await f.succeed("cp", "former:/etc/hostname", "-").out.contains("hostname"))
                try await f.succeed("instance", "pause", "former")
                try await f.succeed("instance", "resume", "former")
                try await f.succeed("instance", "stop", "former")
                let stopped = try await f.record("former")
                #expect(stopped.exitCode == 9 && stopped.stopReason == "stopped", "\(stopped)")
                #expect(try await f.succeed("logs", "former").out.hasSuffix("got it\n"))
                #expect(others.map(\.misunderstood) == [[]])
                let after = try await f.succeed("instance", "info", "former")
                #expect(!after.out.contains("guest-api-missing"), "\(after)")
            }
            // This release's next start has one.
            try await f.succeed("instance", "start", "former")
            #expect(try await f.ask("former", "GET", "/v1/self").hasPrefix("200 "))
        }
    }
}
