import AegisIO
import AegisTestSupport
import LinuxSys
import Testing

private func shell(_ script: String) -> ProcessSpec {
    ProcessSpec(executable: "/bin/sh", arguments: ["sh", "-c", script], environment: ["PATH=/usr/bin:/bin"])
}

@Suite struct ChildProcessTests {
    @Test(arguments: [(0, "exit 0"), (7, "exit 7"), (255, "exit 255")] as [(Int32, String)])
    func exitCodeIsReported(_ code: Int32, _ script: String) async throws {
        try await onLoop { loop in
            let child = try ChildProcess.spawn(shell(script), on: loop)
            #expect(try await child.wait() == .exited(code))
            #expect(child.exitStatus == .exited(code) && child.signal(15) == false && child.signalGroup(15) == false)
        }
    }

    @Test func endBySignalIsReported() async throws {
        try await onLoop { loop in
            let child = try ChildProcess.spawn(shell("kill -USR1 $$; sleep 100"), on: loop)
            let status = try await child.wait()
            #expect(status == .signalled(10) && status.shellCode == 138)
        }
    }

    @Test(arguments: [("/no/such/program", Errno.noSuchFile), ("/etc/passwd", .accessDenied), ("/etc", .accessDenied)])
    func failedExecSaysWhy(_ path: String, _ errno: Errno) async throws {
        try await onLoop { loop in
            let error = #expect(throws: IOError.self) {
                try ChildProcess.spawn(ProcessSpec(executable: path, arguments: [path]), on: loop)
            }
            #expect(error?.errno == errno && error?.message.contains(path) == true)
        }
    }

    @Test func failedStepsAreNamed() async throws {
        try await onLoop { loop in
            var spec = shell("exit 0")
            spec.workingDirectory = "/no/such/directory"
            let directory = #expect(throws: IOError.self) { try ChildProcess.spawn(spec, on: loop) }
            #expect(directory?.message.contains("working directory") == true && directory?.errno == .noSuchFile)
            spec = shell("exit 0")
            spec.extraDescriptors = [(5, 9999)]
            let descriptor = #expect(throws: IOError.self) { try ChildProcess.spawn(spec, on: loop) }
            #expect(descriptor?.message.contains("descriptor") == true && descriptor?.errno == .badDescriptor)
            spec = shell("exit 0")
            spec.cgroups = ["/no/such/cgroup.procs"]
            let cgroup = #expect(throws: IOError.self) { try ChildProcess.spawn(spec, on: loop) }
            #expect(cgroup?.message.contains("cgroup") == true && cgroup?.errno == .noSuchFile)
        }
    }

    @Test func inputAndOutputGoThroughPipes() async throws {
        try await onLoop { loop in
            let input = pattern(500_000)
            let output = try await runProcess(
                ProcessSpec(executable: "/bin/cat", arguments: ["cat"]), input: input, on: loop)
            #expect(output.status.isSuccess && output.stdout == input && output.stderr == [])
            let both = try await runProcess(shell("echo out; echo err >&2; exit 3"), on: loop)
            #expect(both.status == .exited(3) && String(bytes: both.stdout) == "out\n")
            #expect(String(bytes: both.stderr) == "err\n")
        }
    }

    @Test func nothingIsInheritedThatIsNotNamed() async throws {
        // An inheritable descriptor and an ignored SIGPIPE in this process.
        let leak = try FileDescriptor.open("/dev/null")
        try leak.setCloseOnExec(false)
        try await onLoop { loop in
            let script = "ls /proc/self/fd | tr '\\n' ' '; grep -E '^Sig(Blk|Ign)' /proc/self/status; env"
            let output = try await runProcess(shell(script), on: loop)
            let text = String(bytes: output.stdout)
            // 3 is the directory that ls itself has open.
            #expect(text.hasPrefix("0 1 2 3 "), "\(text)")
            #expect(text.contains("SigBlk:\t0000000000000000"))
            #expect(text.contains("SigIgn:\t0000000000000000"), "\(text)")
            #expect(text.contains("PATH=/usr/bin:/bin") && !text.contains("HOME="))
        }
        _ = consume leak
    }

    /// Sources and targets that cross each other must not overwrite one another.
    @Test func extraDescriptorsArriveUnderTheirNumbers() async throws {
        try await onLoop { loop in
            let directory = try TemporaryDirectory()
            try Files.writeAtomically(directory.path("a"), Array("A".utf8))
            try Files.writeAtomically(directory.path("b"), Array("B".utf8))
            let a = try FileDescriptor.open(directory.path("a"))
            let b = try FileDescriptor.open(directory.path("b"))
            var spec = shell("")
            // Each file under the other's number, and one more that nothing else had.
            spec.extraDescriptors = [(a.raw, b.raw), (b.raw, a.raw), (200, b.raw)]
            let (first, second) = (a.raw, b.raw)
            spec.arguments = [
                "bash", "-c", "readlink /proc/$$/fd/\(first) /proc/$$/fd/\(second) /proc/$$/fd/200",
            ]
            spec.executable = "/bin/bash"
            let output = try await runProcess(spec, on: loop)
            let names = String(bytes: output.stdout).split(separator: "\n").map { $0.suffix(2) }
            #expect(names == ["/b", "/a", "/b"])
            _ = consume a
            _ = consume b
        }
    }

    @Test func sessionDirectoryUserMaskAndLimits() async throws {
        try #require(CurrentProcess.effectiveUser == 0, "runs as root")
        try await onLoop { loop in
            var spec = shell(
                "ps -o sid= -p $$; echo $$; pwd; id -u; id -g; id -G; umask; ulimit -n; grep NoNewPrivs /proc/$$/status"
            )
            spec.newSession = true
            let usr = try FileDescriptor.open("/usr", [.pathOnly, .directory])
            spec.workingDirectoryDescriptor = usr.raw
            spec.workingDirectory = "lib"
            spec.user = UserIdentity(user: 1234, group: 2345, groups: [3456])
            spec.fileMask = 0o077
            spec.limits = [ResourceLimit(.openFiles, 77)]
            spec.noNewPrivileges = true
            spec.outOfMemoryScore = 500
            let output = try await runProcess(spec, on: loop)
            let lines = String(bytes: output.stdout).split(separator: "\n").map { $0.filter { $0 != " " } }
            try #require(lines.count == 9, "\(lines) \(String(bytes: output.stderr))")
            #expect(lines[0] == lines[1])
            #expect(lines[2...7] == ["/usr/lib", "1234", "2345", "23453456", "0077", "77"])
            #expect(lines[8] == "NoNewPrivs:\t1")
            _ = consume usr
        }
    }

    @Test func childEntersANamespace() async throws {
        try #require(CurrentProcess.effectiveUser == 0, "runs as root")
        try await onLoop { loop in
            // A process in a network namespace of its own lends it.
            var holder = ProcessSpec(
                executable: "/usr/bin/unshare", arguments: ["unshare", "-n", "sh", "-c", "echo; cat"])
            holder.environment = ["PATH=/usr/bin:/bin"]
            holder.stdin = .pipe
            holder.stdout = .pipe
            let host = try ChildProcess.spawn(holder, on: loop)
            var ready = ByteBuffer()
            _ = try await host.stdout?.read(into: &ready)
            let namespace = try FileDescriptor.open("/proc/\(host.pid)/ns/net")
            var spec = shell("readlink /proc/self/ns/net")
            spec.namespaces = [namespace.raw]
            let inside = try await runProcess(spec, on: loop)
            #expect(String(bytes: inside.stdout).hasPrefix(try Files.readLink("/proc/\(host.pid)/ns/net")))
            #expect(try Files.readLink("/proc/\(host.pid)/ns/net") != Files.readLink("/proc/self/ns/net"))
            _ = consume namespace
            await host.teardown([.closeInput(allow: .seconds(5))])
        }
    }

    @Test func childEntersACgroup() async throws {
        try await onLoop { loop in
            // Any file takes the "0" that the child writes; the kernel's own are tested with the backends.
            let directory = try TemporaryDirectory()
            try Files.writeAtomically(directory.path("cgroup.procs"), [])
            var spec = shell("exit 0")
            spec.cgroups = [directory.path("cgroup.procs")]
            #expect(try await runProcess(spec, on: loop).status.isSuccess)
            #expect(try Files.read(directory.path("cgroup.procs"), limit: 10) == Array("0".utf8))
        }
    }

    @Test func thousandSpawnsLeaveNothingBehind() async {
        // In a process of its own, where every descriptor is ours.
        await #expect(processExitsWith: .success) {
            try await onLoop { loop in
                func spawn(_ count: Int) async throws {
                    for _ in 0..<count {
                        var spec = ProcessSpec(executable: "/bin/true", arguments: ["true"], stdout: .pipe)
                        if count % 2 == 0 { spec.executable = "/no/such/program" }
                        guard let child = try? ChildProcess.spawn(spec, on: loop) else { continue }
                        guard try await child.wait() == .exited(0) else { throw IOError.closed }
                    }
                }
                try await spawn(1)
                let before = try CurrentProcess.openDescriptorCount()
                try await spawn(999)
                try await spawn(100)
                // What the last ones held is closed by the loop, which may be late; so may it have been for the first one.
                var after = try CurrentProcess.openDescriptorCount()
                for _ in 0..<10_000 where after > before {
                    try await loop.clock.sleep(for: .milliseconds(1))
                    after = try CurrentProcess.openDescriptorCount()
                }
                precondition(after <= before, "\(before) then \(after)")
            }
        }
    }

    @Test func droppedChildIsReaped() async throws {
        try await onLoop { loop in
            let pid = try ChildProcess.spawn(shell("exit 0"), on: loop).pid
            // It is reaped when the loop says so, and then has no place in /proc any more.
            while Files.exists("/proc/\(pid)") { await Task.yield() }
        }
    }

    @Test func cancelledWaitLeavesTheProcessAlone() async throws {
        try await onLoop { loop in
            let child = try ChildProcess.spawn(shell("exec sleep 1000"), on: loop)
            for settleFirst in [true, false] {
                let waiting = Task(executorPreference: loop) { try await child.wait() }
                if settleFirst { await settle() }
                waiting.cancel()
                #expect(await kind { try await waiting.value } == .cancelled)
            }
            #expect(child.exitStatus == nil)
            async let one = child.wait()
            async let two = child.wait()
            #expect(await child.teardown([]) == .signalled(9))
            #expect(try await [one, two] == [.signalled(9), .signalled(9)])
        }
    }

    @Test func teardownGoesFromMildToHard() async throws {
        try await onLoop { loop in
            let polite = try ChildProcess.spawn(
                shell("trap 'exit 5' TERM; echo; while :; do sleep 0.01; done"), on: loop)
            keep(polite)
            var spec = shell("trap '' TERM; echo; while :; do sleep 0.01; done")
            spec.stdout = .pipe
            let stubborn = try ChildProcess.spawn(spec, on: loop)
            var ready = ByteBuffer()
            _ = try await stubborn.stdout?.read(into: &ready)
            #expect(await stubborn.teardown([.signal(15, allow: .milliseconds(20))]) == .signalled(9))
            #expect(await polite.teardown([.signal(9, allow: .seconds(5))]) == .signalled(9))
            spec = shell("cat >/dev/null; exit 4")
            spec.stdin = .pipe
            let reader = try ChildProcess.spawn(spec, on: loop)
            #expect(await reader.teardown([.closeInput(allow: .seconds(20))]) == .exited(4))
        }
    }

    @Test func teardownWorksInACancelledTask() async throws {
        try await onLoop { loop in
            let child = try ChildProcess.spawn(shell("trap 'exit 6' TERM; while :; do sleep 0.01; done"), on: loop)
            let task = Task(executorPreference: loop) {
                await settle()
                return await child.teardown([.signal(9, allow: .seconds(20))])
            }
            task.cancel()
            #expect(await task.value == .signalled(9))
        }
    }

    @Test func groupSignalReachesGrandchildren() async throws {
        try await onLoop { loop in
            var spec = shell("sleep 1000 & echo $!; wait")
            spec.newSession = true
            spec.stdout = .pipe
            let child = try ChildProcess.spawn(spec, on: loop)
            var buffer = ByteBuffer()
            _ = try await child.stdout?.read(into: &buffer)
            let grandchild = try #require(Int32(String(bytes: buffer.takeAll()).filter(\.isNumber)))
            let watched = try FileStream(ProcessHandle(pid: grandchild).descriptor.duplicate(), on: loop)
            #expect(child.signalGroup(9))
            _ = try await child.wait()
            #expect(await watched.isEnded())
        }
    }

    @Test func deadlineAndLimitEndTheProgram() async throws {
        try await onLoop { loop in
            let late = await kind {
                try await runProcess(shell("exec sleep 1000"), deadline: .milliseconds(20), on: loop)
            }
            #expect(late == .timeout)
            let loud = await #expect(throws: IOError.self) {
                try await runProcess(shell("cat /dev/zero"), outputLimit: 100_000, on: loop)
            }
            #expect(loud?.errno == .fileTooLarge)
        }
    }

    @Test func grandchildWithTheOutputIsNotWaitedFor() async throws {
        try await onLoop { loop in
            var spec = shell("sleep 1000 & echo $!")
            spec.newSession = true
            let output = try await runProcess(spec, deadline: .seconds(120), on: loop)
            let grandchild = try #require(Int32(String(bytes: output.stdout).filter(\.isNumber)))
            // It lives on, as nobody has asked for its end.
            let process = try ProcessHandle(pid: grandchild)
            try process.signal(9)
            #expect(output.status.isSuccess)
        }
    }

    @Test func spawnsInTheBackgroundWithDeathSignal() async throws {
        try await onLoop { loop in
            var spec = shell("exit 9")
            spec.parentDeathSignal = 9
            for child in [
                try await ChildProcess.spawnInBackground(spec, on: loop), try ChildProcess.spawn(spec, on: loop),
            ] { #expect(try await child.wait() == .exited(9)) }
        }
    }

    @Test(arguments: [0, 1, -1, -12345] as [Int32])
    func dangerousProcessNumbersAreRefused(_ pid: Int32) {
        #expect(throws: Errno.invalidArgument) { try ProcessHandle(pid: pid).signal(0) }
        #expect(throws: Errno.invalidArgument) { try signalProcessGroup(pid, 0) }
    }
}
