import AegisChannel
import AegisCore
import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Synchronization
import Testing

@testable import AegisBackends

/// Real sandboxes, the same tests for every runtime. One after the other: each is a whole boot, and some measure time.
@Suite(.serialized, .timeLimit(.minutes(15)))
struct SandboxTests {
    @Test(arguments: Runtime.allCases)
    func onlyALayerThatGoesWithItsSandboxIsNeverSynced(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            for isEphemeral in [true, true, false] {
                var spec = try world.spec()
                spec.isEphemeral = isEphemeral
                let sandbox = try await world.boot(spec)
                let table = try Files.read("/proc/\(sandbox.record.keeperPid)/mountinfo", limit: 1 << 24)
                let overlay = String(decoding: table, as: UTF8.self).split(separator: "\n")
                    // Not the harness, which is bound in from where it lies: that may be an overlay, too.
                    .first { $0.contains(" - overlay ") && $0.contains(spec.id) && !$0.contains("/harness ") }
                #expect(try #require(overlay).contains("volatile") == isEphemeral)
                let talk = try await Conversation(sandbox)
                #expect(try await talk.run("echo x > /root/x && sync && cat /root/x").stdout == "x\n")
                await sandbox.kill()
                await sandbox.release()
                // Its mark is no hindrance to a second boot of the same layer.
                if isEphemeral { _ = try await world.boot(spec) }
            }
        }
    }

    @Test(arguments: Runtime.allCases)
    func aSandboxBootsRunsAndLeavesNothing(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot()
            #expect(Set(["prepare", "keeper", "save", "boot"]).isSubset(of: sandbox.bootSteps.map(\.name)))
            let talk = try await Conversation(sandbox)
            #expect(talk.state.phase == .running)
            let result = try await talk.run("echo out; echo err >&2; exit 7")
            #expect(result == CommandResult(stdout: "out\n", stderr: "err\n", code: 7))
            let again = try await talk.run("cat /etc/hostname; hostname; whoami; test -d /workspace && echo /workspace")
            #expect(again.code == 0, "\(again)")
            #expect(again.stdout.hasPrefix("box\nbox\nroot\n/workspace\n"))
        }
    }

    @Test(arguments: Runtime.allCases)
    func namespacesAndPrivilegesAreItsOwn(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot()
            let talk = try await Conversation(sandbox)
            let names =
                runtime == .runc
                ? ["pid", "mnt", "ipc", "uts", "net", "user", "cgroup"] : ["user", "net", "mnt", "ipc", "uts"]
            for name in names {
                let inside = try Files.readLink("/proc/\(talk.state.sandboxPid)/ns/\(name)")
                #expect(try inside != Files.readLink("/proc/self/ns/\(name)"), "namespace \(name)")
            }
            // CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT SETFCAP
            let expected: UInt64 = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31].reduce(0) { $0 | 1 << $1 }
            let status = try await talk.run("grep -E '^(CapEff|CapPrm|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status")
            var fields: [String: String] = [:]
            for line in status.stdout.split(separator: "\n") {
                let words = line.split(whereSeparator: \.isWhitespace)
                fields[String(words[0].dropLast())] = String(words[1])
            }
            for name in ["CapEff", "CapPrm", "CapBnd"] {
                #expect(fields[name].flatMap { UInt64($0, radix: 16) } == expected, "\(name) \(fields)")
            }
            #expect(fields["NoNewPrivs"] == "1" || runtime == .runsc, "\(fields)")
            #expect(fields["Seccomp"] == "2", "\(fields)")
        }
    }

    @Test(arguments: Runtime.allCases)
    func theKernelStaysOutOfReach(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot()
            let talk = try await Conversation(sandbox)
            let probe = """
                import ctypes, os, socket
                libc = ctypes.CDLL(None, use_errno=True)
                def call(name, *a):
                    r = getattr(libc, name)(*a)
                    return ctypes.get_errno() if r < 0 else 0
                print("unshare", call("unshare", 0x10000000))
                print("mount", call("mount", b"none", b"/mnt", b"tmpfs", 0, None))
                print("keyctl", call("syscall", 250, 0, 0, 0, 0))
                print("bpf", call("syscall", 321, 0, 0, 0))
                try:
                    socket.socket(socket.AF_PACKET, socket.SOCK_RAW); print("packet 0")
                except OSError as e: print("packet", e.errno)
                for path in ("/proc/sys/kernel/hostname", "/proc/sysrq-trigger"):
                    try: open(path, "w").write("x"); print("wrote", path)
                    except OSError: print("refused", path)
                try: print("kcore", len(open("/proc/kcore", "rb").read(16)))
                except OSError: print("kcore 0")
                print("net", sorted(l.split(":")[0].strip() for l in open("/proc/net/dev").readlines()[2:]))
                s = socket.create_server(("127.0.0.1", 0)); c = socket.create_connection(s.getsockname(), 2); print("lo up")
                """
            let result = try await talk.run("python3 - <<'PY'\n\(probe)\nPY")
            #expect(result.code == 0, "\(result)")
            for line in [
                "unshare 1", "keyctl 1", "bpf 1", "net ['lo']", "lo up", "kcore 0", "refused /proc/sysrq-trigger",
            ] {
                #expect(result.stdout.contains(line + "\n"), "\(line) missing in \(result.stdout)")
            }
            #expect(!result.stdout.contains("mount 0"), "\(result.stdout)")
            #expect(!result.stdout.contains("packet 0"), "\(result.stdout)")
            // gVisor's own, which ends with the sandbox, may be written.
            #expect(!result.stdout.contains("wrote") || runtime == .runsc, "\(result.stdout)")
        }
    }

    @Test(arguments: Runtime.allCases)
    func whatTheProbeFoundOddIsMadeUpFor(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let report = await world.backend.probe(deadline: .seconds(120))
            try #require(report.available, "\(report)")
            let odd = world.backend.quirks.withLock { $0 }
            if runtime == .runc { #expect(odd == 0) }
            let spec = try world.spec()
            let sandbox = try await world.boot(spec)
            let talk = try await Conversation(sandbox)
            let listed = try await talk.run("ls -la / && stat -c %a:%u:%g /etc/passwd && ls -l /etc/nothing")
            #expect(listed.stdout.contains(" workspace\n") && listed.stdout.hasSuffix("\n644:0:0\n"), "\(listed)")
            #expect(listed.code == 2 && listed.stderr.contains("No such file or directory"), "\(listed)")
            let script = """
                import os, threading
                t = threading.Thread(target=lambda: print("thread", flush=True)); t.start(); t.join()
                print(os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1])
                """
            #expect(try await talk.run("python3 - <<'PY'\n\(script)\nPY").stdout == "thread\n0\n")
            let list = try await talk.run("cat /etc/ld.so.preload")
            #expect(list.stdout == (odd & Hello.refusesNoAutomount != 0 ? "/.aegis/shim.so" : ""))
            // Nothing of it is in the sandbox's own layer but mount points.
            let own = spec.writable + "/upper"
            #expect(!Files.exists(own + "/etc/ld.so.preload") && !Files.exists(own + "/.aegis/shim.so"))
        }
    }

    @Test func anImagesOwnListCountsMore() async throws {
        try await inWorld(.runsc) { world in
            _ = await world.backend.probe(deadline: .seconds(120))
            try Files.writeAtomically(world.home.path("image/etc/ld.so.preload"), Array("#own\n".utf8), mode: 0o644)
            let talk = try await Conversation(try await world.boot())
            #expect(try await talk.run("cat /etc/ld.so.preload").stdout == "#own\n")
        }
    }

    /// Prints user and group of paths. (Old gVisor refuses what coreutils' stat asks for.)
    private static let owners =
        "python3 -c 'import os, sys; [print(s.st_uid, s.st_gid) for s in map(os.stat, sys.argv[1:])]'"

    @Test(arguments: Runtime.allCases)
    func theRootsFilesAreItsOwnAndLast(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let spec = try world.spec()
            let first = try await world.boot(spec)
            var talk = try await Conversation(first)
            let made = try await talk.run(
                "echo kept > /kept; chown 1000:1000 /kept; rm /etc/group; mkdir /d; echo x >> /etc/passwd; echo t > /tmp/t; \(Self.owners) /usr/bin/env /etc"
            )
            #expect(made.code == 0, "\(made)")
            #expect(made.stdout == "0 0\n0 0\n", "\(made)")
            await first.kill()
            await first.release()
            let second = try await world.boot(spec)
            #expect(second.record.idBase != first.record.idBase, "the test wants another range of ids")
            talk = try await Conversation(second)
            let found = try await talk.run(
                "cat /kept; \(Self.owners) /kept /d; test -e /etc/group -o -e /tmp/t && echo there; tail -1 /etc/passwd"
            )
            #expect(found.stdout == "kept\n1000 1000\n0 0\nx\n", "\(found)")
            #expect(try Files.status(world.home.path("image/etc/group")).type == .regular, "the image was changed")
        }
    }

    @Test(arguments: Runtime.allCases)
    func twentySandboxesBootAtOnceWithIdsOfTheirOwn(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let specs = try (0..<20).map { _ in try world.spec() }
            let sandboxes = try await withThrowingTaskGroup(of: OCISandbox.self) { group in
                for spec in specs { group.addTask { try await world.boot(spec) } }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(Set(sandboxes.map(\.record.idBase)).count == 20)
            for sandbox in sandboxes {
                let talk = try await Conversation(sandbox)
                let map = try Files.read("/proc/\(talk.state.sandboxPid)/uid_map", limit: 4096)
                let words = String(decoding: map, as: UTF8.self).split(whereSeparator: \.isWhitespace)
                #expect(words.map(String.init) == ["0", "\(sandbox.record.idBase)", "65536"])
                #expect(try await talk.run("echo $$").code == 0)
            }
        }
    }
}
