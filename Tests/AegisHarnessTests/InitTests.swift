import AegisChannel
import Glibc
import Testing

/// A harness as PID 1 of a pid namespace.
@Suite struct InitTests {
    @Test func helloNamesVersionAndBuild() throws {
        let harness = try HostHarness(asInit: true)
        #expect(harness.client.hello?.version == Channel.version)
        let build = String(decoding: harness.client.hello?.build ?? [], as: UTF8.self)
        #expect(build.hasPrefix("aegis-harness "))
        try harness.client.start(1, ["cat", "/proc/1/comm"])
        #expect(try harness.client.finish(1).out == "aegis-harness\n")
    }

    @Test func orphansAreReaped() throws {
        let harness = try HostHarness(asInit: true)
        // A process whose parent is gone ends: nobody but PID 1 can take it away.
        let orphan = "(sh -c 'sleep 0.02' >/dev/null 2>&1 &) ; exit 0"
        for number in 1...20 as ClosedRange<UInt16> { try harness.client.start(number, ["sh", "-c", orphan]) }
        for number in 1...20 as ClosedRange<UInt16> { _ = try harness.client.finish(number) }
        let count = "n=0; while [ $n -lt 100 ]; do n=$((n+1)); set -- $(ps -e -o pid=); [ $# -le 3 ] && break;"
        try harness.client.start(30, ["sh", "-c", count + " sleep 0.05; done; ps -e -o stat=,comm="])
        let left = try harness.client.finish(30).out
        #expect(!left.contains("Z"))
        #expect(!left.contains("sleep"))
    }

    @Test func theHarnessIsClosedToTheWorkload() throws {
        let harness = try HostHarness(asInit: true)
        // An unprivileged user may not look into it; for root without CAP_SYS_PTRACE (a sandbox) the same rule holds.
        try harness.client.start(1, ["sh", "-c", "ls /proc/1/fd; echo forged > /proc/1/fd/1"], user: "1000")
        let process = try harness.client.finish(1)
        #expect(process.exited?.code != 0)
        #expect(process.err.contains("Permission denied"))
        // CAP_SYS_PTRACE (bit 19) has left the bounding set.
        try harness.client.start(2, ["grep", "CapBnd", "/proc/self/status"])
        let text = try harness.client.finish(2).out.split(separator: "\t").last?.dropLast() ?? ""
        let set = try #require(UInt64(text, radix: 16))
        #expect(set & 1 << 19 == 0)
    }

    @Test func shutdownAsksThenKills() throws {
        let harness = try HostHarness(asInit: true)
        try harness.client.start(
            1, ["sh", "-c", "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.02; done"])
        try harness.client.start(2, ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.02; done"])
        try harness.client.wait("ready") { client in
            [1, 2].allSatisfy { client.processes[$0]?.out.hasPrefix("ready") == true }
        }
        let began = now()
        try harness.client.send(.shutdown, Shutdown(grace: 700).encoded())
        let polite = try harness.client.finish(1)
        #expect(polite.out == "ready\nbye\n")
        #expect(polite.exited?.code == 9)
        let stubborn = try harness.client.finish(2)
        #expect(stubborn.exited?.code == 137)
        #expect(now() - began >= 0.69)
        #expect(try harness.wait() == 0)
    }

    @Test func aLimitedProcessIsKilledWithItsGroup() throws {
        let harness = try HostHarness(asInit: true)
        let stubborn = "trap '' TERM; sleep 4242 & echo ready; wait; wait"
        // Two limits at once, and a process that has none.
        try harness.client.start(1, ["sh", "-c", stubborn], limit: 600)
        try harness.client.start(2, ["sh", "-c", stubborn], limit: 100)
        try harness.client.start(3, ["sh", "-c", "echo ready; read line; exit 7"], stdin: true)
        try harness.client.start(4, ["true"], limit: 60_000)
        #expect(try harness.client.finish(2).exited?.signal == 9)
        #expect(try harness.client.finish(1).exited?.signal == 9)
        #expect(try harness.client.finish(4).exited?.code == 0)
        // Nobody is left of their groups, and what had no limit goes on.
        try harness.client.start(5, ["sh", "-c", "until ! pgrep -f 'sleep 424[2]'; do sleep 0.05; done"])
        #expect(try harness.client.finish(5).exited?.code == 0)
        try harness.client.input(3, Array("\n".utf8), end: true)
        #expect(try harness.client.finish(3).exited?.code == 7)
    }

    @Test func shutdownLosesNoEndOfManyAtOnce() throws {
        // Processes that end while the harness looks whether any is left: each is reported, none is waited for in vain.
        for _ in 1...5 {
            let harness = try HostHarness(asInit: true)
            let numbers = 1...40 as ClosedRange<UInt16>
            for number in numbers { try harness.client.start(number, ["sleep", "1000"]) }
            try harness.client.wait("all run") { client in
                numbers.allSatisfy { client.processes[$0]?.started != nil }
            }
            let began = now()
            try harness.client.send(.shutdown, Shutdown(grace: 20_000).encoded())
            for number in numbers { #expect(try harness.client.finish(number).exited?.code == 143) }
            #expect(try harness.wait() == 0)
            #expect(now() - began < 10)
        }
    }

    @Test func shutdownOfNothingEndsAtOnce() throws {
        let harness = try HostHarness(asInit: true)
        let began = now()
        try harness.client.send(.shutdown, Shutdown(grace: 60_000).encoded())
        #expect(try harness.wait() == 0)
        #expect(now() - began < 5)
    }

    @Test func itStaysForFilesWhenNothingRunsAnyMore() throws {
        let harness = try HostHarness(asInit: true)
        let scratch = try Scratch()
        // One that ends when asked, one that does not, and one that was left to us.
        try harness.client.start(
            1, ["sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.02; done"])
        try harness.client.start(2, ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.02; done"])
        try harness.client.start(
            3,
            [
                "sh", "-c",
                "setsid sh -c \"trap '' TERM; while :; do echo x >> \(scratch.path)/f; done\" >/dev/null 2>&1 &"
                    + " until [ -s \(scratch.path)/f ]; do sleep 0.01; done; echo ready",
            ])
        try harness.client.wait("ready") { client in
            [1, 2, 3].allSatisfy { client.processes[$0]?.out.hasPrefix("ready") == true }
        }
        try harness.client.send(.shutdown, Shutdown(grace: 1500, stays: true).encoded())
        try harness.client.send(.health, [7])
        try harness.client.wait("quiet") { $0.healthy == [[7]] }
        #expect(try harness.client.finish(1).exited?.code == 9)
        #expect(try harness.client.finish(2).exited?.code == 137)
        let written = try contents(scratch.path + "/f")
        for number in [4, 5] as [UInt16] {
            try harness.client.start(number, [scratch.path + "/f"], kind: .copyOut)
            let copy = try harness.client.finish(number)
            #expect(copy.exited?.code == 0 && copy.stdout.dropFirst(512).starts(with: written))
        }
        // Asked again, and by who wants it gone.
        try harness.client.send(.shutdown, Shutdown(grace: 0, stays: true).encoded())
        try harness.client.send(.health, [8])
        try harness.client.wait("quiet") { $0.healthy == [[7], [8]] }
        try harness.client.send(.shutdown, Shutdown(grace: 60_000).encoded())
        #expect(try harness.wait() == 0)
    }

    @Test func oneThatWasToStayEndsWhenThatIsWanted() throws {
        let harness = try HostHarness(asInit: true)
        try harness.client.start(1, ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.02; done"])
        try harness.client.wait("ready") { $0.processes[1]?.out.hasPrefix("ready") == true }
        try harness.client.send(.shutdown, Shutdown(grace: 1500, stays: true).encoded())
        try harness.client.send(.shutdown, Shutdown(grace: 60_000).encoded())
        #expect(try harness.client.finish(1).exited?.code == 137)
        #expect(try harness.wait() == 0)
    }

    @Test func theEndOfTheChannelIsTheEndOfAll() throws {
        let harness = try HostHarness()
        try harness.client.start(1, ["sh", "-c", "trap '' TERM HUP; echo $$; while :; do sleep 0.02; done"])
        try harness.client.wait("its pid") { $0.processes[1]?.out.hasSuffix("\n") == true }
        let pid = try #require(Int32(harness.client.processes[1]?.out.dropLast() ?? ""))
        harness.client.close()
        #expect(try harness.wait() == 1)
        // Reparented and reaped by someone else: gone within a moment.
        let limit = now() + 10
        while kill(pid, 0) == 0 && now() < limit { sched_yield() }
        #expect(kill(pid, 0) != 0)
    }

    @Test func nothingLeaksOverAThousandProcesses() throws {
        let harness = try HostHarness()
        let list = try Scratch()
        func descriptors() throws -> Int {
            // It tells the end of a process before it closes what it had of it.
            let answers = harness.client.healthy.count
            try harness.client.send(.health, [0, 0, 0, 0, 0, 0, 0, 1])
            try harness.client.wait("health") { $0.healthy.count > answers }
            try #require(run(["/bin/ls", "/proc/\(harness.pid)/fd"], output: list.path + "/list") == 0)
            return try contents(list.path + "/list").count { $0 == 0x0a }
        }
        let before = try descriptors()
        for _ in 0..<1000 {
            try harness.client.start(1, ["true"])
            _ = try harness.client.finish(1)
        }
        #expect(try descriptors() == before)
        let status = String(decoding: try contents("/proc/\(harness.pid)/status"), as: UTF8.self)
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS") } ?? ""
        let kilobytes = try #require(Int(line.filter(\.isNumber)))
        #expect(kilobytes < 2000)
    }
}
