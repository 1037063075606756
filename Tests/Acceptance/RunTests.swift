import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// The isolations that every body runs on.
let backends = ["runc", "runsc"]

@Suite struct RunTests {
    @Test(arguments: backends) func theFirstCommandsThatPeopleTryWork(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let folder = try TemporaryDirectory()
            let place = folder.path("work")
            try Files.makeDirectories(place)
            try Files.writeAtomically(place + "/note", Array("hi\n".utf8))
            func run(_ command: String...) async throws -> CommandResult {
                let all = ["run", "--isolation", backend, "--workspace", place, "--"] + command
                let result = try await f.run(DaemonFixture.cli, all)
                #expect(result.code == 0 && result.err.isEmpty, "\(result)")
                return result
            }
            #expect(try await run("ls", "-la", "/").out.contains(" etc\n"))
            #expect(try await run("stat", "/etc/passwd").out.contains("File: /etc/passwd"))
            #expect(try await run("ls", "-l").out.hasSuffix(" note\n"))
            let thread = "import threading as t; a = t.Thread(target=print, args=('in it',)); a.start(); a.join()"
            #expect(try await run("python3", "-c", thread).out == "in it\n")
            let name = "copied-\(backend)"
            try #require(
                await f.aegis("run", "-d", "--name", name, "--isolation", backend, "--", "sleep", "1000").code == 0)
            for path in ["/etc", "/"] {
                let listed = try await f.run(
                    "/bin/sh", ["-c", "\"$0\" cp \(name):\(path) - | tar t", DaemonFixture.cli])
                #expect(listed.code == 0 && listed.out.contains("etc/passwd\n"), "\(path)")
                #expect(!listed.out.contains("preload") && !listed.out.contains(".aegis"), "\(listed)")
            }
            #expect(try await f.aegis("instance", "delete", name).code == 0)
            _ = consume folder
        }
    }

    @Test(arguments: backends) func aCommandRunsIsolatedAndLeavesNothing(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let result = try await f.aegis("run", "--isolation", backend, "--", "python3", "-c", "print(6*7)")
            #expect(result.code == 0 && result.out == "42\n" && result.err.isEmpty, "\(result)")
            let code = try await f.aegis(
                "run", "--isolation", backend, "--", "sh", "-c", "echo out; echo err >&2; exit 3")
            #expect(code.code == 3 && code.out == "out\n" && code.err == "err\n", "\(code)")
            let list = try await f.aegis("instance", "list", "--output", "json")
            #expect(list.out == "[]\n", "\(list)")
        }
    }

    @Test func fiftyAtOnceAllSucceedAndLeaveNothing() async throws {
        try await DaemonFixture.with { f in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<50 {
                    group.addTask {
                        let run = try await f.aegis(
                            "run", "--isolation", "runc", "--", "sh", "-c", "echo \(number); exit \(number)")
                        #expect(run.code == Int32(number) && run.out == "\(number)\n" && run.err.isEmpty, "\(run)")
                    }
                }
                try await group.waitForAll()
            }
            #expect(try await f.list().isEmpty)
            try await f.eventually("nothing is left") {
                let files = FileManager.default
                let places = [
                    "/run/aegis/\(try f.node)", "\(f.home)/instances", "\(f.home)/logs", "\(f.home)/workspaces",
                ]
                let left = places.flatMap { (try? files.contentsOfDirectory(atPath: $0)) ?? [] }
                return !left.contains { $0.hasPrefix("i-") }
            }
            let groups = try await f.shell("find /sys/fs/cgroup -type d -path '*aegis-\(try f.node)*/i-*'")
            let mounts = try await f.shell("grep -c 'aegis/\(try f.node)/i-' /proc/self/mountinfo")
            #expect(groups.out.isEmpty && mounts.out == "0\n", "\(groups) \(mounts)")
        }
    }

    /// The client has its answer when the command has ended, not when the sandbox has been cleared away: nobody may
    /// notice the difference but by the clock.
    @Test(arguments: backends) func whatARunLeavesGoesBehindItsAnswer(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            for round in 0..<4 {
                // The same name and the same folder at once again.
                let run = try await f.aegis(
                    "run", "--isolation", backend, "--name", "again", "--workspace", "shared", "--", "sh", "-c",
                    "cat n 2>/dev/null; echo \(round) >> n; grep -c SigIgn:.0000000000000000 /proc/self/status; exit 7")
                let before = (0..<round).map { "\($0)\n" }.joined()
                // gVisor's /proc says nothing about signals.
                #expect(run.code == 7 && run.out == before + (backend == "runc" ? "1\n" : "0\n"), "\(run)")
                #expect(try await f.list().isEmpty)
                try await f.refuse("instance", "info", "again", code: 4, error: "instance-not-found")
            }
            try await f.eventually("nothing is left") {
                let run = try FileManager.default.contentsOfDirectory(atPath: "/run/aegis/\(try f.node)")
                let homes = try FileManager.default.contentsOfDirectory(atPath: "\(f.home)/instances")
                return !run.contains { $0.hasPrefix("i-") } && homes.isEmpty
            }
        }
    }
}
