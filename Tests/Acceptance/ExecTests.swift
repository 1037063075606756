import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// `exec`, and the stored log.
@Suite(.serialized) struct ExecTests {
    @Test(arguments: backends) func execGivesEverythingThatIsAskedFor(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let x = "exec-\(backend)"
            try await f.succeed("run", "-d", "--name", x, "--isolation", backend, "--", "sleep", "1000")
            let all = try await f.succeed(
                "exec", "--env", "A=b c", "--workdir", "/usr", "--user", "1000:1000", x, "--", "sh", "-c",
                "echo $A; pwd; id -u; echo err >&2")
            #expect(all.out == "b c\n/usr\n1000\n" && all.err == "err\n", "\(all)")
            for (words, code) in [(["sh", "-c", "exit 9"], 9), (["no-such"], 127), (["/etc"], 126)] {
                let result = try await f.run(DaemonFixture.cli, ["exec", x, "--"] + words)
                #expect(result.code == Int32(code), "\(words): \(result)")
            }
            // More than every buffer on the way, both ways at once.
            let bytes = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 8) }
            let echo = try await f.succeed("exec", "-i", x, "--", "cat", input: bytes)
            #expect(echo.stdout == bytes)
            let unread = try await f.aegis("exec", "-i", x, "--", "true", input: bytes)
            #expect(unread.code == 0, "\(unread)")
            let terminal = try await f.run(
                "/usr/bin/script",
                [
                    "-qec", "\(DaemonFixture.cli) exec -it \(x) -- sh -c 'test -t 0 && stty size && echo yes'",
                    "/dev/null",
                ])
            #expect(terminal.code == 0 && terminal.out.contains("yes\r\n"), "\(terminal)")
            try await f.succeed("instance", "delete", x)
        }
    }

    @Test(arguments: backends) func manyExecsAtOnceKeepTheirOwnOutput(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let x = "many-\(backend)"
            try await f.succeed("run", "-d", "--name", x, "--isolation", backend, "--", "sleep", "1000")
            let count = backend == "runc" ? 100 : 30
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<count {
                    group.addTask {
                        let result = try await f.aegis(
                            "exec", x, "--", "sh", "-c", "echo \(number); exit \(number % 7)")
                        #expect(result.out == "\(number)\n" && result.code == Int32(number % 7), "\(result)")
                    }
                }
                try await group.waitForAll()
            }
            try await f.succeed("instance", "delete", x)
        }
    }

    @Test func aThousandExecsLeaveNothingBehind() async throws {
        try await DaemonFixture.with { f in
            let id = try await f.succeed("run", "-d", "--isolation", "runc", "--", "sleep", "1000").out
                .trimmingCharacters(in: .whitespacesAndNewlines)
            let daemon = try #require(f.daemonPid)
            let keeper = try await f.sandbox(of: id).keeperPid
            // The first process of the sandbox.
            let harness = try #require(try f.processes(of: id).first { $0 != keeper && Self.name($0) != "sleep" })
            func execs(_ count: Int) async throws {
                try await withThrowingTaskGroup(of: Int32.self) { group in
                    for _ in 0..<4 {
                        group.addTask {
                            for _ in 0..<count / 4 {
                                let code = try await f.aegis("exec", id, "--", "true").code
                                if code != 0 { return code }
                            }
                            return 0
                        }
                    }
                    for try await code in group { #expect(code == 0) }
                }
            }
            try await execs(100)
            let before = try [daemon, keeper, harness].map { try Self.measure($0) }
            try await execs(1000)
            for (pid, was) in zip([daemon, keeper, harness], before) {
                let now = try Self.measure(pid)
                #expect(now.descriptors <= was.descriptors + 2, "descriptors of \(pid): \(was) -> \(now)")
                #expect(now.kilobytes <= was.kilobytes + 2048, "memory of \(pid): \(was) -> \(now)")
            }
        }
    }

    private static func name(_ pid: Int32) -> String? {
        (try? kernelText("/proc/\(pid)/comm"))?.trimmingCharacters(
            in: .whitespacesAndNewlines)
    }

    static func measure(_ pid: Int32) throws -> (descriptors: Int, kilobytes: Int) {
        let status = try kernelText("/proc/\(pid)/status")
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") } ?? ""
        return (
            try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").count,
            Int(line.filter(\.isNumber)) ?? 0
        )
    }

    // MARK: Logs

    @Test(arguments: backends) func logsAreExactAndCanBeCut(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let x = "logs-\(backend)"
            let script = """
                import os,sys,time
                os.write(1, b'x' * (10 << 20) + b'\\n')
                os.write(1, bytes(range(128, 256)) + b'\\n')
                os.write(2, b'to stderr\\n')
                time.sleep(0.3)
                for i in range(5): os.write(1, b'line %d\\n' % i)
                """
            try await f.succeed("run", "-d", "--name", x, "--isolation", backend, "--", "python3", "-c", script)
            let followed = try await f.succeed("logs", "--follow", "--tail", "2", x)
            #expect(followed.out.hasSuffix("line 3\nline 4\n"), "\(followed)")
            let all = try await f.succeed("logs", x)
            let lines = (0..<5).map { "line \($0)\n" }.joined()
            #expect(
                all.stdout == Array(repeating: 120, count: 10 << 20) + [10] + (128...255).map { UInt8($0) } + [10]
                    + Array(lines.utf8))
            #expect(all.err.contains("to stderr\n"))
            #expect(try await f.succeed("logs", "--tail", "3", x).out == "line 2\nline 3\nline 4\n")
            #expect(try await f.succeed("logs", "--since", "1h", "--tail", "1", x).out == "line 4\n")
            #expect(try await f.succeed("logs", "--since", "2100-01-01T00:00:00Z", x).out.isEmpty)
            try await f.succeed("instance", "delete", x)
        }
    }

    @Test func aFloodIsBoundedInMemoryAndOnDisk() async throws {
        let config = """
            apiVersion: 100monkeys.ai/v1
            kind: NodeConfig
            metadata: { name: flood }
            spec: { instances: { log_limit: 2Mi } }
            """
        try await DaemonFixture.with(config: config) { f in
            let daemon = try #require(f.daemonPid)
            let id = try await f.succeed(
                "run", "-d", "--isolation", "runc", "--", "sh", "-c", "yes 0123456789 | head -c 60000000; sleep 1000"
            ).out
                .trimmingCharacters(in: .whitespacesAndNewlines)
            // A reader of the log that never reads, and a client of a process that never reads.
            let follower = try StalledCommand(f, ["logs", "--follow", id])
            let stalled = try StalledCommand(f, ["exec", id, "--", "yes"])
            try await f.eventually("the flood is over") {
                try await f.aegis("exec", id, "--", "sh", "-c", "ls /proc/*/exe -l | grep -c bin/head").out == "0\n"
            }
            let memory = try ExecTests.measure(daemon).kilobytes
            #expect(memory < 80 << 10, "the daemon has \(memory) KiB")
            let log = try await f.run("/usr/bin/du", ["-sb", "\(f.home)/logs/\(id)"])
            let size = Int(log.out.split(separator: "\t").first ?? "") ?? .max
            #expect(size < 3 << 20, "\(size) bytes of log")
            follower.end()
            stalled.end()
            try await f.eventually("the process of the killed client ends") {
                try await f.aegis("exec", id, "--", "sh", "-c", "ls /proc/*/exe -l | grep -c bin/yes").out == "0\n"
            }
        }
    }
}

/// A CLI whose output nobody reads.
final class StalledCommand: Sendable {
    private let child: ChildProcess

    init(_ f: DaemonFixture, _ arguments: [String]) throws {
        child = try ChildProcess.spawn(
            ProcessSpec(
                executable: DaemonFixture.cli, arguments: [DaemonFixture.cli] + arguments, environment: f.environment,
                stdin: .null, stdout: .pipe, stderr: .null), on: f.loop)
    }

    func end() { _ = child.signal(9) }
}
