import AegisChannel
import CHarness
import Glibc
import Testing

/// Boots that do not succeed: what the daemon is told, and that nothing stays.
@Suite struct BootFailureTests {
    private func failure(
        _ keeper: KeeperFixture, _ change: (inout BootPlan) -> Void
    ) throws -> (step: BootStep, errno: UInt32, text: String) {
        try keeper.sendPlan(change)
        try keeper.client.wait("failure", seconds: 20) { $0.bootFailed != nil || $0.booted != nil }
        let failed = try #require(keeper.client.bootFailed)
        // Nothing is left beneath the keeper, and it goes with the connection.
        let children = try contents("/proc/\(keeper.pid)/task/\(keeper.pid)/children")
        #expect(children.isEmpty)
        keeper.client.close()
        #expect(try keeper.waitForKeeper() == 0)
        return (failed.step, failed.errno, String(decoding: failed.text, as: UTF8.self))
    }

    @Test func aMountStepThatFailsIsNamed() throws {
        let keeper = try KeeperFixture(.runc)
        let target = keeper.scratch.path + "/no/such"
        let failed = try failure(keeper) {
            $0.mounts[0] = .idmapped(source: 5, map: 0, target: Array(target.utf8), readOnly: true)
        }
        #expect(failed.step == .mounts && failed.errno == UInt32(ENOENT))
        #expect(failed.text == "mount step 1 (idmapped \(target)): No such file or directory")
    }

    @Test(arguments: ["folder", "file", "bind", "overlay"]) func linksInAPathAreNotFollowed(kind: String) throws {
        // What a sandbox left in its upper layer, when it is started again.
        let keeper = try KeeperFixture(.runc)
        let path = keeper.scratch.path
        try #require(run(["/bin/sh", "-c", "mkdir \(path)/outside && ln -s \(path)/outside \(path)/link"]) == 0)
        let through = Array("\(path)/link/x".utf8)
        let failed = try failure(keeper) { plan in
            switch kind {
            case "folder": plan.mounts = [.makeDirectory(through)]
            case "file": plan.mounts = [.makeFile(through)]
            case "bind": plan.mounts = [.bind(source: 6, target: Array("\(path)/link".utf8), readOnly: true)]
            default:
                let link = Array("\(path)/link".utf8)
                plan.mounts = [.overlay(lower: [link], upper: link, work: link, target: link)]
            }
        }
        #expect(failed.step == .mounts && failed.errno == UInt32(ELOOP))
        #expect(run(["/bin/sh", "-c", "test -z \"$(ls \(path)/outside)\""]) == 0)
    }

    @Test func aPlanWithoutRootAndSourcesThatAreNoneAreRefused() throws {
        let keeper = try KeeperFixture(.runc)
        let failed = try failure(keeper) { $0.uids = [IDRange(inside: 1, outside: 100_000, count: 5)] }
        #expect(failed.step == .plan && failed.errno == UInt32(EINVAL))
        let other = try KeeperFixture(.runc)
        let second = try failure(other) { $0.mounts[0] = .bind(source: 3, target: Array("/x".utf8), readOnly: true) }
        #expect(second.step == .mounts && second.text.contains("a source descriptor below 5"))
        let third = try failure(try KeeperFixture(.runc)) {
            $0.mounts[0] = .idmapped(source: 5, map: 7, target: Array("/x".utf8), readOnly: true)
        }
        #expect(third.text.contains("no such map in the plan"))
    }

    @Test func mapsThatTheKernelRefusesFailTheNamespaces() throws {
        let failed = try failure(try KeeperFixture(.runc)) {
            $0.uids.append(IDRange(inside: 10, outside: 5, count: 100))
        }
        #expect(failed.step == .namespaces && failed.errno == UInt32(EINVAL))
    }

    @Test(arguments: Runtime.allCases) func aRuntimeThatIsMissingOrComplainsIsQuoted(runtime: Runtime) throws {
        let missing = try failure(try KeeperFixture(runtime)) { $0.runtime = [Array("/no/such/runtime".utf8)] }
        #expect(missing.step == .runtime)
        #expect(missing.text.contains("exit code 127: /no/such/runtime: No such file or directory"))
        let complaint = try failure(try KeeperFixture(runtime)) { $0.config = Array("{nonsense".utf8) }
        #expect(complaint.step == .runtime)
        #expect(complaint.text.contains("invalid"))
    }

    @Test func aCgroupThatCannotBeJoinedIsQuoted() throws {
        let failed = try failure(try KeeperFixture(.runc)) { $0.cgroupProcs = [Array("/sys/fs/cgroup/none/x".utf8)] }
        #expect(failed.step == .runtime && failed.text.contains("/sys/fs/cgroup/none/x: No such file or directory"))
    }

    @Test func aRuntimeThatHangsIsKilledAtTheDeadline() throws {
        let keeper = try KeeperFixture(.runc)
        let began = now()
        let failed = try failure(keeper) {
            $0.runtime = ["/bin/sh", "-c", "echo thinking >&2; sleep 300 & sleep 300"].map { Array($0.utf8) }
            $0.deadline = 400
        }
        #expect(failed.step == .runtime)
        #expect(failed.text == "not up within 400 ms: waiting for the runtime: thinking")
        #expect(now() - began >= 0.4 && now() - began < 10)
    }

    @Test(arguments: Runtime.allCases) func aHarnessThatIsSilentOrEndsFailsTheBoot(runtime: Runtime) throws {
        let silent = try KeeperFixture(runtime)
        let failed = try failure(silent) {
            silent.usingHarness(["/bin/sleep", "300"])(&$0)
            $0.deadline = 2500
        }
        #expect(failed.step == .hello && failed.text.hasPrefix("not up within 2500 ms: waiting for the harness"))
        let short = try KeeperFixture(runtime)
        let ended = try failure(short, short.usingHarness(["/bin/sh", "-c", "echo oh no >&2; exit 3"]))
        #expect(ended.step == .hello && ended.text.contains("ended before its harness said hello"))
        #expect(ended.text.contains("oh no"))
    }

    @Test func aPidFileThatNamesSomethingElseIsNotBelieved() throws {
        for pid in ["-1", "1", "0", "x", "\(getpid())"] {
            let keeper = try KeeperFixture(.runc)
            let failed = try failure(keeper) {
                $0.runtime = ["/bin/sh", "-c", "echo \(pid) > \(keeper.scratch.path)/run/pid"].map { Array($0.utf8) }
            }
            #expect(failed.step == .runtime)
            #expect(failed.text.contains("usable pid") || failed.text.contains("no child of ours"))
        }
    }

    @Test func killDuringABootEndsIt() throws {
        let keeper = try KeeperFixture(.runc)
        try keeper.sendPlan { $0.runtime = ["/bin/sleep", "300"].map { Array($0.utf8) } }
        try keeper.client.send(.kill)
        try keeper.client.wait("failure") { $0.bootFailed != nil }
        let text = String(decoding: keeper.client.bootFailed?.text ?? [], as: UTF8.self)
        #expect(text == "killed while it started")
        try keeper.client.send(.release)
        #expect(try keeper.waitForKeeper() == 0)
    }

    @Test func aMalformedOrOversizedPlanIsRefusedAndNothingStays() throws {
        for bytes in [[UInt8](repeating: 0xff, count: 200), []] as [[UInt8]] {
            let keeper = try KeeperFixture(.runc)
            try keeper.client.send(.boot, bytes)
            try keeper.client.wait("failure") { $0.bootFailed != nil }
            #expect(keeper.client.bootFailed?.step == .plan)
            #expect(try keeper.waitForKeeper() == 0)
        }
        let keeper = try KeeperFixture(.runc)
        try keeper.client.sendRaw([66, 0, 0, 0, 0, 4, 0, 1])
        try keeper.client.wait("failure") { $0.bootFailed != nil }
        #expect(try keeper.waitForKeeper() == 0)
    }

    @Test func aDaemonThatDiesBeforeItsPlanLeavesNoKeeper() throws {
        let keeper = try KeeperFixture(.runc)
        keeper.client.close()
        #expect(try keeper.waitForKeeper() == 0)
    }

    @Test func aFailureIsKeptForADaemonThatComesLate() throws {
        let keeper = try KeeperFixture(.runc)
        // The first daemon dies while the runtime hangs; its successor is there before the deadline.
        try keeper.sendPlan {
            $0.runtime = ["/bin/sleep", "300"].map { Array($0.utf8) }
            $0.deadline = 1500
        }
        try keeper.client.send(.health, [])
        keeper.client.close()
        let next = try keeper.attach()
        #expect(next.state?.phase == .booting)
        try next.wait("failure") { $0.bootFailed != nil }
        next.close()
        #expect(try keeper.waitForKeeper() == 0)
    }
}
