import AegisChannel
import CHarness
import Glibc
import Testing

/// A keeper with real sandboxes.
@Suite struct KeeperTests {
    @Test(arguments: Runtime.allCases) func aSandboxComesUpWorksAndEnds(runtime: Runtime) throws {
        let keeper = try KeeperFixture(runtime)
        let booted = try keeper.boot()
        #expect(booted.sandboxPid > 1 && booted.namespacePid > 1 && booted.steps.count == 4)
        let client = keeper.client
        try client.start(1, ["sh", "-c", "cat; echo err >&2; id -u; exit 42"], kind: .task, stdin: true)
        try client.input(1, Array("in\n".utf8), end: true)
        let process = try client.finish(1)
        #expect(process.out == "in\n0\n")
        #expect(process.err == "err\n")
        #expect(process.exited?.code == 42)
        try client.send(.forget, stream: 1)
        try client.send(.shutdown, Shutdown(grace: 1000).encoded())
        try client.wait("ended") { $0.ended != nil }
        #expect(client.ended == SandboxEnded(code: 0, signal: 0, requested: true))
        // Its namespaces, processes and mounts are gone; only the keeper is there.
        #expect(ah_process_descriptor(Int32(booted.namespacePid)) == -Int(ESRCH))
        #expect(ah_process_descriptor(Int32(booted.sandboxPid)) == -Int(ESRCH))
        let mounts = String(decoding: try contents("/proc/\(keeper.pid)/mounts"), as: UTF8.self)
        #expect(!mounts.contains(keeper.scratch.path))
        try client.send(.release)
        #expect(try keeper.waitForKeeper() == 0)
    }

    @Test(arguments: Runtime.allCases) func whatTheSandboxSees(runtime: Runtime) throws {
        let keeper = try KeeperFixture(runtime)
        let booted = try keeper.boot()
        let client = keeper.client
        let script = """
            cat /proc/1/comm; ls -ln / | grep ' bin$' | awk '{print $3, $4}'; touch /made && ls -n /made | awk '{print $3}'
            echo x > /.aegis/harness; ip link | grep -c mtu; ip addr show lo | grep -c 'inet 127.0.0.1'; grep NoNewPrivs /proc/self/status
            """
        try client.start(1, ["sh", "-c", script])
        let lines = try client.finish(1).out.split(separator: "\n")
        #expect(lines.dropFirst().prefix(2) == ["0 0", "0"])
        #expect(lines.contains { $0.hasPrefix("1") })
        // What it makes belongs to its own id range on the host.
        var info = stat()
        #expect(unsafe lstat(keeper.scratch.path + "/upper/made", &info) == 0)
        #expect(info.st_uid >= 1_000_000)
        // The harness cannot be written, whoever one is inside.
        #expect(client.processes[1]?.err.isEmpty == false)
        let group = keeper.cgroup + (runtime == .runc ? "/c" : "")
        let freezer = String(decoding: try contents("\(group)/cgroup.procs"), as: UTF8.self)
        #expect(freezer.split(separator: "\n").contains("\(booted.sandboxPid)"))
        try keeper.end()
    }

    /// Versions of the protocol: a newer daemon says more than this keeper and harness know, an older one is shown the door.
    @Test(arguments: Runtime.allCases) func daemonsOfOtherReleases(runtime: Runtime) throws {
        let keeper = try KeeperFixture(runtime)
        let more: [UInt8] = [0xde, 0xad, 0xbe, 0xef]
        var plan = keeper.plan()
        plan.version = Channel.version + 1
        try keeper.client.send(.boot, plan.encoded() + more)
        try keeper.client.wait("boot; log: \(keeper.log)", seconds: 40) { $0.booted != nil || $0.bootFailed != nil }
        #expect(keeper.client.booted != nil && keeper.client.hello?.version == Channel.version)
        let start = StartProcess(
            kind: .task, arguments: ["sh", "-c", "cat; exec sleep 600"].map { Array($0.utf8) },
            environment: [Array("PATH=/bin".utf8)], directory: Array("/".utf8), stdin: true)
        keeper.client.processes[1] = Collected()
        try keeper.client.send(.start, stream: 1, start.encoded() + more)
        try keeper.client.input(1, Array("word".utf8), end: true)
        try keeper.client.wait("echo") { $0.processes[1]?.out == "word" }
        // One from before the first release learns nothing, and what runs goes on.
        let older = try keeper.connect()
        try older.send(.attach, Attach(version: Channel.oldestVersion - 1).encoded())
        #expect(try older.next() == nil)
        #expect(keeper.log.contains("a protocol version unknown here"))
        // Not even the connection of the daemon that is there.
        try keeper.client.send(.health, [1])
        try keeper.client.wait("health") { $0.healthy == [[1]] }
        let newer = try keeper.connect()
        try newer.send(.attach, Attach(version: Channel.version + 1).encoded() + more)
        try newer.wait("state") { $0.state != nil }
        #expect(newer.state?.version == Channel.version && newer.state?.processes.map(\.number) == [1])
        newer.processes[1] = Collected()
        newer.processes[1]?.stdoutOffset = 4
        newer.processes[1]?.inputEnded = true
        try newer.send(.signal, stream: 1, ProcessSignal(number: 9).encoded() + more)
        #expect(try newer.finish(1).exited?.code == 137)
        try newer.send(.forget, stream: 1, more)
        try newer.send(.shutdown, Shutdown(grace: 1000).encoded() + more)
        try newer.wait("ended") { $0.ended != nil }
        #expect(newer.ended == SandboxEnded(code: 0, signal: 0, requested: true))
        try newer.send(.release, more)
        #expect(try keeper.waitForKeeper() == 0)
    }

    @Test func aPlanOfTooOldADaemonIsRefusedWithTheReason() throws {
        let keeper = try KeeperFixture(.runc)
        try keeper.sendPlan { $0.version = Channel.oldestVersion - 1 }
        try keeper.client.wait("refusal") { $0.bootFailed != nil }
        let failure = try #require(keeper.client.bootFailed)
        #expect(failure.step == .plan && String(decoding: failure.text, as: UTF8.self).contains("protocol version"))
        keeper.client.close()
        #expect(try keeper.waitForKeeper() == 0)
    }

    @Test(arguments: Runtime.allCases) func aLostDaemonLosesAndDoublesNothing(runtime: Runtime) throws {
        let keeper = try KeeperFixture(runtime)
        try keeper.boot()
        let size = 1_100_000
        // Numbered lines: whatever is missing or doubled shows.
        try keeper.client.start(1, ["sh", "-c", "seq -w 0 99999; seq -w 100000 175000 >&2; exit 9"], kind: .task)
        keeper.client.processes[1]?.acknowledges = false
        var out: [UInt8] = []
        var err: [UInt8] = []
        var client = keeper.client
        var savedOut: UInt64 = 0
        var savedErr: UInt64 = 0
        var connections = 0
        while true {
            connections += 1
            // Each daemon takes a bit, saves some of that, and dies without a word.
            let goal = connections % 3 == 0 ? 90_001 : 33_333
            client.processes[1, default: Collected()].acknowledges = false
            client.processes[1]?.stdoutOffset = savedOut
            client.processes[1]?.stderrOffset = savedErr
            try client.wait("part \(connections)") { client in
                guard let process = client.processes[1] else { return false }
                return process.isOver || process.stdout.count + process.stderr.count >= goal
            }
            let process = try #require(client.processes[1])
            let keptOut = process.isOver ? process.stdout.count : process.stdout.count / 2
            let keptErr = process.isOver ? process.stderr.count : process.stderr.count * 2 / 3
            out += process.stdout[..<keptOut]
            err += process.stderr[..<keptErr]
            savedOut += UInt64(keptOut)
            savedErr += UInt64(keptErr)
            if let exited = process.exited {
                #expect(exited.code == 9)
                #expect(exited.stdoutBytes == savedOut && exited.stderrBytes == savedErr)
                break
            }
            if connections % 2 == 0 {
                // Saved and acknowledged; otherwise the next one says so.
                try client.acknowledge(1, 1, savedOut)
                try client.acknowledge(1, 2, savedErr)
            }
            client.close()
            client = try keeper.connect()
            client.processes[1] = Collected()
            client.processes[1]?.acknowledges = false
            try client.send(.attach, Attach().encoded())
            // The new daemon learns from where the keeper will send, and begins there.
            guard let frame = try client.next(), frame.type == .state else { throw TestFailure("no state") }
            let state = try KeeperState(decoding: frame.payload)
            #expect(state.phase == .running)
            let known = try #require(state.processes.first { $0.number == 1 })
            #expect(known.stdoutAcknowledged <= savedOut && known.stderrAcknowledged <= savedErr)
            out.removeLast(Int(savedOut - known.stdoutAcknowledged))
            err.removeLast(Int(savedErr - known.stderrAcknowledged))
            savedOut = known.stdoutAcknowledged
            savedErr = known.stderrAcknowledged
            #expect(connections < 500)
        }
        #expect(connections > 5)
        #expect(out.count + err.count >= size)
        let numbers = (0...99_999).map { String($0 + 100_000).dropFirst() }.joined(separator: "\n") + "\n"
        #expect(out.elementsEqual(numbers.utf8))
        #expect(err.elementsEqual(((100_000...175_000).map(String.init).joined(separator: "\n") + "\n").utf8))
        try keeper.end(client)
    }

    @Test(arguments: Runtime.allCases) func anExitWhileNobodyListensIsKept(runtime: Runtime) throws {
        let keeper = try KeeperFixture(runtime)
        let booted = try keeper.boot()
        try keeper.client.start(1, ["sh", "-c", "echo last words; exit 77"], kind: .task)
        try keeper.client.wait("started") { $0.processes[1]?.started != nil }
        keeper.client.close()
        // Also the sandbox itself ends, without any daemon.
        let pidfd = Int32(ah_process_descriptor(Int32(booted.sandboxPid)))
        defer { close(pidfd) }
        let between = try keeper.attach()
        between.processes[1] = Collected()
        try between.wait("exit") { $0.processes[1]?.exited != nil }
        try between.send(.shutdown, Shutdown(grace: 100).encoded())
        between.close()
        var entry = pollfd(fd: pidfd, events: Int16(POLLIN), revents: 0)
        #expect(unsafe poll(&entry, 1, 20_000) == 1)
        let client = try keeper.connect()
        client.processes[1] = Collected()
        client.processes[1]?.stdoutOffset = UInt64("last words\n".utf8.count)
        try client.send(.attach, Attach().encoded())
        try client.wait("ended") { $0.ended != nil }
        #expect(client.state?.processes.first?.stdoutAcknowledged == 11)
        #expect(client.processes[1]?.exited?.code == 77)
        #expect(client.ended?.requested == true)
        #expect(client.hello != nil && client.booted == booted)
        try client.send(.release)
        #expect(try keeper.waitForKeeper() == 0)
    }

    @Test(arguments: Runtime.allCases) func aSandboxKilledFromOutsideEndsWithItsSignal(runtime: Runtime) throws {
        let keeper = try KeeperFixture(runtime)
        let booted = try keeper.boot()
        try keeper.client.start(1, ["sh", "-c", "echo before; sleep 300"])
        try keeper.client.wait("output") { $0.processes[1]?.out == "before\n" }
        try #require(booted.sandboxPid > 1)
        kill(Int32(booted.sandboxPid), SIGKILL)
        try keeper.client.wait("ended") { $0.ended != nil }
        #expect(keeper.client.ended == SandboxEnded(code: 137, signal: 9, requested: false))
        #expect(keeper.client.processes[1]?.exited == nil)
        try keeper.client.send(.release)
        #expect(try keeper.waitForKeeper() == 0)
    }

    @Test(arguments: Runtime.allCases) func aFrozenSandboxIsKilledWhenItThaws(runtime: Runtime) throws {
        let keeper = try KeeperFixture(runtime)
        try keeper.boot()
        try keeper.client.start(1, ["sh", "-c", "echo up; sleep 300"])
        try keeper.client.wait("output") { $0.processes[1]?.out == "up\n" }
        // The one of the keeper's plan; runc's own lies beneath it.
        func freezer(_ state: String) throws {
            let file = unsafe open("\(keeper.cgroup)/freezer.state", O_WRONLY | O_CLOEXEC)
            defer { close(file) }
            let bytes = Array(state.utf8)
            #expect(unsafe write(file, bytes, bytes.count) == bytes.count)
        }
        try freezer("FROZEN")
        // A second connection kills while the first one is stopped up.
        let killer = try keeper.connect()
        try killer.send(.kill)
        #expect(throws: TestFailure.self) { try keeper.client.wait("too early", seconds: 0.3) { $0.ended != nil } }
        try freezer("THAWED")
        try keeper.client.wait("ended") { $0.ended != nil }
        #expect(keeper.client.ended?.requested == true)
        #expect(keeper.client.ended?.signal == 9)
        try keeper.client.send(.release)
        #expect(try keeper.waitForKeeper() == 0)
    }

    @Test(arguments: Runtime.allCases) func theNewestDaemonWins(runtime: Runtime) throws {
        let keeper = try KeeperFixture(runtime)
        try keeper.boot()
        try keeper.client.start(1, ["cat"], stdin: true)
        try keeper.client.input(1, Array("one\n".utf8))
        try keeper.client.wait("echo") { $0.processes[1]?.out == "one\n" }
        let second = try keeper.connect()
        second.processes[1] = Collected()
        second.processes[1]?.stdoutOffset = 4
        try second.send(.attach, Attach().encoded())
        try second.wait("state") { $0.state != nil }
        #expect(
            second.state?.processes == [
                ProcessState(number: 1, stdinTaken: 4, stdoutAcknowledged: 4, stderrAcknowledged: 0)
            ])
        #expect(throws: TestFailure.self) { try keeper.client.wait("the end") { _ in false } }
        #expect(keeper.client.isClosed)
        // Input goes on where the keeper has it; what is repeated is cut off.
        second.processes[1]?.inputSent = 2
        try second.input(1, Array("e\ntwo\n".utf8), end: true)
        let process = try second.finish(1)
        #expect(process.out == "two\n")
        #expect(process.exited?.code == 0)
        try keeper.end(second)
    }

    @Test(arguments: Runtime.allCases) func quirksOfTheKernelAreTold(runtime: Runtime) throws {
        // The real `ls`, with the libraries that it needs: it fails if and only if hello says so.
        let keeper = try KeeperFixture(runtime) { root in
            let script = """
                set -e; rm -f \(root)/bin/ls; mkdir \(root)/real
                for f in /bin/ls $(ldd /bin/ls | grep -o '/[^ ]*'); do mkdir -p \(root)$(dirname $f); cp -L $f \(root)$f; done
                mv \(root)/bin/ls \(root)/real/ls
                """
            guard run(["/bin/sh", "-c", script]) == 0 else { throw TestFailure("copying ls") }
        }
        try keeper.boot()
        let quirks = try #require(keeper.client.hello?.quirks)
        try keeper.client.start(1, ["/real/ls", "-la", "/etc"])
        let process = try keeper.client.finish(1)
        let works = process.exited?.code == 0 && process.out.contains("passwd")
        #expect(works == (quirks & Hello.refusesNoAutomount == 0), "\(process.err)")
        if runtime == .runc { #expect(works) }
        try keeper.end()
    }
}
