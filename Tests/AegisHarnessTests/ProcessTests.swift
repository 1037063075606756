import AegisChannel
import Glibc
import Testing

/// Everything that a harness does with processes, against a real one on the host.
@Suite struct ProcessTests {
    @Test func outputAndExitCodeArrive() throws {
        let harness = try HostHarness()
        try harness.client.start(1, ["sh", "-c", "echo out; echo err >&2; exit 7"])
        let process = try harness.client.finish(1)
        #expect(process.out == "out\n")
        #expect(process.err == "err\n")
        #expect(process.exited == ProcessExited(code: 7, signal: 0, stdoutBytes: 4, stderrBytes: 4))
        #expect(process.stdoutEnded && process.stderrEnded)
        #expect((process.started?.pid ?? 0) > 1)
    }

    @Test func binaryBytesPassUnchangedBothWays() throws {
        let harness = try HostHarness()
        var bytes: [UInt8] = []
        for i in 0..<1_100_000 { bytes.append(UInt8(truncatingIfNeeded: i &* 2_654_435_761 >> 7)) }
        try harness.client.start(1, ["cat"], stdin: true)
        try harness.client.input(1, bytes, end: true)
        let process = try harness.client.finish(1)
        #expect(process.stdout == bytes)
        #expect(process.stdinAcknowledged == UInt64(bytes.count))
        #expect(process.exited?.code == 0)
    }

    @Test func aLineOfTenMegabytesArrivesWhole() throws {
        let harness = try HostHarness()
        try harness.client.start(1, ["head", "-c", "10000000", "/dev/zero"])
        let process = try harness.client.finish(1)
        #expect(process.stdout.count == 10_000_000)
        #expect(process.stdout.allSatisfy { $0 == 0 })
    }

    @Test func aGrandchildThatHoldsThePipeDelaysNothing() throws {
        // In a pid namespace, which takes the grandchild with it.
        let harness = try HostHarness(asInit: true)
        try harness.client.start(1, ["sh", "-c", "sleep 300 & echo $!; exit 3"])
        let process = try harness.client.finish(1, seconds: 5)
        #expect(process.exited?.code == 3)
        #expect(process.out.hasSuffix("\n"))
    }

    @Test func outputBeyondTheWindowOutlivesItsProcess() throws {
        let harness = try HostHarness()
        // 256 KiB of window and 64 KiB of pipe: the process ends although nobody acknowledges anything.
        try harness.client.start(1, ["head", "-c", "320000", "/dev/urandom"])
        harness.client.processes[1]?.acknowledges = false
        try harness.client.wait("a full window") { $0.processes[1]?.stdout.count == Int(Channel.window) }
        #expect(harness.client.processes[1]?.exited == nil)
        try harness.client.acknowledge(1, 1, Channel.window)
        let process = try harness.client.finish(1)
        #expect(process.stdout.count == 320_000)
        #expect(process.exited?.stdoutBytes == 320_000)
    }

    @Test func aHundredProcessesAtOnce() throws {
        let harness = try HostHarness()
        for number in 1...100 as ClosedRange<UInt16> {
            try harness.client.start(
                number, ["sh", "-c", "read line; echo \(number) $line; exit \(number)"], stdin: true)
        }
        try harness.client.wait("all run") { $0.processes.values.allSatisfy { $0.started != nil } }
        for number in 1...100 as ClosedRange<UInt16> { try harness.client.input(number, Array("x\n".utf8)) }
        for number in 1...100 as ClosedRange<UInt16> {
            let process = try harness.client.finish(number)
            #expect(process.out == "\(number) x\n")
            #expect(process.exited?.code == UInt32(number))
        }
    }

    @Test func numbersAreFreeAgainAfterTheEnd() throws {
        let harness = try HostHarness()
        for round in 1...300 as ClosedRange<UInt32> {
            try harness.client.start(9, ["sh", "-c", "exit \(round % 200)"])
            #expect(try harness.client.finish(9).exited?.code == round % 200)
        }
    }

    @Test func moreProcessesThanAllowedAreRefused() throws {
        let harness = try HostHarness()
        for number in 1...257 as ClosedRange<UInt16> { try harness.client.start(number, ["sleep", "300"]) }
        let refused = try harness.client.finish(257)
        #expect(refused.failed?.reason == .limit)
        #expect(harness.client.processes.values.filter { $0.failed != nil }.count == 1)
        try harness.client.start(1, ["true"])
        #expect(try harness.client.finish(1).failed?.reason == .limit)
        try harness.client.send(.shutdown, Shutdown(grace: 5000).encoded())
        #expect(try harness.wait() == 0)
    }

    @Test(arguments: [
        (["no-such-program"], StartFailure.notFound, "no-such-program: no such program in PATH"),
        (["/no/such/program"], .notFound, "/no/such/program: No such file or directory"),
        (["/etc/passwd"], .notExecutable, "/etc/passwd: Permission denied"),
        (["/usr"], .notExecutable, "/usr: is a folder"),
    ])
    func programsThatCannotRun(arguments: [String], reason: StartFailure, text: String) throws {
        let harness = try HostHarness()
        try harness.client.start(1, arguments)
        let failed = try #require(try harness.client.finish(1).failed)
        #expect(failed.reason == reason)
        #expect(String(decoding: failed.text, as: UTF8.self) == text)
        // The harness is as alive as before.
        try harness.client.start(1, ["true"])
        #expect(try harness.client.finish(1).exited?.code == 0)
    }

    @Test func scriptsWithoutInterpreterAndForeignFilesAreToldApart() throws {
        let scratch = try Scratch()
        try scratch.writeProgram("aegis-script", Array("#!/no/such/interpreter\n".utf8))
        try scratch.writeProgram("nonsense", [1, 2, 3, 4])
        try scratch.write("plain", Array("#!/bin/sh\n".utf8), mode: 0o644)
        let harness = try HostHarness()
        let environment = ["PATH=\(scratch.path):/usr/bin:/bin"]
        try harness.client.start(1, ["aegis-script"], environment: environment)
        try harness.client.start(2, ["nonsense"], environment: environment)
        try harness.client.start(3, ["plain"], environment: environment)
        try harness.client.start(4, ["\(scratch.path)/aegis-script"])
        let script = try harness.client.finish(1).failed
        #expect(script?.reason == .notFound)
        #expect(
            script.map { String(decoding: $0.text, as: UTF8.self) } == "aegis-script: its interpreter does not exist")
        #expect(try harness.client.finish(2).failed?.reason == .notExecutable)
        #expect(try harness.client.finish(2).failed?.errno == UInt32(ENOEXEC))
        #expect(try harness.client.finish(3).failed?.reason == .notExecutable)
        #expect(try harness.client.finish(4).failed?.reason == .notFound)
    }

    @Test func theSearchUsesThePathOfTheProcess() throws {
        let scratch = try Scratch()
        try scratch.writeProgram("hidden", Array("#!/bin/sh\necho found\n".utf8))
        let harness = try HostHarness(environment: ["PATH=/usr/bin:/bin"])
        try harness.client.start(1, ["hidden"], environment: ["PATH=/nowhere:\(scratch.path)"])
        #expect(try harness.client.finish(1).out == "found\n")
        try harness.client.start(2, ["hidden"])
        #expect(try harness.client.finish(2).failed?.reason == .notFound)
        // No PATH at all: the usual places.
        try harness.client.start(3, ["true"], environment: [])
        #expect(try harness.client.finish(3).exited?.code == 0)
    }

    @Test func theEnvironmentIsExactlyWhatWasAskedFor() throws {
        let harness = try HostHarness(environment: ["LEAK=1", "PATH=/usr/bin"])
        try harness.client.start(1, ["env"], environment: ["PATH=/usr/bin:/bin", "A=ä b", "HOME=/x"])
        #expect(try harness.client.finish(1).out == "PATH=/usr/bin:/bin\nA=ä b\nHOME=/x\n")
        try harness.client.start(2, ["env"], environment: ["PATH=/bin"])
        #expect(try harness.client.finish(2).out == "PATH=/bin\nHOME=/root\n")
    }

    @Test func theWorkingDirectoryIsEnteredOrMadeOrRefused() throws {
        let scratch = try Scratch()
        let harness = try HostHarness()
        try harness.client.start(1, ["pwd"], directory: scratch.path)
        #expect(try harness.client.finish(1).out == scratch.path + "\n")
        let missing = scratch.path + "/a/b"
        unsafe chmod(scratch.path, 0o755)
        try harness.client.start(2, ["pwd"], directory: missing)
        #expect(try harness.client.finish(2).failed?.reason == .badDirectory)
        try harness.client.start(
            3, ["sh", "-c", "pwd; stat -c %u ."], directory: missing, user: "1234", createDirectory: true)
        #expect(try harness.client.finish(3).out == "\(missing)\n1234\n")
        try harness.client.start(4, ["pwd"], directory: "relative")
        #expect(try harness.client.finish(4).failed?.reason == .badDirectory)
    }

    @Test func usersComeFromTheFilesInside() throws {
        let harness = try HostHarness()
        try harness.client.start(1, ["sh", "-c", "id -u; id -g; id -G; echo $HOME"], user: "daemon")
        let daemon = try harness.client.finish(1).out.split(separator: "\n")
        #expect(daemon.first == "1" && daemon.last == "/usr/sbin")
        try harness.client.start(2, ["sh", "-c", "id -u; id -g; id -G; echo $HOME"], user: "54321:777")
        #expect(try harness.client.finish(2).out == "54321\n777\n777\n/\n")
        try harness.client.start(3, ["true"], user: "nobody-of-that-name")
        #expect(try harness.client.finish(3).failed?.reason == .unknownUser)
        // Capabilities stay with root.
        try harness.client.start(4, ["grep", "CapEff", "/proc/self/status"], user: "1000")
        #expect(try harness.client.finish(4).out.contains("0000000000000000"))
    }

    @Test func childrenStartWithDefaultSignalsAndNoCores() throws {
        let harness = try HostHarness()
        try harness.client.start(
            1, ["sh", "-c", "grep -E 'Sig(Blk|Ign)' /proc/self/status; ulimit -c; ls /proc/self/fd"])
        let lines = try harness.client.finish(1).out.split(separator: "\n").map(String.init)
        #expect(lines.first?.hasSuffix("0000000000000000") == true)
        #expect(lines.dropFirst().first?.hasSuffix("0000000000000000") == true)
        // The shell's three and the one by which `ls` reads the folder.
        #expect(lines.dropFirst(2) == ["0", "0", "1", "2", "3"])
    }

    @Test func signalsReachProcessesAndGroups() throws {
        let harness = try HostHarness(asInit: true)
        try harness.client.start(1, ["sleep", "300"])
        try harness.client.start(2, ["sh", "-c", "trap 'exit 5' TERM; sleep 300 & echo ready; wait"])
        try harness.client.wait("ready") { $0.processes[1]?.started != nil && $0.processes[2]?.out == "ready\n" }
        try harness.client.signal(1, SIGKILL)
        #expect(
            try harness.client.finish(1).exited == ProcessExited(code: 137, signal: 9, stdoutBytes: 0, stderrBytes: 0))
        try harness.client.signal(2, SIGTERM, group: true)
        #expect(try harness.client.finish(2).exited?.code == 5)
        // One that is gone is nobody's signal.
        try harness.client.signal(1, SIGKILL)
        try harness.client.send(.health, [1, 2, 3])
        try harness.client.wait("health") { $0.healthy == [[1, 2, 3]] }
    }

    @Test func stdinIsNullWithoutRequestAndDiscardedWithoutReader() throws {
        let harness = try HostHarness(asInit: true)
        try harness.client.start(1, ["cat"])
        #expect(try harness.client.finish(1).exited?.code == 0)
        try harness.client.start(2, ["sh", "-c", "exec <&-; echo closed; read x < /dev/tty; sleep 300"], stdin: true)
        try harness.client.wait("closed") { $0.processes[2]?.out == "closed\n" }
        // Four windows: they could not all be sent if what nobody reads were not acknowledged.
        try harness.client.input(2, [UInt8](repeating: 0x41, count: 4 * Int(Channel.window)))
        try harness.client.wait("all acknowledged") { $0.processes[2]?.stdinAcknowledged == 4 * Channel.window }
        try harness.client.signal(2, SIGKILL, group: true)
        _ = try harness.client.finish(2)
    }

    @Test func aStalledStreamStallsNobodyElse() throws {
        let harness = try HostHarness(asInit: true)
        try harness.client.start(1, ["sh", "-c", "cat /dev/zero & cat /dev/zero >&2"])
        harness.client.processes[1]?.acknowledges = false
        try harness.client.wait("both windows full") {
            $0.processes[1]?.stdout.count == Int(Channel.window) && $0.processes[1]?.stderr.count == Int(Channel.window)
        }
        try harness.client.start(2, ["head", "-c", "3000000", "/dev/zero"])
        #expect(try harness.client.finish(2).stdout.count == 3_000_000)
        try harness.client.start(3, ["cat"], stdin: true)
        try harness.client.input(3, [UInt8](repeating: 7, count: 600_000), end: true)
        #expect(try harness.client.finish(3).stdout.count == 600_000)
        #expect(harness.client.processes[1]?.stdout.count == Int(Channel.window))
        try harness.client.signal(1, SIGKILL, group: true)
    }

    @Test func malformedRequestsAreRefusedAndMalformedFramesEndTheHarness() throws {
        let harness = try HostHarness()
        harness.client.processes[1] = Collected()
        try harness.client.send(.start, stream: 1, [9, 9, 9])
        #expect(try harness.client.finish(1).failed?.reason == .other)
        try harness.client.start(2, ["echo", "a\0b"])
        #expect(try harness.client.finish(2).failed?.reason == .other)
        try harness.client.sendRaw([250, 0, 0, 0, 0, 0, 0, 0])
        #expect(try harness.wait() == 2)
    }
}
