import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// Named instances and their verbs.
@Suite(.serialized) struct LifecycleTests {
    @Test(arguments: backends) func aNamedInstanceLivesThroughEveryVerb(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "verbs-\(backend)"
            try await f.succeed(
                "instance", "create", "--name", name, "--isolation", backend, "--env", "COLOUR=blue", "--", "sh", "-c",
                "echo run $COLOUR; exec sleep 1000")
            #expect(try await f.record(name).state == "stopped")
            /// Waits until so many runs have said their line, and no more have.
            func spoken(_ runs: Int) async throws {
                try await f.eventually("run \(runs) has spoken") {
                    try await f.succeed("logs", name).out.split(separator: "\n").count { $0 == "run blue" } == runs
                }
            }
            try await f.succeed("instance", "start", "--name", name)
            #expect(try await f.record(name).state == "running")
            try await spoken(1)
            #expect(try await f.succeed("exec", name, "--", "sh", "-c", "echo $COLOUR").out == "blue\n")
            try await f.succeed("instance", "pause", name)
            #expect(try await f.record(name).state == "paused")
            try await f.succeed("instance", "resume", name)
            #expect(try await f.record(name).state == "running")
            try await f.succeed("instance", "pause", name)
            #expect(try await f.succeed("exec", name, "--", "echo", "awake").out == "awake\n", "exec resumes")
            try await f.succeed("instance", "restart", name)
            #expect(try await f.record(name).state == "running")
            try await spoken(2)
            try await f.succeed("instance", "pause", name)
            try await f.succeed("instance", "stop", name)
            let stopped = try await f.record(name)
            #expect(stopped.state == "stopped" && stopped.stopReason == "stopped" && stopped.exitCode == 143)
            try await f.succeed("instance", "start", name)
            try await spoken(3)
            try await f.succeed("instance", "disable", name)
            #expect(try await f.record(name).state == "stopped")
            try await f.refuse("instance", "start", name, code: 5, error: "instance-disabled")
            try await f.succeed("instance", "enable", name)
            try await f.succeed("instance", "start", name)
            try await spoken(4)
            let id = try await f.record(name).id
            try await f.succeed("instance", "delete", name)
            try await f.refuse("instance", "info", name, code: 4, error: "instance-not-found")
            #expect(!FileManager.default.fileExists(atPath: "/run/aegis/\(try f.node)/\(id)"))
            #expect(!FileManager.default.fileExists(atPath: "\(f.home)/logs/\(id)"))
            #expect(try f.processes(of: id).isEmpty)
        }
    }

    @Test func aNameInUseAndAnUnknownOneAreSaid() async throws {
        try await DaemonFixture.shared { f in
            try await f.succeed("instance", "start", "--name", "taken", "--", "sleep", "1000")
            try await f.refuse("instance", "create", "--name", "taken", "--", "true", code: 5, error: "name-in-use")
            try await f.refuse("instance", "start", "--name", "taken", code: 5, error: "name-in-use")
            try await f.refuse("run", "--name", "taken", "--", "true", code: 125, error: "name-in-use")
            let near = try await f.aegis("instance", "info", "tokem")
            #expect(near.code == 4 && near.err.contains("did you mean 'taken'?"), "\(near)")
            try await f.refuse("exec", "nobody-at-all", "--", "true", code: 125, error: "instance-not-found")
            try await f.succeed("instance", "stop", "taken")
            try await f.refuse(
                "instance", "start", "--name", "taken", "--", "echo", "other", code: 5, error: "name-in-use")
            try await f.refuse("exec", "taken", "--", "true", code: 125, error: "instance-stopped")
            try await f.refuse("instance", "pause", "taken", code: 5, error: "instance-stopped")
            #expect(try await f.succeed("exec", "--start", "taken", "--", "echo", "up").out == "up\n")
            try await f.succeed("instance", "delete", "taken")
        }
    }

    @Test(arguments: backends) func aStopTakesTheGraceThatWasAskedFor(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "grace-\(backend)"
            // Whoever had the usual five seconds would end by itself, with 3.
            try await f.succeed(
                "instance", "start", "--name", name, "--isolation", backend, "--grace", "0s", "--", "sh", "-c",
                "trap 'sleep 4; exit 3' TERM; echo ready; while :; do sleep 0.1; done")
            try await f.eventually("it speaks") { try await f.succeed("logs", name).out == "ready\n" }
            #expect(try await f.succeed("instance", "info", name).out.contains("grace 0s"))
            try await f.succeed("instance", "stop", name)
            #expect(try await f.record(name).exitCode == 137)
            try await f.succeed("instance", "delete", name)
            let long = try await f.aegis("instance", "create", "--grace", "1h", "--", "true")
            #expect(long.code == 2 && long.err.contains("give 0s to 2m"), "\(long)")
        }
    }

    @Test func pruneRemovesWhatIsStoppedAndNothingElse() async throws {
        try await DaemonFixture.with { f in
            try await f.succeed("run", "-d", "--name", "over", "--", "true")
            try await f.succeed("run", "-d", "--name", "up", "--", "sleep", "1000")
            try await f.eventually("'over' ends") { try await f.record("over").state == "stopped" }
            try await f.succeed("instance", "prune", "--stopped-older-than", "1h")
            #expect(try await f.list().count == 2)
            try await f.succeed("instance", "prune", "--stopped-older-than", "0s")
            #expect(try await f.list().map(\.name) == ["up"])
        }
    }

    @Test func whatKeepsCrashingIsRefused() async throws {
        try await DaemonFixture.shared { f in
            try await f.succeed("instance", "start", "--name", "crashing", "--isolation", "runc", "--", "false")
            for number in 1...5 {
                // One that has not ended yet would only be told that it runs.
                try await f.eventually("start \(number) ends") {
                    try await f.record("crashing").state == "stopped"
                }
                if number < 5 { try await f.succeed("instance", "start", "crashing") }
            }
            try await f.refuse("instance", "start", "crashing", code: 5, error: "crash-loop")
            try await f.succeed("instance", "delete", "crashing")
        }
    }

    @Test func stopsAreNoCrashes() async throws {
        try await DaemonFixture.shared { f in
            try await f.succeed("instance", "start", "--name", "calm", "--isolation", "runc", "--", "sleep", "1000")
            for _ in 0..<6 {
                try await f.succeed("instance", "stop", "calm")
                try await f.succeed("instance", "start", "calm")
            }
            try await f.succeed("instance", "delete", "calm")
        }
    }

    @Test func aStartThatFailsSaysWhyAndLeavesNothing() async throws {
        try await DaemonFixture.shared { f in
            try await f.refuse(
                "instance", "start", "--name", "absent", "--", "no-such-program", code: 4, error: "command-not-found")
            try await f.refuse(
                "run", "-d", "--name", "absent", "--", "/etc/passwd", code: 126, error: "command-not-executable")
            try await f.refuse("instance", "info", "absent", code: 4, error: "instance-not-found")
        }
    }

    // MARK: Races

    @Test(arguments: backends) func commandsThatEndAtOnceAreNeverLost(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            try await withThrowingTaskGroup(of: CommandResult.self) { group in
                for lane in 0..<2 {
                    _ = lane
                    group.addTask {
                        var last = CommandResult(code: 0, stdout: [], stderr: [])
                        for _ in 0..<(backend == "runc" ? 25 : 8) where last.code == 0 && last.stderr.isEmpty {
                            last = try await f.aegis("run", "--isolation", backend, "--", "true")
                        }
                        return last
                    }
                }
                for try await result in group { #expect(result.code == 0 && result.err.isEmpty, "\(result)") }
            }
        }
    }

    @Test func twoStartsAtOnceStartItOnce() async throws {
        try await DaemonFixture.shared { f in
            try await f.succeed(
                "instance", "create", "--name", "twice", "--isolation", "runc", "--", "sh", "-c",
                "echo once; sleep 1000")
            let (a, b) = (try f.begin("instance", "start", "twice"), try f.begin("instance", "start", "twice"))
            #expect(try await a.result().code == 0)
            #expect(try await b.result().code == 0)
            try await f.eventually("the line") { try await f.aegis("logs", "twice").out == "once\n" }
            try await f.succeed("instance", "delete", "twice")
        }
    }

    @Test func stopAndDeleteDuringAPullEndTheStart() async throws {
        try await DaemonFixture.shared { f in
            // A registry that takes connections and never answers.
            let registry = try Listener.tcp(address: "127.0.0.1", port: 0, on: f.loop)
            defer { registry.close() }
            let image = "127.0.0.1:\(try registry.localPort())/slow:1"
            let start = try f.begin("instance", "start", "--name", "pulling", "--image", image)
            try await f.eventually("it starts") {
                try await f.aegis("instance", "info", "pulling").out.contains("starting")
            }
            try await f.succeed("instance", "stop", "pulling")
            let stopped = try await start.result()
            #expect(stopped.code == 5 && stopped.err.contains("start-cancelled"), "\(stopped)")
            #expect(try await f.record("pulling").state == "stopped")
            let again = try f.begin("instance", "start", "pulling")
            try await f.eventually("it starts") { try await f.record("pulling").state == "starting" }
            try await f.succeed("instance", "delete", "pulling")
            let deleted = try await again.result()
            #expect(deleted.code == 5 && deleted.err.contains("start-cancelled"), "\(deleted)")
            #expect(deleted.err.contains("it is gone"), "\(deleted)")
            try await f.refuse("instance", "info", "pulling", code: 4, error: "instance-not-found")
        }
    }
}
