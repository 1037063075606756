import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// What happens to instances when something dies that should not.
@Suite(.serialized) struct CrashTests {
    private static let counter = """
        import os, sys, time
        while not os.path.exists('/workspace/go'):
            time.sleep(0.02)
        for i in range(300000):
            sys.stdout.write('%09d\\n' % i)
            if i % 15000 == 0:
                sys.stdout.flush()
                time.sleep(0.1)
        sys.exit(5)
        """

    /// Whoever was killed keeps its lock until all that it had is closed: the next one does not give up on that.
    @Test func aDaemonWaitsForTheOneBeforeItToLetGo() async throws {
        try await onLoop { loop in
            let f = try DaemonFixture(loop: loop)
            let last = try f.begin(
                program: "/usr/bin/flock", ["\(f.home)/aegisd.lock", "sh", "-c", "touch '\(f.home)/held'; sleep 1"])
            try await f.eventually("the lock is held") { FileManager.default.fileExists(atPath: "\(f.home)/held") }
            try await f.up()
            #expect(try await last.result().code == 0)
            try await f.succeed("down")
            try Files.removeTree(f.home)
        }
    }

    @Test(arguments: backends) func aRunGoesOnByteExactOverADaemonCrash(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let run = try f.begin(
                "run", "--name", "counter", "--workspace", "shared", "--isolation", backend, "--", "python3", "-c",
                Self.counter)
            try await f.eventually("it runs") {
                try await f.aegis("instance", "info", "counter").out.contains("running")
            }
            // It counts from here on, so that a busy machine cannot see it end before it was seen to run.
            #expect(FileManager.default.createFile(atPath: "\(f.home)/workspaces/shared/go", contents: nil))
            for _ in 0..<2 {
                try await f.crash()
                try await f.up()
            }
            let result = try await run.result()
            #expect(result.code == 5 && result.err.isEmpty, "exit \(result.code): \(result.err)")
            #expect(
                result.out == (0..<300_000).map { String(format: "%09d\n", $0) }.joined(),
                "\(result.stdout.count) bytes")
            #expect(try await f.list().isEmpty)
        }
    }

    @Test(arguments: backends) func aRunOutlivesAnUpgradeAndADownEndsItWithGrace(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let script = "echo begun; until [ -e go ]; do sleep 0.02; done; echo after; exit 7"
            let run = try f.begin(
                "run", "--name", "kept", "--workspace", "shared", "--isolation", backend, "--", "sh", "-c", script)
            try await f.eventually("it runs") { try await f.aegis("logs", "kept").out == "begun\n" }
            try await f.succeed("down", "--keep")
            try await f.up()
            #expect(FileManager.default.createFile(atPath: "\(f.home)/workspaces/shared/go", contents: nil))
            let result = try await run.result()
            #expect(result.code == 7 && result.out == "begun\nafter\n" && result.err.isEmpty, "\(result)")
            #expect(try await f.list().isEmpty)

            let last = try f.begin(
                "run", "--name", "last", "--isolation", backend, "--", "sh", "-c",
                "trap 'echo bye; exit 4' TERM; echo begun; while :; do sleep 0.02; done")
            try await f.eventually("it runs") { try await f.aegis("logs", "last").out == "begun\n" }
            try await f.succeed("down")
            let end = try await last.result()
            #expect(end.code == 4 && end.out == "begun\nbye\n" && end.err.contains("(daemon-stopped)"), "\(end)")
            try await f.up()
            #expect(try await f.list().isEmpty)
        }
    }

    @Test(arguments: backends) func aRunThatEndsWhileTheDaemonGoesLosesNothing(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            try await f.succeed(
                "run", "-d", "--name", "other", "--workspace", "other", "--isolation", backend, "--", "sleep", "1000")
            let script = "echo begun; until [ -e go ]; do sleep 0.02; done; echo after; exit 7"
            let run = try f.begin(
                "run", "--name", "kept", "--workspace", "shared", "--isolation", backend, "--", "sh", "-c", script)
            try await f.eventually("it runs") { try await f.aegis("logs", "kept").out == "begun\n" }
            // The daemon gives this one some seconds.
            let held = try f.begin("exec", "other", "--", "sh", "-c", "touch held; exec sleep 1000")
            try await f.eventually("it is held") {
                FileManager.default.fileExists(atPath: "\(f.home)/workspaces/other/held")
            }
            let down = try f.begin("down", "--keep")
            try await f.eventually("the daemon goes") {
                try String(contentsOfFile: "\(f.home)/aegisd.log", encoding: .utf8).contains(" stopping ")
            }
            #expect(FileManager.default.createFile(atPath: "\(f.home)/workspaces/shared/go", contents: nil))
            #expect(try await down.result().code == 0)
            _ = try await held.result()
            try await f.up()
            let result = try await run.result()
            #expect(result.code == 7 && result.out == "begun\nafter\n" && result.err.isEmpty, "\(result)")
            #expect(try await f.list().map(\.name) == ["other"])
        }
    }

    @Test(arguments: backends) func everyInstanceIsTakenOverOrItsEndIsKnown(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            func detached(_ name: String, _ script: String) async throws {
                try await f.succeed("run", "-d", "--name", name, "--isolation", backend, "--", "sh", "-c", script)
            }
            try await detached("living", "i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done")
            try await detached("ending", "echo before; sleep 1; echo after; exit 33")
            try await detached("frozen", "echo cold; exec sleep 1000")
            try await detached("killed", "exec sleep 1000")
            try await f.succeed("instance", "pause", "frozen")
            let killed = try await f.sandbox(of: try await f.record("killed").id).keeperPid
            try await f.crash()
            kill(killed, SIGKILL)
            try await Task.sleep(for: .milliseconds(1500))
            try await f.up()
            #expect(try await f.record("living").state == "running")
            let logs = try await f.succeed("logs", "living").out.split(separator: "\n").compactMap { Int($0) }
            #expect(logs == Array(1...logs.count) && logs.count > 20, "\(logs)")
            try await f.eventually("the end is known") { try await f.record("ending").state == "stopped" }
            let ended = try await f.record("ending")
            #expect(ended.exitCode == 33 && ended.stopReason == "exited", "\(ended)")
            #expect(try await f.succeed("logs", "ending").out == "before\nafter\n")
            #expect(try await f.record("frozen").state == "paused")
            try await f.succeed("instance", "resume", "frozen")
            #expect(try await f.succeed("exec", "frozen", "--", "echo", "thawed").out == "thawed\n")
            let lost = try await f.record("killed")
            #expect(lost.state == "stopped" && lost.exitCode == nil && lost.stopReason == "lost", "\(lost)")
            try await f.succeed("instance", "start", "killed")
            #expect(try await f.succeed("exec", "living", "--", "echo", "here").out == "here\n")
        }
    }

    @Test func aRunWithoutItsClientIsRemovedAfterItsPatience() async throws {
        let config = """
            apiVersion: 100monkeys.ai/v1
            kind: NodeConfig
            metadata: { name: patience }
            spec: { instances: { client_patience: 15s } }
            """
        try await DaemonFixture.with(config: config) { f in
            let run = try f.begin("run", "--name", "left", "--", "sleep", "1000")
            try await f.eventually("it runs") { try await f.aegis("instance", "info", "left").out.contains("running") }
            try await f.crash()
            _ = run.child.signal(9)
            _ = try await run.result()
            try await f.up()
            #expect(try await f.list().map(\.name) == ["left"])
            try await f.eventually("it is removed") { try await f.list().isEmpty }
        }
    }

    /// The daemon has died: 'down' does not say that it is fine while sandboxes run on.
    @Test func downEndsWhatADeadDaemonLeftRunning() async throws {
        try await DaemonFixture.with { f in
            var keepers: [Int32] = []
            for backend in backends {
                try await f.succeed(
                    "run", "-d", "--name", "left-\(backend)", "--isolation", backend, "--", "sh", "-c",
                    "trap 'exit 3' TERM; while true; do sleep 0.05; done")
                keepers.append(try await f.sandbox(of: try await f.record("left-\(backend)").id).keeperPid)
            }
            let ids = try await f.list().map(\.id)
            let node = try f.node
            try await f.crash()
            let kept = try await f.succeed("down", "--keep")
            #expect(kept.out.contains("2 instances are left for the next one"), "\(kept)")
            // No daemon can be started to end them: that is no success.
            try "broken: [".write(toFile: "\(f.home)/aegis-config.yaml", atomically: true, encoding: .utf8)
            let broken = try await f.aegis("down")
            #expect(
                broken.code == 1 && broken.err.contains("(instances-left)") && broken.err.contains("2 instances"),
                "\(broken)")
            for keeper in keepers { #expect(isAlive(keeper)) }
            try Files.removeFile("\(f.home)/aegis-config.yaml")
            let down = try await f.succeed("down")
            #expect(down.out.contains("2 instances are left behind and ended now"), "\(down)")
            for keeper in keepers { #expect(!isAlive(keeper), "a keeper lives on") }
            for id in ids { #expect(try f.processes(of: id).isEmpty) }
            #expect(!FileManager.default.fileExists(atPath: "/run/aegis/\(node)"))
            #expect(try await f.succeed("down").out == "aegisd is not running\n")
            try await f.up()
            #expect(try await f.list().allSatisfy { $0.state == "stopped" && $0.exitCode == 3 })
        }
    }

    /// Whether a process runs: one that has ended may wait for its parent, which is not ours.
    private func isAlive(_ pid: Int32) -> Bool {
        guard let stat = try? Files.read("/proc/\(pid)/stat", limit: 4096) else { return false }
        let state = stat[(stat.lastIndex(of: UInt8(ascii: ")")) ?? 0)...].dropFirst(2).first
        return state != UInt8(ascii: "Z") && state != UInt8(ascii: "X")
    }

    @Test(arguments: backends) func whatIsKilledFromOutsideIsReported(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let (a, b) = ("murdered-\(backend)", "unkept-\(backend)")
            for name in [a, b] {
                try await f.succeed("run", "-d", "--name", name, "--isolation", backend, "--", "sleep", "1000")
            }
            let (idA, idB) = (try await f.record(a).id, try await f.record(b).id)
            let keeper = try await f.sandbox(of: idA).keeperPid
            for pid in try f.processes(of: idA) where pid != keeper { kill(pid, SIGKILL) }
            try await f.eventually("it is stopped") { try await f.record(a).state == "stopped" }
            let murdered = try await f.record(a)
            #expect(murdered.stopReason == "killed" || murdered.exitCode == 137, "\(murdered)")
            kill(try await f.sandbox(of: idB).keeperPid, SIGKILL)
            try await f.eventually("it is stopped") { try await f.record(b).state == "stopped" }
            let lost = try await f.record(b)
            #expect(lost.stopReason == "lost" && lost.exitCode == nil, "\(lost)")
            #expect(try f.processes(of: idB).isEmpty)
            for name in [a, b] {
                try await f.succeed("instance", "start", name)
                try await f.succeed("instance", "delete", name)
            }
        }
    }

    @Test(arguments: backends)
    func afterARestartOfTheHostEverythingIsStoppedAndStartsAgain(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let id = try await f.succeed(
                "run", "-d", "--name", "rebooted", "--isolation", backend, "--", "sleep", "1000"
            ).out
                .trimmingCharacters(in: .whitespacesAndNewlines)
            let row = try await f.sandbox(of: id)
            try await f.crash()
            // The host went down: its processes are gone, and the boot id is another one.
            for pid in try f.processes(of: id) { kill(pid, SIGKILL) }
            kill(row.keeperPid, SIGKILL)
            let other = "00000000-0000-4000-8000-000000000000"
            let sql =
                "UPDATE instances SET record = CAST(replace(CAST(record AS TEXT), '\(row.bootID)', '\(other)') AS BLOB)"
            #expect(try await f.run("/usr/bin/sqlite3", ["\(f.home)/aegis.db", sql]).code == 0)
            try await f.up()
            let record = try await f.record("rebooted")
            #expect(
                record.state == "stopped" && record.stopReason == "host-restart" && record.exitCode == nil,
                "\(record)")
            try await f.succeed("instance", "start", "rebooted")
            #expect(try await f.succeed("exec", "rebooted", "--", "echo", "up").out == "up\n")
        }
    }
}
