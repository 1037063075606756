import AegisChannel
import Glibc
import Testing

/// A child that waits to become the command of a sandbox that was kept ready.
@Suite struct SpareTests {
    private static let own = Channel.taskProcess

    /// Announces the command of a harness that is the first process of a namespace.
    private func announce(
        _ harness: HostHarness, in directory: String, stdin: Bool = false, program: String = "-",
        path: String = "/usr/bin:/bin"
    ) throws {
        try harness.client.start(
            Self.own, [program], kind: .spare, environment: ["PATH=\(path)"], directory: directory, stdin: stdin)
    }

    /// Has a harness make a spare, and waits until that waits.
    private func spare(
        _ harness: HostHarness, in directory: String, stdin: Bool = false, program: String = "-",
        path: String = "/usr/bin:/bin"
    ) throws {
        try announce(harness, in: directory, stdin: stdin, program: program, path: path)
        try eventually("a child waits in \(directory)") {
            guard let child = try children(harness).first else { return false }
            // futex
            return text("/proc/\(child)/syscall").hasPrefix("202 ") && link("/proc/\(child)/cwd") == directory
        }
    }

    /// Tells a harness that its sandbox waits for somebody from here on.
    private func keepReady(_ harness: HostHarness) throws {
        let before = harness.client.healthy.count
        try harness.client.send(.health, flags: Channel.keptReadyFlag, [0, 0, 0, 0, 0, 0, 0, 2])
        try harness.client.wait("health") { $0.healthy.count > before }
    }

    /// How many descriptors the harness of a namespace has open.
    private func descriptors(_ harness: HostHarness) throws -> Int {
        let inside = text("/proc/\(harness.pid)/task/\(harness.pid)/children").split(separator: " ")
        let own = try #require(inside.first)
        guard let folder = unsafe opendir("/proc/\(own)/fd") else { throw TestFailure("opendir: errno \(errno)") }
        defer { unsafe closedir(folder) }
        var count = 0
        while unsafe readdir(folder) != nil { count += 1 }
        return count
    }

    /// Waits until the harness has taken everything that it was sent.
    private func settle(_ harness: HostHarness) throws {
        let before = harness.client.healthy.count
        try harness.client.send(.health, [0, 0, 0, 0, 0, 0, 0, 1])
        try harness.client.wait("health") { $0.healthy.count > before }
    }

    /// The children of the harness of a namespace, as who is outside sees them.
    private func children(_ harness: HostHarness) throws -> [pid_t] {
        func below(_ pid: pid_t) -> [pid_t] {
            text("/proc/\(pid)/task/\(pid)/children").split(separator: " ").compactMap { pid_t($0) }
        }
        return below(harness.pid).flatMap(below)
    }

    /// Waits until a condition of the kernel's, of which it tells nobody, holds.
    private func eventually(_ what: String, _ condition: () throws -> Bool) throws {
        let limit = now() + 20
        while try !condition() {
            guard now() < limit else { throw TestFailure("not within 20 s: \(what)") }
            sched_yield()
        }
    }

    private func text(_ path: String) -> String {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return "" }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = unsafe read(descriptor, &buffer, buffer.count)
        return String(decoding: buffer[..<max(0, count)], as: UTF8.self)
    }

    private func link(_ path: String) -> String {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = unsafe readlink(path, &buffer, buffer.count)
        return String(decoding: buffer[..<max(0, count)], as: UTF8.self)
    }

    /// Of the shell alone: while it starts or awaits another program it has more descriptors open and signals blocked.
    private static let look = #"""
        pwd; echo "$A"; read -r given; echo "$given"
        read -r stat </proc/$$/stat; set -- $stat; echo "$$ $6" >&2; set -- /proc/$$/fd/*; echo $# >&2
        while read -r line; do case $line in SigBlk*|SigIgn*) echo "$line" >&2;; esac; done </proc/$$/status
        umask >&2; exit 3
        """#

    @Test func itBecomesTheCommandAndDiffersInNothing() throws {
        var seen: [Collected] = []
        for (waits, isReady) in [(true, false), (true, true), (false, true), (false, false)] {
            let harness = try HostHarness(asInit: true)
            if isReady { try keepReady(harness) }
            if waits { try spare(harness, in: "/usr", stdin: true, program: isReady ? "sh" : "-") }
            let before = try children(harness)
            try harness.client.start(
                Self.own, ["sh", "-c", Self.look], kind: .task, environment: ["PATH=/usr/bin:/bin", "A=b c"],
                directory: "/usr", stdin: true)
            try harness.client.wait("it runs") { $0.processes[Self.own]?.started != nil }
            if waits { #expect(try children(harness).contains(before[0]), "it is that child") }
            try harness.client.input(Self.own, Array("given\n".utf8), end: true)
            let process = try harness.client.finish(Self.own)
            #expect(process.out == "/usr\nb c\ngiven\n")
            #expect(process.exited?.code == 3 && process.stdoutEnded && process.stderrEnded)
            seen.append(process)
            // And the next is started as ever.
            try harness.client.start(3, ["true"])
            #expect(try harness.client.finish(3).exited?.code == 0)
        }
        #expect(seen.allSatisfy { $0.err == seen[0].err && $0.started == seen[0].started }, "\(seen)")
    }

    @Test func whatWasMadeReadyForACommandGoesWithAnother() throws {
        for (number, isAnnounced, terminal) in [
            (UInt16(1), false, false), (1, true, false), (1, false, true), (9, false, false),
        ] {
            let harness = try HostHarness(asInit: true)
            try settle(harness)
            let before = try descriptors(harness)
            try keepReady(harness)
            #expect(try descriptors(harness) == before + 8)
            if isAnnounced { try spare(harness, in: "/") }
            try harness.client.start(number, ["echo", "well"], kind: .task, terminal: terminal)
            #expect(try harness.client.finish(number).out.hasPrefix("well"))
            try eventually("all are closed") { try descriptors(harness) == before }
        }
    }

    /// Folders of a search path, in which only the named ones have the program `tool`, which says where it is.
    private func folders(_ scratch: Scratch, _ names: [String], with tools: [String]) throws -> String {
        for name in names { #expect(unsafe mkdir("\(scratch.path)/\(name)", 0o755) == 0) }
        for name in tools { try tool(scratch, name) }
        #expect(unsafe chmod(scratch.path, 0o755) == 0)
        return names.map { "\(scratch.path)/\($0)" }.joined(separator: ":")
    }

    private func tool(_ scratch: Scratch, _ folder: String) throws {
        try scratch.writeProgram("\(folder)/tool", Array("#!/bin/sh\necho \(folder)\n".utf8))
    }

    /// Nobody else runs inside meanwhile; here somebody does, so that it shows.
    @Test func itLooksForItsProgramWhileItWaits() throws {
        let scratch = try Scratch()
        let path = try folders(scratch, ["a", "b", "c"], with: ["b"])
        for (told, program, answer) in [
            (path, "tool", "b\n"), (path + ":/bin", "tool", "a\n"), (path, "./a/tool", "a\n"),
        ] {
            unsafe unlink("\(scratch.path)/a/tool")
            let harness = try HostHarness(asInit: true)
            try spare(harness, in: scratch.path, program: "tool", path: path)
            try tool(scratch, "a")
            try harness.client.start(
                Self.own, [program], kind: .task, environment: ["PATH=\(told)"], directory: scratch.path)
            #expect(try harness.client.finish(Self.own).out == answer)
        }
    }

    @Test func whatItHasFoundAndCannotRunIsSearchedForAsEver() throws {
        let scratch = try Scratch()
        let path = try folders(scratch, ["a", "b", "c"], with: ["b", "c"])
        let harness = try HostHarness(asInit: true)
        try spare(harness, in: "/", program: "tool", path: path)
        #expect(unsafe unlink("\(scratch.path)/b/tool") == 0)
        try harness.client.start(Self.own, ["tool"], kind: .task, environment: ["PATH=\(path)"])
        #expect(try harness.client.finish(Self.own).out == "c\n")
        // Found by root, and not for this user.
        try tool(scratch, "b")
        #expect(unsafe chmod("\(scratch.path)/b", 0o700) == 0)
        let other = try HostHarness(asInit: true)
        try spare(other, in: "/", program: "tool", path: path)
        try other.client.start(Self.own, ["tool"], kind: .task, environment: ["PATH=\(path)"], user: "65534")
        #expect(try other.client.finish(Self.own).out == "c\n")
    }

    /// A look at a name must not wait for anybody, nor do anything else than look.
    @Test func whatIsNoProgramIsOnlyLookedAt() throws {
        let scratch = try Scratch()
        let path = try folders(scratch, ["a", "b"], with: ["b"])
        #expect(unsafe mkfifo("\(scratch.path)/a/tool", 0o777) == 0)
        let harness = try HostHarness(asInit: true)
        try spare(harness, in: "/", program: "tool", path: path)
        try harness.client.start(Self.own, ["tool"], kind: .task, environment: ["PATH=\(path)"])
        #expect(try harness.client.finish(Self.own).out == "b\n")
    }

    @Test func childrenThatEndTogetherAreAllReaped() throws {
        let harness = try HostHarness(asInit: true)
        for number in UInt16(1)...8 {
            try harness.client.start(
                number, ["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sh -c 'exit 3' & done; exit \(number)"])
        }
        for number in UInt16(1)...8 { #expect(try harness.client.finish(number).exited?.code == UInt32(number)) }
        try eventually("nothing is left") { try children(harness).isEmpty }
    }

    @Test(arguments: ["/etc", "/usr"]) func anotherFolderAndUserAreTaken(directory: String) throws {
        let harness = try HostHarness(asInit: true)
        try spare(harness, in: "/usr")
        try harness.client.start(
            Self.own, ["sh", "-c", "pwd; id -u; id -g; id -G; echo $HOME; cat"], kind: .task, directory: directory,
            user: "65534:65533")
        #expect(try harness.client.finish(Self.own).out == "\(directory)\n65534\n65533\n65533\n/nonexistent\n")
    }

    /// Announced and started in one go: whether the child has come to its wait by then or not.
    @Test func oneThatIsToldAtOnceRuns() throws {
        for round in 0..<50 {
            let harness = try HostHarness(asInit: true)
            try announce(harness, in: "/usr")
            try harness.client.start(Self.own, ["sh", "-c", "pwd; exit \(round)"], kind: .task, directory: "/usr")
            let process = try harness.client.finish(Self.own)
            #expect(process.out == "/usr\n" && process.exited?.code == UInt32(round))
        }
    }

    @Test func aFolderThatItsUserMayNotEnterIsRefused() throws {
        let scratch = try Scratch()
        #expect(unsafe chmod(scratch.path, 0o700) == 0)
        let harness = try HostHarness(asInit: true)
        try spare(harness, in: scratch.path)
        try harness.client.start(Self.own, ["true"], kind: .task, directory: scratch.path, user: "65534")
        #expect(try harness.client.finish(Self.own).failed?.reason == .badDirectory)
    }

    @Test func whatCannotBeRunIsTold() throws {
        let harness = try HostHarness(asInit: true)
        try spare(harness, in: "/")
        try harness.client.start(Self.own, ["no-such-program"], kind: .task)
        let failed = try #require(try harness.client.finish(Self.own).failed)
        #expect(failed.reason == .notFound)
        #expect(String(decoding: failed.text, as: UTF8.self) == "no-such-program: no such program in PATH")
        try eventually("it has gone") { try children(harness).isEmpty }
    }

    @Test func aFolderThatIsNotThereIsNoObstacle() throws {
        let scratch = try Scratch()
        let harness = try HostHarness(asInit: true)
        let folder = scratch.path + "/made/later"
        try announce(harness, in: folder)
        try harness.client.start(Self.own, ["pwd"], kind: .task, directory: folder, createDirectory: true)
        #expect(try harness.client.finish(Self.own).out == folder + "\n")
    }

    /// What it cannot become begins when nothing is left of it.
    @Test(arguments: [(Channel.taskProcess, true, false), (7, false, false), (Channel.taskProcess, false, true)])
    func whatItCannotBecomeFindsNothingOfIt(number: UInt16, terminal: Bool, stdin: Bool) throws {
        let harness = try HostHarness(asInit: true)
        try spare(harness, in: "/")
        let old = try children(harness)
        try harness.client.start(
            number, ["sh", "-c", "cd /proc; echo [0-9]*; test -t 1; echo $?"], kind: .task, terminal: terminal,
            stdin: stdin)
        let process = try harness.client.finish(number)
        // The harness, and the shell after the one that has gone.
        #expect(process.out == (terminal ? "1 3\r\n0\r\n" : "1 3\n1\n"))
        #expect(try Set(children(harness)).isDisjoint(with: old))
    }

    /// The start of a process is its own, not that of what was there before.
    @Test func anOldOneIsNotUsed() throws {
        let harness = try HostHarness(asInit: true)
        try spare(harness, in: "/")
        let limit = now() + 1.01
        try eventually("a second has passed") { now() > limit }
        try harness.client.start(Self.own, ["sh", "-c", "echo $$"], kind: .task)
        #expect(try harness.client.finish(Self.own).out == "3\n")
    }

    @Test func oneThatIsKilledIsForgotten() throws {
        let harness = try HostHarness(asInit: true)
        try spare(harness, in: "/")
        for child in try children(harness) where child > 1 { kill(child, SIGKILL) }
        try eventually("it has gone") { try children(harness).isEmpty }
        try harness.client.start(Self.own, ["echo", "well"], kind: .task)
        #expect(try harness.client.finish(Self.own).out == "well\n")
    }

    @Test func thereIsOneAtMostAndNoneBesideAProcess() throws {
        let harness = try HostHarness(asInit: true)
        try spare(harness, in: "/")
        try announce(harness, in: "/usr")
        try settle(harness)
        #expect(try children(harness).count == 1)
        let busy = try HostHarness(asInit: true)
        try busy.client.start(9, ["sleep", "300"])
        try busy.client.wait("it runs") { $0.processes[9]?.started != nil }
        try announce(busy, in: "/")
        try settle(busy)
        #expect(try children(busy).count == 1)
    }

    @Test func aShutdownEndsIt() throws {
        let harness = try HostHarness(asInit: true)
        try spare(harness, in: "/")
        try harness.client.send(.shutdown, Shutdown(grace: 10_000).encoded())
        #expect(try harness.wait(seconds: 5) == 0)
    }
}
