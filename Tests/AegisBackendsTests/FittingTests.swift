import AegisCore
import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisBackends

/// Sandboxes that get other limits before anything runs in them.
@Suite(.serialized, .timeLimit(.minutes(15)))
struct FittingTests {
    private static func limits(_ memory: UInt64, cpus: Double? = nil, pids: Int) -> Limits {
        Limits(cpus: cpus, memory: ByteSize(memory << 20), pids: pids)
    }

    /// What limits decide, seen from inside and in the control group.
    private func seen(_ sandbox: OCISandbox, _ world: World) async throws -> [String] {
        let talk = try await Conversation(sandbox)
        let inside = try await talk.run(
            """
            grep -F -- '- tmpfs' /proc/self/mountinfo | sed -E 's/^[0-9]+ [0-9]+ [0-9]+:[0-9]+ //; s/[ug]id=[0-9]+//g'
            stat -f -c '%n %b %c %S' /tmp /run /dev/shm; cat /proc/1/limits; ulimit -a; grep MemTotal /proc/meminfo; nproc
            """)
        #expect(inside.code == 0 && inside.stdout.utf8.count > 200, "\(inside)")
        talk.stream.close()
        let files = [
            ("memory", ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"], ["memory.max", "memory.high"]),
            ("cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"], ["cpu.max"]), ("pids", ["pids.max"], ["pids.max"]),
        ]
        return inside.stdout.split(separator: "\n").map(String.init)
            + files.flatMap { controller, v1, v2 in
                let folder = sandbox.group.folder(controller) ?? ""
                let names = world.cgroups.layout.version(of: controller) == .v1 ? v1 : v2
                return names.map { "\($0) \((try? ControlFile.read("\(folder)/\($0)")) ?? "-")" }
            }
    }

    @Test(arguments: Runtime.allCases)
    func aFittedSandboxIsLikeOneThatWasBootedSo(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let booted = Self.limits(512, pids: 200)
            let wishes =
                runtime == .runc
                ? [
                    Self.limits(96, cpus: 0.5, pids: 50), Self.limits(1500, pids: 200), Self.limits(512, pids: 4000),
                    Self.limits(512, cpus: 1.5, pids: 200),
                ] : [Self.limits(512, cpus: 0.5, pids: 200)]
            for wanted in wishes {
                let sandbox = try await world.boot(limits: booted)
                let fitting = await sandbox.fitting(bootedWith: booted)
                #expect(fitting.match(booted) == .same)
                #expect(fitting.match(wanted) == .changeable, "\(wanted)")
                try await fitting.fit(to: wanted)
                let own = try await world.boot(limits: wanted)
                let (one, other) = (try await seen(sandbox, world), try await seen(own, world))
                #expect(one.difference(from: other).map { "\($0)" } == [], "\(wanted)")
                #expect(try await seen(world.boot(limits: booted), world) != one, "\(wanted) are seen nowhere")
            }
        }
    }

    @Test func whatItsMemoryFileSystemsHoldIsBounded() async throws {
        try await inWorld(.runc) { world in
            let booted = Self.limits(1024, pids: 200)
            let sandbox = try await world.boot(limits: booted)
            try await sandbox.fitting(bootedWith: booted).fit(to: Self.limits(64, pids: 200))
            let talk = try await Conversation(sandbox)
            #expect(try await talk.run("stat -f -c '%b %S' /tmp").stdout == "\(64 << 8) 4096\n")
            // Its memory is as much, and other things are in that: it is full before the file system is.
            let result = try await talk.run("head -c 200M /dev/zero > /tmp/big")
            #expect(result.code != 0, "\(result)")
        }
    }

    /// Whatever an image has at these places, only what the runtime has mounted there is changed.
    @Test(arguments: ["tmp", "run"])
    func anImageWithALinkInPlaceOfAFolderKeepsItsMemory(_ name: String) async throws {
        try await inWorld(.runc) { world in
            var spec = try world.spec(limits: Self.limits(512, pids: 200))
            let top = world.home.path("linked")
            try Files.makeDirectories(top, mode: 0o755)
            try Files.makeLink("\(top)/\(name)", to: "var/tmp")
            spec.layers = [top] + spec.layers
            let sandbox = try await world.boot(spec)
            let fitting = await sandbox.fitting(bootedWith: spec.limits)
            #expect(fitting.match(Self.limits(256, pids: 200)) == .different)
            #expect(fitting.match(Self.limits(512, cpus: 1, pids: 100)) == .changeable)
        }
    }

    @Test func aKernelInUserSpaceKeepsWhatItHasToldThePrograms() async throws {
        try await inWorld(.runsc) { world in
            let booted = Self.limits(256, cpus: 1, pids: 100)
            let fitting = await (try await world.boot(limits: booted)).fitting(bootedWith: booted)
            #expect(fitting.match(Self.limits(256, cpus: 1, pids: 100)) == .same)
            #expect(fitting.match(Self.limits(256, pids: 100)) == .changeable)
            #expect(fitting.match(Self.limits(255, cpus: 1, pids: 100)) == .different)
            #expect(fitting.match(Self.limits(256, cpus: 1, pids: 101)) == .different)
        }
    }

    @Test(arguments: Runtime.allCases)
    func theWritableLayersLimitIsOfTheBoot(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot()
            let fitting = await sandbox.fitting(bootedWith: Limits())
            // What a request leaves open is the same as what it means.
            let meant = world.cgroups.resolve(Limits())
            #expect(fitting.match(Limits(memory: ByteSize(meant.memory), pids: meant.pids)) == .same)
            #expect(fitting.match(Limits(disk: ByteSize(100 << 20))) == .different)
        }
    }

    private static let mounts = """
        30 20 0:40 / / rw - overlay overlay rw
        31 30 0:41 / /tmp rw,nosuid - tmpfs tmpfs rw,size=262144k,uid=7
        32 30 0:300 / /run rw,nosuid - tmpfs tmpfs rw,size=262144k
        33 30 8:1 /var/x /workspace rw - ext4 /dev/a rw
        """

    @Test func onlyWhatABootHasMountedIsTaken() {
        func device(_ path: String, _ text: String, memory: UInt64 = 256 << 20) -> UInt64? {
            OCIFitting.device(of: path, in: MountTable(parsing: text), memory: memory)
        }
        #expect(device("/tmp", Self.mounts) == 41)
        // The way files have it: the low byte of the minor number, then the major one, then the rest of the minor.
        #expect(device("/run", Self.mounts) == 1 << 20 | 44)
        #expect(device("/dev/shm", Self.mounts) == nil)
        #expect(device("/tmp", Self.mounts, memory: 128 << 20) == nil)
        for more in [
            // A folder of the host's memory over it, the same file system elsewhere, another kind, a part of one.
            "34 31 0:50 /var/ws /tmp rw - tmpfs tmpfs rw,size=262144k",
            "34 30 0:41 / /mnt rw - tmpfs tmpfs rw,size=262144k",
            "34 31 8:1 / /tmp rw - ext4 /dev/a rw",
        ] { #expect(device("/tmp", Self.mounts + "\n" + more) == nil, "\(more)") }
        #expect(device("/tmp", "31 30 0:41 /a /tmp rw - tmpfs tmpfs rw,size=262144k") == nil)
        #expect(device("/tmp", "31 30 0:41 / /tmp rw - ramfs none rw,size=262144k") == nil)
    }
}
