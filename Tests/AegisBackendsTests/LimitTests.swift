import AegisChannel
import AegisCore
import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisBackends

/// What a sandbox may use, and what is seen when it wants more.
@Suite(.serialized, .timeLimit(.minutes(15)))
struct LimitTests {
    @Test(arguments: Runtime.allCases)
    func ourOwnFilesInsideCountForTheLimit(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot(limits: Limits(disk: ByteSize(20 << 20)))
            let talk = try await Conversation(sandbox)
            let owner = "import os; s = os.stat('/etc/hosts'); print(s.st_uid, s.st_gid, oct(s.st_mode))"
            let read = try await talk.run("cat /etc/hosts /etc/hostname; python3 -c \"\(owner)\"")
            let wanted = "127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost\nbox\n0 0 0o100644\n"
            #expect(read.stdout == wanted, "\(read)")
            for name in ["hosts", "hostname"] {
                let full = try await talk.run("head -c 60000000 /dev/zero > /etc/\(name)")
                #expect(full.code != 0, "\(name): \(full)")
                _ = try await talk.run("echo changed > /etc/\(name)")
            }
            // Nothing of the run directory can be written from inside.
            let folder = sandbox.record.runDirectory
            let size = try Files.list(folder).reduce(UInt64(0)) {
                $0 + ((try? Files.status("\(folder)/\($1.name)", followLinks: false).size) ?? 0)
            }
            #expect(size < 1 << 20, "\(size) bytes in the run directory")
        }
    }

    @Test(arguments: Runtime.allCases)
    func memoryEndsWithAnOutOfMemoryKillThatIsReported(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot(limits: Limits(memory: ByteSize(96 << 20)))
            let talk = try await Conversation(sandbox)
            // In runsc all memory is the sandbox's own process: it ends as a whole.
            let result = try? await talk.run("python3 -c 'x = bytearray(b\"x\") * (300 << 20); print(len(x))'")
            if runtime == .runc { #expect(result?.code == 137, "\(String(describing: result))") }
            #expect(result?.stdout ?? "" == "")
            #expect(try await sandbox.usage().oomKills > 0)
            await sandbox.kill()
            talk.stream.close()
            let end = await sandbox.termination()
            #expect(end.oomKilled)
            #expect(end.code == 137)
        }
    }

    @Test(arguments: Runtime.allCases)
    func temporaryFilesCountAsMemory(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot(limits: Limits(memory: ByteSize(96 << 20)))
            let talk = try await Conversation(sandbox)
            let result = try? await talk.run("head -c 300000000 /dev/zero > /tmp/big; echo written $?")
            #expect(result?.stdout != "written 0\n")
        }
    }

    @Test(arguments: Runtime.allCases)
    func aForkBombStaysInside(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot(limits: Limits(pids: 64))
            let talk = try await Conversation(sandbox)
            let script = """
                import os, sys, time
                n = 0
                try:
                    for i in range(2000):
                        if os.fork() == 0: time.sleep(600)
                        n += 1
                except OSError as e: print("refused", n, e.errno, flush=True)
                """
            let result = try? await talk.run("python3 - <<'PY'\n\(script)\nPY")
            let pids = try await sandbox.usage().pids
            // gVisor's own threads are among them.
            #expect(pids <= (runtime == .runsc ? 64 * 6 + 128 : 64), "\(pids)")
            // The harness, the shell and the script itself are the other three.
            #expect(result?.stdout == "refused 61 11\n", "\(String(describing: result))")
        }
    }

    @Test(arguments: Runtime.allCases)
    func theLowestLimitIsEnoughToStartAndHolds(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot(limits: Limits(pids: 4))
            let talk = try await Conversation(sandbox)
            #expect(try await talk.run("echo $(echo here)").stdout == "here\n")
            let result = try await talk.run("sleep 100 & sleep 100 & sleep 100; echo not refused")
            #expect(result.code == 2 && result.stdout.isEmpty, "\(result)")
            #expect(result.stderr.lowercased().contains("fork"), "\(result)")
        }
    }

    @Test(arguments: Runtime.allCases)
    func limitsChangeWhileItRuns(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot(limits: Limits(cpus: 1, memory: ByteSize(128 << 20), pids: 100))
            let talk = try await Conversation(sandbox)
            func limit(_ controller: String, _ v1: String, _ v2: String) throws -> String {
                let folder = try #require(sandbox.group.folder(controller))
                let name = world.cgroups.layout.version(of: controller) == .v1 ? v1 : v2
                return try ControlFile.read("\(folder)/\(name)")
            }
            #expect(try limit("memory", "memory.limit_in_bytes", "memory.max") == "\(128 << 20)")
            #expect(try limit("cpu", "cpu.cfs_quota_us", "cpu.max").hasPrefix("100000"))
            try await sandbox.update(Limits(cpus: 0.5, memory: ByteSize(400 << 20), pids: 200))
            #expect(try limit("memory", "memory.limit_in_bytes", "memory.max") == "\(400 << 20)")
            #expect(try limit("cpu", "cpu.cfs_quota_us", "cpu.max").hasPrefix("50000"))
            let result = try await talk.run("python3 -c 'print(len(bytearray(b\"x\") * (200 << 20)))'")
            #expect(result.stdout == "\(200 << 20)\n", "\(result)")
            try await sandbox.update(Limits(memory: ByteSize(200 << 20)))
            #expect(try limit("memory", "memory.limit_in_bytes", "memory.max") == "\(200 << 20)")
            #expect(
                try limit("cpu", "cpu.cfs_quota_us", "cpu.max").hasPrefix("-1")
                    || world.cgroups.layout.version(of: "cpu") == .v2)
            let usage = try await sandbox.usage()
            #expect(
                usage.memoryBytes > 0 && usage.cpuMicroseconds > 0 && usage.pids > 0 && usage.oomKills == 0, "\(usage)")
        }
    }

    @Test(arguments: Runtime.allCases)
    func aLimitBelowWhatIsUsedIsRefusedAndKillsNobody(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot(limits: Limits(memory: ByteSize(512 << 20)))
            let talk = try await Conversation(sandbox)
            let script = """
                python3 -c 'import time
                held = bytearray(b"x") * (200 << 20)
                open("/tmp/held", "w").close()
                time.sleep(600)' &
                until [ -e /tmp/held ]; do sleep 0.1; done; echo $!
                """
            let program = try await talk.run(script).stdout.split(separator: "\n").joined()
            let error = await #expect(throws: AegisError.self) {
                try await sandbox.update(Limits(memory: ByteSize(128 << 20)))
            }
            #expect(error?.code == "memory-in-use")
            #expect(try await talk.run("kill -0 \(program) && echo lives").stdout == "lives\n")
            try await sandbox.update(Limits(memory: ByteSize(384 << 20)))
            #expect(try await sandbox.usage().oomKills == 0)
        }
    }

    @Test(arguments: Runtime.allCases)
    func theProcessorQuotaHolds(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot(limits: Limits(cpus: 0.2))
            let talk = try await Conversation(sandbox)
            let before = (world.loop.clock.now, try await sandbox.usage().cpuMicroseconds)
            let result = try await talk.run(
                "python3 -c 'import time\nt = time.monotonic()\nwhile time.monotonic() < t + 1: pass'")
            #expect(result.code == 0)
            let wall = before.0.duration(to: world.loop.clock.now)
            let used = Duration.microseconds(Int64(try await sandbox.usage().cpuMicroseconds - before.1))
            #expect(used < wall * 0.4, "\(used) of \(wall)")
        }
    }

    @Test(arguments: Runtime.allCases)
    func aFullDiskIsTheSandboxsOwn(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let spec = try world.spec(limits: Limits(disk: ByteSize(32 << 20)))
            let sandbox = try await world.boot(spec)
            let talk = try await Conversation(sandbox)
            let full = try await talk.run("head -c 100000000 /dev/zero > /var/big; echo $?; sync; wc -c < /var/big")
            let words = full.stdout.split(separator: "\n").map(String.init)
            #expect(words.first == "1", "\(full)")
            #expect((words.last.flatMap { Int($0) } ?? 0) <= 32 << 20, "\(full)")
            #expect(full.stderr.contains("No space left") || full.stderr.contains("quota"), "\(full)")
            // The neighbour has its own room, and the host its own.
            let other = try await world.boot(limits: Limits(disk: ByteSize(64 << 20)))
            #expect(try await Conversation(other).run("head -c 40000000 /dev/zero > /var/big && sync").code == 0)
            let again = try await talk.run(
                "rm /var/big && sync && head -c 10000000 /dev/zero > /var/small && sync && echo fine")
            #expect(again.stdout == "fine\n", "\(again)")
            try await sandbox.update(Limits(disk: ByteSize(128 << 20)))
            #expect(
                try await talk.run("head -c 60000000 /dev/zero > /var/more && sync && echo more").stdout == "more\n")
            // What was written is there again after a restart, and gone with the instance.
            await sandbox.kill()
            await sandbox.release()
            let second = try await world.boot(spec)
            #expect(try await Conversation(second).run("wc -c < /var/small").stdout == "10000000\n")
            await second.kill()
            await second.release()
            await world.disk.remove(spec.id, wasLimited: true)
            #expect(world.disk.layers() == [other.record.id])
        }
    }
}
