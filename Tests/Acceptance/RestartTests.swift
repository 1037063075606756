import AegisIO
import AegisTestSupport
import Foundation
import Testing

/// Verbs that meet a restart under way.
@Suite(.serialized) struct RestartTests {
    /// A line for each run, and others all the time; it ends when it is told to.
    private static let slow =
        "trap 'until [ -e end ]; do sleep 0.05; done; exit 3' TERM; echo run; while :; do echo; sleep 0.1; done"

    private func start(_ f: DaemonFixture, _ name: String) async throws {
        try await f.succeed(
            "instance", "start", "--name", name, "--isolation", "runc", "--workspace", "shared", "--grace", "2m", "--",
            "sh",
            "-c", Self.slow)
        try await f.eventually("it runs") { try await runs(f, name) == 1 }
    }

    private func letItEnd(_ f: DaemonFixture) {
        #expect(FileManager.default.createFile(atPath: "\(f.home)/workspaces/shared/end", contents: nil))
    }

    private func runs(_ f: DaemonFixture, _ name: String) async throws -> Int {
        try await f.succeed("logs", name).out.split(separator: "\n").count { $0 == "run" }
    }

    @Test func whoeverComesDuringARestartGetsTheNewRun() async throws {
        // A daemon of its own, whose connections are counted.
        try await DaemonFixture.with { f in
            let name = "crowded"
            try await start(f, name)
            let seen = "\(f.home)/seen"
            let attached = RunningCommand(
                try ChildProcess.spawn(
                    ProcessSpec(
                        executable: "/bin/sh",
                        arguments: [
                            "sh", "-c", "exec \"$0\" attach \"$1\" --no-stdin >\"$2\"", DaemonFixture.cli, name, seen,
                        ], environment: f.environment, stdin: .null, stdout: .null, stderr: .pipe), on: f.loop))
            try await f.eventually("it is attached") { FileManager.default.contents(atPath: seen)?.isEmpty == false }
            let first = try f.begin("instance", "restart", name)
            try await f.eventually("it goes down") { try await f.record(name).state == "stopping" }
            // The one that is attached, and the first restart.
            let before = 2
            let others = [
                try f.begin("instance", "restart", name), try f.begin("instance", "start", name),
                try f.begin("exec", "--start", name, "--", "true"), try f.begin("exec", name, "--", "true"),
            ]
            try await f.eventually("the requests are there") { try connections(f) >= before + others.count }
            letItEnd(f)
            for command in [first] + others {
                let result = try await command.result()
                #expect(result.code == 0, "\(result)")
            }
            // The end of the run that it watched, not of the one after.
            let end = try await attached.result()
            #expect(end.code == 3, "\(end)")
            try await f.eventually("the new run") { try await runs(f, name) == 2 }
            #expect(try await f.record(name).state == "running")
        }
    }

    @Test func aRestartWhoseClientGaveUpIsNotRepeated() async throws {
        try await DaemonFixture.with { f in
            let name = "impatient"
            try await start(f, name)
            let stop = try f.begin("instance", "stop", name)
            try await f.eventually("it goes down") { try await f.record(name).state == "stopping" }
            // The stop.
            let before = 1
            let restarts = try (0..<3).map { _ in try f.begin("instance", "restart", name) }
            try await f.eventually("the requests are there") { try connections(f) >= before + 3 }
            for restart in restarts {
                _ = restart.child.signal(9)
                _ = try await restart.result()
            }
            try await f.eventually("the daemon knows that they are gone") { try connections(f) <= before }
            letItEnd(f)
            #expect(try await stop.result().code == 0)
            #expect(try await f.record(name).state == "stopped")
            #expect(try await runs(f, name) == 1)
        }
    }

    /// Connections to the daemon's socket, as the kernel lists them: its other sockets come and go with sandboxes.
    private func connections(_ f: DaemonFixture) throws -> Int {
        try kernelText("/proc/net/unix").split(separator: "\n").count { line in
            let fields = line.split(separator: " ")
            return fields.count == 8 && fields[5] == "03" && fields[7] == "\(f.home)/aegisd.sock"
        }
    }

    @Test func aStartOfWhatRunsSaysSo() async throws {
        try await DaemonFixture.shared { f in
            let name = "up-already"
            try await f.succeed("instance", "start", "--name", name, "--isolation", "runc", "--", "sleep", "1000")
            let again = try await f.succeed("instance", "start", name)
            #expect(again.out.hasPrefix("\(name) is already running"), "\(again)")
            let named = try await f.aegis("instance", "start", "--name", name)
            #expect(named.code == 5 && named.err.contains("that instance is running (name-in-use)"), "\(named)")
            #expect(named.err.contains("instance restart \(name)") && !named.err.contains("delete"), "\(named)")
            try await f.succeed("instance", "stop", name)
            #expect(try await f.succeed("instance", "start", name).out.hasPrefix("\(name) started"))
            try await f.succeed("instance", "delete", name)
        }
    }
}
