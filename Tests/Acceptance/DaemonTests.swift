import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// The daemon itself: start, end, and what keeps it from starting.
@Suite(.serialized) struct DaemonTests {
    @Test func downStopsEverythingAndLeavesNothing() async throws {
        try await DaemonFixture.with { f in
            for backend in backends {
                try await f.succeed(
                    "run", "-d", "--name", "kept-\(backend)", "--isolation", backend, "--disk", "50Mi", "--", "sh",
                    "-c", "trap 'echo bye; exit 3' TERM; while true; do sleep 0.05; done")
            }
            let run = try f.begin("run", "--name", "foreground", "--", "sleep", "1000")
            try await f.eventually("it runs") {
                try await f.aegis("instance", "info", "foreground").out.contains("running")
            }
            let ids = try await f.list().map(\.id)
            let keepers = try await withKeepers(f, ids)
            let node = try f.node
            try await f.succeed("down")
            _ = try await run.result()
            for id in ids { #expect(try f.processes(of: id).isEmpty) }
            for keeper in keepers { #expect(kill(keeper, 0) != 0, "a keeper lives on") }
            #expect(!FileManager.default.fileExists(atPath: "/run/aegis/\(node)"))
            for controller in ["pids", "memory", "freezer", "unified"] {
                #expect(!FileManager.default.fileExists(atPath: "/sys/fs/cgroup/\(controller)/aegis-\(node)"))
            }
            let mounts = try kernelText("/proc/self/mountinfo")
            #expect(!mounts.contains(node) && !mounts.contains(f.home))
            #expect(!FileManager.default.fileExists(atPath: "\(f.home)/aegisd.sock"))
            #expect(f.daemonPid == nil)
            #expect(try await f.aegis("instance", "list").code == 3)
            try await f.up()
            let records = try await f.list()
            #expect(
                records.count == 2 && records.allSatisfy { $0.state == "stopped" && $0.exitCode == 3 }, "\(records)")
            #expect(try await f.succeed("logs", "kept-runc").out == "bye\n")
        }
    }

    private func withKeepers(_ f: DaemonFixture, _ ids: [String]) async throws -> [Int32] {
        var pids: [Int32] = []
        for id in ids { pids.append(try await f.sandbox(of: id).keeperPid) }
        return pids
    }

    @Test func aSecondDaemonIsRefusedAndTwoHomesAreTwoDaemons() async throws {
        try await DaemonFixture.with { f in
            let pid = try #require(f.daemonPid)
            let second = try await f.run("\(DaemonFixture.binaries)/aegisd", ["--ports", "auto"])
            #expect(
                second.code == 5 && second.err.contains("(already-running)") && second.err.contains("\(pid)"),
                "\(second)")
            let again = try await f.succeed("up", "--ports", "auto")
            #expect(again.out.contains("already running") && f.daemonPid == pid)
            try await DaemonFixture.shared { other in
                try await f.succeed("run", "-d", "--name", "mine", "--", "sleep", "1000")
                #expect(try await other.aegis("instance", "info", "mine").code == 4)
                #expect(try f.node != (try other.node))
            }
        }
    }

    @Test func aBurstOfConnectionsLeavesNoMemoryBehind() async throws {
        try await DaemonFixture.with { f in
            let pid = try #require(f.daemonPid)
            let path = "\(f.home)/aegisd.sock"
            let request = Array("GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".utf8)
            var streams: [FileStream] = []
            for _ in 0..<600 { streams.append(try await Connect.unix(path: path, on: f.loop)) }
            for stream in streams { try await stream.write(request[...]) }
            for stream in streams {
                #expect(try await stream.readAll(limit: 1 << 16).starts(with: Array("HTTP/1.1 200 ".utf8)))
                stream.close()
            }
            func ownMemory() throws -> Int {
                let status = String(decoding: try Files.read("/proc/\(pid)/status", limit: 65_536), as: UTF8.self)
                let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("RssAnon:") })
                return try #require(Int(line.split(whereSeparator: { $0 == " " || $0 == "\t" })[1]))
            }
            // What it needs by itself is 2 to 4 MiB, what 600 connections use 10 more.
            try await f.eventually("the memory is given back") { try ownMemory() < 7 << 10 }
        }
    }

    @Test func whatADeadDaemonLeftIsNoHindrance() async throws {
        try await DaemonFixture.with { f in
            try await f.crash()
            #expect(try await f.aegis("instance", "list").code == 3)
            try "1\n".write(toFile: "\(f.home)/aegisd.pid", atomically: true, encoding: .utf8)
            #expect(try await f.succeed("down").out.contains("not running"))
            try "999999\n".write(toFile: "\(f.home)/aegisd.pid", atomically: true, encoding: .utf8)
            try await f.up()
            #expect(try await f.succeed("run", "--isolation", "runc", "--", "echo", "fine").out == "fine\n")
        }
    }

    @Test func aBrokenConfigurationIsExplained() async throws {
        try await onLoop { loop in
            let f = try DaemonFixture(loop: loop)
            let head = "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: { name: x }\nspec:\n"
            let cases = [
                ("  instances:\n    mx: 5\n", ["aegis-config.yaml:6", "max"]),
                ("  network:\n    port: many\n", ["aegis-config.yaml:6", "whole number"]),
                ("  netwrok: {}\n", ["aegis-config.yaml:5", "network"]),
            ]
            for (body, words) in cases {
                try (head + body).write(toFile: "\(f.home)/aegis-config.yaml", atomically: true, encoding: .utf8)
                let up = try await f.aegis("up", "--ports", "auto")
                #expect(
                    up.code == 2 && up.err.contains("(invalid-config)") && words.allSatisfy(up.err.contains), "\(up)")
                for (program, arguments) in [
                    (DaemonFixture.cli, ["daemon"]), ("\(DaemonFixture.binaries)/aegisd", []),
                ] {
                    let file = "\(f.home)/aegis-config.yaml"
                    let own = try await f.run(program, arguments + ["--config", file, "--ports", "auto"])
                    #expect(own.code == 2 && words.allSatisfy(own.err.contains), "\(program): \(own)")
                }
                #expect(f.daemonPid == nil)
            }
            let missing = try await f.aegis("up", "--config", f.path("none.yaml"))
            #expect(missing.code == 2 && missing.err.contains("none.yaml"), "\(missing)")
        }
    }

    @Test func aRelativeHomeIsTheSameForTheCommandLineAndTheDaemon() async throws {
        try await onLoop { loop in
            let f = try DaemonFixture(loop: loop)
            func relative(_ program: String, _ words: String...) async throws -> CommandResult {
                var spec = ProcessSpec(
                    executable: program, arguments: [program] + words,
                    environment: f.environment.filter { !$0.hasPrefix("AEGIS_HOME=") } + ["AEGIS_HOME=./home"])
                spec.workingDirectory = f.path(".")
                let (status, stdout, stderr) = try await runProcess(spec, deadline: .seconds(60), on: loop)
                return CommandResult(code: status.shellCode, stdout: stdout, stderr: stderr)
            }
            let up = try await relative(DaemonFixture.cli, "up", "--ports", "auto")
            #expect(up.code == 0, "\(up)")
            // From anywhere else by its absolute name.
            let status = try await f.succeed("status", "--output", "json")
            #expect(status.out.contains("\"home\": \"\(f.home)\""), "\(status)")
            let second = try await relative("\(DaemonFixture.binaries)/aegisd", "--ports", "auto")
            #expect(second.code == 5 && second.err.contains("(already-running)"), "\(second)")
            let down = try await relative(DaemonFixture.cli, "down")
            #expect(down.code == 0 && f.daemonPid == nil, "\(down)")
            #expect(!FileManager.default.fileExists(atPath: "\(f.home)/home"))
        }
    }

    @Test func whatTheDaemonKeepsIsClosedToOthers() async throws {
        try await DaemonFixture.with { f in
            try await f.succeed("run", "-d", "--name", "x", "--env", "PASSWORD=hunter2", "--", "sleep", "1000")
            func modes() async throws -> String {
                try await f.shell("stat -c '%n %a' home home/aegis.db home/aegis.db-wal home/aegis.db-shm").out
            }
            let closed = "home 700\nhome/aegis.db 600\nhome/aegis.db-wal 600\nhome/aegis.db-shm 600\n"
            #expect(try await modes() == closed)
            // As an earlier release has left them.
            try await f.succeed("down", "--keep")
            try await f.shell("chmod 755 home; chmod 644 home/aegis.db")
            let up = try await f.succeed("up", "--ports", "auto")
            #expect(up.err.contains("its mode is 0700 now"), "\(up)")
            #expect(try await modes() == closed)
            try await f.succeed("down")
            try await f.shell("chmod 777 home")
            for refused in [try await f.aegis("up"), try await f.run("\(DaemonFixture.binaries)/aegisd", [])] {
                #expect(refused.code == 1 && refused.err.contains("(home-unsafe)"), "\(refused)")
            }
            try await f.shell("chmod 700 home")
        }
    }

    @Test func aDatabaseOfANewerReleaseIsLeftAlone() async throws {
        try await DaemonFixture.with { f in
            try await f.succeed("down")
            let own = try await f.sql("PRAGMA user_version").trimmingCharacters(in: .whitespacesAndNewlines)
            _ = try await f.sql("PRAGMA user_version = 9999")
            let up = try await f.aegis("up", "--ports", "auto")
            #expect(up.code == 5 && up.err.contains("newer") && up.err.contains("9999"), "\(up)")
            _ = try await f.sql("PRAGMA user_version = \(own)")
            try await f.up()
        }
    }

    @Test func aHomeWithALongPathWorksOrIsRefusedClearly() async throws {
        try await onLoop { loop in
            let base = try TemporaryDirectory()
            let home = base.path((0..<6).map { _ in String(repeating: "d", count: 40) }.joined(separator: "/"))
            let f = DaemonFixture(loop: loop, home: home)
            let up = try await f.aegis("up", "--ports", "auto")
            guard up.code == 0 else {
                #expect(up.err.contains("socket") && up.err.contains("long"), "\(up)")
                return
            }
            #expect(try await f.aegis("instance", "list").code == 0)
            try await f.succeed("down")
        }
    }
}
