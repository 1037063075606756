import AegisCore
import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisBackends

struct CgroupLayoutTests {
    private static let hybrid = """
        31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
        37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
        39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
        40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
        """

    @Test func whatAProcessMayDoIsPartOfWhatAProbeStandsOn() {
        let status =
            "Name:\taegisd\nCapEff:\t000001ffffffffff\nCapBnd:\t000001ffffffffff\nNoNewPrivs:\t0\nSeccomp:\t0\n"
        let limits = "Limit  Soft  Hard  Units\nMax locked memory   8388608   8388608   bytes\n"
        let free = HostIdentity.confinement(status: status, limits: limits)
        #expect(free == HostIdentity.confinement(status: status + "VmRSS:\t9 kB\n", limits: limits))
        let others = [
            (status.replacing("CapBnd:\t000001ff", with: "CapBnd:\t00000000"), limits),
            (status.replacing("Seccomp:\t0", with: "Seccomp:\t2"), limits),
            (status, limits.replacing("8388608", with: "unlimited")),
        ].map { HostIdentity.confinement(status: $0, limits: $1) }
        #expect(Set(others + [free]).count == 4)
    }

    @Test(arguments: [
        ("bpf_prog_query(BPF_CGROUP_DEVICE) failed: operation not permitted", "CAP_NET_ADMIN"),
        ("setrlimit (RLIM_MEMLOCK): Operation not permitted", "LimitMEMLOCK=infinity"),
    ])
    func whatRuntimesWantOnVersionTwoIsHinted(_ reason: String, _ hint: String) {
        #expect(OCIBackend.hint(for: reason)?.contains(hint) == true)
    }

    @Test func hybridMachinesHaveVersionOneControllersAndAUnifiedTree() {
        let layout = CgroupLayout(mountinfo: Self.hybrid) { _ in "" }
        #expect(layout.version(of: "memory") == .v1 && layout.version(of: "cpuacct") == .v1)
        #expect(layout.version(of: "io") == nil)
        #expect(layout.v1["cpu"] == "/sys/fs/cgroup/cpu,cpuacct")
        #expect(layout.unified == "/sys/fs/cgroup/unified")
        #expect(layout.description == "v1 (hybrid)")
        #expect(layout.roots.count == 6)
    }

    @Test func unifiedMachinesHaveOneTree() {
        let line = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
        let layout = CgroupLayout(mountinfo: line) { _ in "cpuset cpu io memory pids" }
        #expect(layout.version(of: "memory") == .v2)
        #expect(layout.description == "v2")
        #expect(layout.roots == ["/sys/fs/cgroup"])
    }

    @Test func namesWithSpacesAreReadAsTheKernelWritesThem() {
        let table = MountTable(parsing: "1 2 0:3 / /with\\040space/\\134x rw - ext4 /dev/a rw\nbroken line\n")
        #expect(table.entries.map(\.target) == ["/with space/\\x"])
    }
}

/// The version 2 interface, on a folder that looks like one: this machine may have version 1 only.
struct UnifiedCgroupTests {
    private static func tree(_ directory: TemporaryDirectory) throws -> (CgroupManager, InstanceCgroup) {
        let root = directory.path
        let layout = CgroupLayout(v1: [:], unified: root, unifiedControllers: ["cpu", "memory", "pids"])
        let manager = CgroupManager(node: "n", layout: layout, totalMemory: 8 << 30)
        for folder in ["aegis-n", "aegis-n/i-1"] { try Files.makeDirectories("\(root)/\(folder)", mode: 0o755) }
        for file in ["memory.max", "memory.swap.max", "cpu.max", "pids.max", "cgroup.freeze", "cgroup.kill"] {
            try Files.writeAtomically("\(root)/aegis-n/i-1/\(file)", [])
        }
        return (manager, manager.group("i-1"))
    }
    private static func write(_ directory: TemporaryDirectory, _ name: String, _ text: String) throws {
        try Files.writeAtomically(directory.path("aegis-n/i-1/\(name)"), Array(text.utf8))
    }
    private static func read(_ directory: TemporaryDirectory, _ name: String) throws -> String {
        String(decoding: try Files.read(directory.path("aegis-n/i-1/\(name)"), limit: 1000), as: UTF8.self)
    }

    @Test func limitsAreWrittenAsTheKernelWantsThem() throws {
        let directory = try TemporaryDirectory()
        let (manager, group) = try Self.tree(directory)
        try group.apply(manager.resolve(Limits(cpus: 1.5, memory: ByteSize(64 << 20), pids: 9)), lowering: false)
        #expect(try Self.read(directory, "memory.max") == "\(64 << 20)")
        #expect(try Self.read(directory, "memory.swap.max") == "0")
        #expect(try Self.read(directory, "cpu.max") == "150000 100000")
        #expect(try Self.read(directory, "pids.max") == "9")
        #expect(group.procsFiles == [directory.path("aegis-n/i-1/cgroup.procs")])
        #expect(group.path == "/aegis-n/i-1")
    }

    @Test func countersAndStatesAreRead() throws {
        let directory = try TemporaryDirectory()
        let (_, group) = try Self.tree(directory)
        try Self.write(directory, "memory.current", "1000\n")
        try Self.write(directory, "memory.stat", "anon 1\ninactive_file 400\n")
        try Self.write(directory, "memory.events", "low 0\noom 3\noom_kill 2\n")
        try Self.write(directory, "cpu.stat", "usage_usec 77\nuser_usec 1\n")
        try Self.write(directory, "pids.current", "5\n")
        #expect(group.usage() == Usage(memoryBytes: 600, cpuMicroseconds: 77, pids: 5, oomKills: 2))
        try group.setFrozen(true)
        #expect(try Self.read(directory, "cgroup.freeze") == "1")
        try Self.write(directory, "cgroup.events", "populated 1\nfrozen 0\n")
        #expect(!group.isFrozen)
        try Self.write(directory, "cgroup.events", "populated 1\nfrozen 1\n")
        #expect(group.isFrozen)
    }

    @Test func defaultsAreBounded() {
        let layout = CgroupLayout(v1: [:], unified: "/x", unifiedControllers: ["memory"])
        let small = CgroupManager(node: "n", layout: layout, totalMemory: 1 << 30)
        #expect(small.resolve(Limits()) == ResolvedLimits(memory: 512 << 20, cpus: nil, pids: 1024))
        #expect(small.memoryForAll == 512 << 20)
        let large = CgroupManager(node: "n", layout: layout, totalMemory: 64 << 30)
        #expect(large.resolve(Limits()).memory == 2 << 30)
    }
}

/// This machine's own control groups, with a real process.
@Suite(.serialized)
struct RealCgroupTests {
    @Test(arguments: [
        ("SigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n", true), ("SigPnd:\t0000000000000100\n", true),
        ("SigPnd:\t0000000000000000\nShdPnd:\t0000000000004200\n", false), ("ShdPnd:\t0000000000000101\n", true),
        ("Name:\tShdPnd: 100\nSigBlk:\t0000000000000100\n", false), ("", false),
    ]) func aKillThatWaitsIsSeen(_ status: String, _ isSeen: Bool) {
        #expect(InstanceCgroup.hasPendingKill(status) == isSeen)
    }

    @Test func aGroupHoldsFreezesAndKillsAProcess() async throws {
        try await onLoop { loop in
            let manager = try CgroupManager.detect(node: Random.hex(bytes: 4))
            let group = try manager.make("i-1", manager.resolve(Limits()))
            defer {
                group.removeFolders()
                manager.removeParent()
            }
            #expect(manager.existing() == ["i-1"])
            let spec = ProcessSpec(
                executable: "/bin/sh", arguments: ["sh", "-c", "while :; do :; done"], environment: [], newSession: true
            )
            var joining = spec
            joining.cgroups = group.procsFiles
            let child = try await ChildProcess.spawnInBackground(joining, on: loop)
            #expect(group.members == [child.pid])
            try group.setFrozen(true)
            while !group.isFrozen { await Task.yield() }
            #expect(!group.removeFolders())
            #expect(!group.isDoomed)
            #expect(group.killMembers())
            // Frozen by version 2 it has died at once.
            if group.folder("freezer") != nil { #expect(group.isDoomed) }
            try group.setFrozen(false)
            #expect(try await child.wait() == .signalled(9))
            #expect(!group.killMembers())
        }
    }

    @Test func onlyThisNodesGroupsAreSeen() throws {
        let one = try CgroupManager.detect(node: Random.hex(bytes: 4))
        let two = try CgroupManager.detect(node: Random.hex(bytes: 4))
        _ = try one.make("i-1", one.resolve(Limits()))
        _ = try two.make("i-2", two.resolve(Limits()))
        #expect(one.existing() == ["i-1"])
        one.group("i-1").removeFolders()
        one.removeParent()
        #expect(two.existing() == ["i-2"])
        two.group("i-2").removeFolders()
        two.removeParent()
    }
}

struct IDPoolTests {
    private static func pool(_ directory: TemporaryDirectory, count: Int = 4, subordinate: [String] = []) -> IDPool {
        IDPool(folder: directory.path("ids"), start: 0x1000_0000, count: count, subordinateIDs: subordinate)
    }

    @Test func twoDaemonsNeverHaveTheSameRange() throws {
        let directory = try TemporaryDirectory()
        let (one, two) = (Self.pool(directory, count: 11), Self.pool(directory, count: 11))
        for name in 0..<10 { try Files.makeDirectories(directory.path("\(name)")) }
        let leases = try (0..<10).map { try ($0 % 2 == 0 ? one : two).take(for: directory.path("\($0)")) }
        #expect(Set(leases.map(\.base)).count == 10)
        #expect(leases.allSatisfy { $0.base > one.reservedBase && $0.base % IDPool.rangeSize == 0 })
    }

    @Test func whenAllAreTakenTheErrorSaysSoAndReleasingHelps() throws {
        let directory = try TemporaryDirectory()
        let pool = Self.pool(directory, count: 2)
        let leases = try ["a", "b"].map { try pool.take(for: directory.path($0)) }
        let error = #expect(throws: AegisError.self) { _ = try pool.take(for: directory.path("c")) }
        #expect(error?.code == "id-ranges-exhausted")
        leases[0].release()
        leases[0].release()
        #expect(try pool.take(for: directory.path("c")).base == leases[0].base)
    }

    @Test func aSandboxThatOutlivesItsDaemonKeepsItsRange() throws {
        let directory = try TemporaryDirectory()
        let run = directory.path("i-1")
        try Files.makeDirectories(run)
        var base: UInt32 = 0
        do {
            // The daemon dies: its lock goes, its sandbox's folder stays.
            let lease = try Self.pool(directory, count: 1).take(for: run)
            base = lease.base
        }
        let later = Self.pool(directory, count: 1)
        #expect(throws: AegisError.self) { _ = try later.take(for: directory.path("other")) }
        #expect(later.adopt(base, for: directory.path("other")) == nil)
        #expect(later.adopt(base + 1, for: run) == nil)
        let lease = try #require(later.adopt(base, for: run))
        #expect(later.adopt(base, for: run) == nil)
        lease.release()
        #expect(try later.take(for: directory.path("other")).base == base)
    }

    /// Its file says whose it is; without that, what nobody has a record of would leave it for good.
    @Test func theRangeOfALostSandboxIsFound() throws {
        let directory = try TemporaryDirectory()
        let (run, other) = (directory.path("i-1"), directory.path("i-2"))
        for path in [run, other] { try Files.makeDirectories(path) }
        do { for path in [other, run] { _ = try Self.pool(directory).take(for: path) } }
        let later = Self.pool(directory)
        #expect(later.adopt(for: directory.path("i-")) == nil)
        let lease = try #require(later.adopt(for: run))
        #expect(later.adopt(for: run) == nil)
        lease.release()
        #expect(try Files.list(directory.path("ids")).count == 1)
    }

    @Test func aRangeWhoseSandboxIsGoneIsFreeAgain() throws {
        let directory = try TemporaryDirectory()
        do { _ = try Self.pool(directory, count: 1).take(for: directory.path("gone")) }
        #expect(throws: Never.self) { _ = try Self.pool(directory, count: 1).take(for: directory.path("new")) }
    }

    @Test func rangesOfTheHostsUsersAreLeftAlone() throws {
        let directory = try TemporaryDirectory()
        let start: UInt32 = 0x1000_0000
        let text = "alice:\(start + 65_536 + 10):20\nbroken\nbob:x:1\ncarol:\(start + 3 * 65_536):65536\n"
        let pool = Self.pool(directory, count: 3, subordinate: [text])
        #expect(try pool.take(for: directory.path("a")).base == start + 2 * 65_536)
        #expect(throws: AegisError.self) { _ = try pool.take(for: directory.path("b")) }
    }
}

struct ProcessIdentityTests {
    @Test func aPidThatIsSomebodyElsesByNowIsNobody() throws {
        let own = try ProcessIdentity(of: CurrentProcess.pid)
        #expect(own.isAlive)
        let other = ProcessIdentity(pid: own.pid, start: own.start + 1)
        #expect(!other.isAlive)
        if other.open() != nil { Issue.record("a recycled number was opened") }
    }

    @Test(arguments: [1, 0, -1] as [Int32])
    func dangerousNumbersAreRefused(_ pid: Int32) {
        #expect(throws: Errno.self) { _ = try ProcessIdentity(of: pid) }
        if ProcessIdentity(pid: pid, start: 0).open() != nil { Issue.record("opened \(pid)") }
    }

    @Test func namesWithBracketsDoNotConfuse() {
        let line = "7 (a) R (b)) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1\n"
        #expect(ProcessIdentity.parse(line)?.start == 4242)
        #expect(ProcessIdentity.parse(line)?.state == "S")
        #expect(ProcessIdentity.parse("7 (x") == nil)
    }
}
