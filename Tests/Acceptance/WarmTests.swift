import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// Sandboxes that are kept ready: what takes one sees no difference, and nothing is left of them.
@Suite(.serialized) struct WarmTests {
    /// What `aegis status` says of one image.
    struct Warm: Decodable {
        struct Limits: Decodable { var memory: String? }
        var image: String
        var isolation: String?
        var limits: Limits?
        var wanted: Int
        var ready: Int
        var claimed: Int
        var refills: Int
        var obstacle: String?
    }

    static func config(_ instances: String) -> String {
        """
        apiVersion: 100monkeys.ai/v1
        kind: NodeConfig
        metadata: { name: warm }
        spec:
          instances: { \(instances) }
        """
    }

    func warm(_ f: DaemonFixture) async throws -> [Warm] {
        struct Status: Decodable { var warm: [Warm]? }
        let json = try await f.succeed("status", "--output", "json")
        return try JSONDecoder().decode(Status.self, from: Data(json.stdout)).warm ?? []
    }

    func full(_ f: DaemonFixture, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        try await f.eventually("the pool is full", sourceLocation: sourceLocation) {
            let all = try await warm(f)
            return !all.isEmpty && all.allSatisfy { $0.ready == $0.wanted }
        }
    }

    /// Runs a command twice, in a sandbox that was kept ready and in one of its own.
    ///
    /// - Returns: what the commands printed, warm first.
    func both(_ f: DaemonFixture, _ backend: String, _ arguments: [String]) async throws -> [CommandResult] {
        var before = 0
        var claimed: CommandResult
        var tries = 0
        // Other tests use up the machine's memory now and then, and the pool is emptied for that.
        repeat {
            try await full(f)
            before = try await warm(f).reduce(0) { $0 + $1.claimed }
            claimed = try await f.run(DaemonFixture.cli, ["run", "--isolation", backend] + arguments)
            tries += 1
        } while try await warm(f).reduce(0) { $0 + $1.claimed } == before && tries < 4
        #expect(try await warm(f).reduce(0) { $0 + $1.claimed } == before + 1, "\(claimed)")
        // What is to be fetched anew takes no sandbox from the pool; the base image is never fetched.
        let own = try await f.run(DaemonFixture.cli, ["run", "--isolation", backend, "--pull", "always"] + arguments)
        #expect(try await warm(f).reduce(0) { $0 + $1.claimed } == before + 1, "\(own)")
        return [claimed, own]
    }

    /// Everything that a command can see of where it is; what must differ between any two sandboxes is made the same.
    static let look = #"""
        import glob, os, re, resource, socket, stat, subprocess, time
        def read(path):
            try:
                return open(path).read()
            except OSError as error:
                return type(error).__name__
        out = []
        def tell(name, value):
            out.append(f'{name}: {value}')
        tell('host', socket.gethostname() == os.environ['AEGIS_INSTANCE_ID'])
        tell('env', sorted(os.environ.items()))
        tell('ids', (os.getresuid(), os.getresgid(), os.getgroups(), os.getcwd(), os.umask(0o22)))
        tell('session', (os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid(), os.getppid()))
        tell('nice', os.getpriority(os.PRIO_PROCESS, 0))
        tell('cpus', (os.cpu_count(), sorted(os.sched_getaffinity(0)), os.sched_getscheduler(0)))
        tell('memory', [l for l in read('/proc/meminfo').splitlines() if l.startswith('MemTotal')])
        tell('limits', [(n, resource.getrlimit(getattr(resource, n))) for n in dir(resource) if n.startswith('RLIMIT_')])
        for name in ['cgroup', 'mounts', 'limits', 'oom_score_adj', 'oom_score', 'cmdline', 'comm', 'attr/current',
                     'uid_map', 'gid_map', 'setgroups', 'loginuid', 'timens_offsets', 'coredump_filter']:
            text = read(f'/proc/self/{name}')
            tell(name, text)
        # Without the numbers of mounts and devices, of which no two sandboxes share any.
        tell('mountinfo', [re.sub(r'^\d+ \d+ \d+:\d+ ', '', line) for line in read('/proc/self/mountinfo').splitlines()])
        for who in ['self', '1']:
            keep = ('Name', 'Umask', 'State', 'Uid', 'Gid', 'Groups', 'Cap', 'NoNewPrivs', 'Seccomp', 'Sig', 'Shd', 'Speculation',
                    'Cpus_allowed', 'Mems_allowed', 'TracerPid', 'THP', 'CoreDumping')
            tell(who, [l for l in read(f'/proc/{who}/status').splitlines() if l.startswith(keep)])
        tell('fds', sorted((n, re.sub(r'\d+', 'N', os.readlink(f'/proc/self/fd/{n}'))) for n in os.listdir('/proc/self/fd')
                           if os.path.exists(f'/proc/self/fd/{n}')))
        tell('processes', sorted(read(f'/proc/{n}/cmdline') for n in os.listdir('/proc') if n.isdigit() and int(n) != os.getpid()))
        for path in sorted(glob.glob('/etc/*') + glob.glob('/.*') + glob.glob('/*') + glob.glob('/dev/*') + glob.glob('/.aegis/*')
                           + glob.glob('/run/*') + glob.glob('/run/*/*') + glob.glob('/tmp/*') + glob.glob('/workspace/*') + glob.glob('/var/*')):
            s = os.lstat(path)
            size = s.st_size if stat.S_ISREG(s.st_mode) else 0
            tell(path, (oct(s.st_mode), s.st_uid, s.st_gid, size, s.st_rdev))
        for name in ['hosts', 'hostname', 'resolv.conf', 'passwd', 'group', 'nsswitch.conf', 'mtab', 'os-release']:
            tell(name, read(f'/etc/{name}'))
        for path in sorted(glob.glob('/proc/sys/kernel/*') + glob.glob('/proc/sys/net/ipv4/*') + glob.glob('/proc/sys/fs/*')
                           + glob.glob('/proc/sys/vm/*')):
            name = os.path.basename(path)
            if os.path.isfile(path) and name not in ('ns_last_pid', 'pty') and not re.match('(dentry|file|inode)-', name):
                tell(path, read(path))
        tell('links', sorted(os.listdir('/sys/class/net')) if os.path.isdir('/sys/class/net') else None)
        # Those that listen: the router knocks while a server starts, and its connection may be seen.
        listeners = [l for l in read('/proc/net/tcp').splitlines()[1:] if l.split()[3] == '0A']
        tell('sockets', [len(listeners)] + [len(read(f'/proc/net/{n}').splitlines()) for n in ('udp', 'unix')])
        for path in ['/', '/tmp', '/run', '/dev/shm', '/workspace']:
            v = os.statvfs(path)
            tell(f'room {path}', (v.f_bsize, v.f_blocks if path != '/' else 0, v.f_flag, v.f_namemax))
        tell('doors', [socket.socket().connect_ex(('127.0.0.1', port)) for port in (7777, 9000)])
        # Of now, whenever the sandbox was made.
        tell('age of the workspace', time.time() - os.stat('/workspace').st_mtime < 60)
        tell('writable', [subprocess.run(['sh', '-c', f': > {p}/x && rm {p}/x'], capture_output=True).returncode
                          for p in ('/', '/etc', '/tmp', '/run', '/workspace', '/proc/sys', '/.aegis', '/dev')])
        text = '\n'.join(out).replace(os.environ['AEGIS_INSTANCE_ID'], 'ID')
        # The host's ids are another range each time.
        text = re.sub(r'\b1[0-9]{9}\b', lambda m: f'BASE+{int(m[0]) % 65536}', text)
        print(re.sub(r'0x[0-9a-f]{6,}', 'ADDRESS', text))
        """#

    @Test(arguments: backends) func aClaimedSandboxDiffersInNothing(_ backend: String) async throws {
        try await DaemonFixture.with(config: Self.config("warm: { base@\(backend): 1 }")) { f in
            for extra in [
                [], ["--user", "nobody"],
                ["--env", "A=b", "--workdir", "/var/x", "--label", "l=1", "--timeout", "60s"],
                ["-i"], ["-t"], ["--guest-api", "off"], ["--guest-api", "9000"],
            ] {
                let seen = try await both(f, backend, extra + ["--", "python3", "-c", Self.look])
                #expect(seen.allSatisfy { $0.code == 0 && $0.err.isEmpty && $0.out.utf8.count > 2000 }, "\(seen)")
                let (claimed, own) = (seen[0].out.split(separator: "\n"), seen[1].out.split(separator: "\n"))
                let difference = claimed.difference(from: own).map { "\($0)" }.joined(separator: "; ")
                #expect(difference == "", "\(extra)")
            }
        }
    }

    @Test(arguments: backends) func whatAsksForMoreTakesNone(_ backend: String) async throws {
        try await DaemonFixture.with(config: Self.config("warm: { base@\(backend): 1 }")) { f in
            try await full(f)
            for (extra, expected) in [
                (["--name", "mine"], "mine\n"), (["--disk", "64Mi"], ""), (["--workspace", "kept"], ""),
                (["--mount", "/etc/hostname:/h"], ""),
            ] + (backend == "runsc" ? [(["--memory", "256Mi"], ""), (["--pids", "100"], "")] : []) {
                let result = try await f.run(
                    DaemonFixture.cli, ["run", "--isolation", backend] + extra + ["--", "hostname"])
                #expect(result.code == 0 && (expected.isEmpty || result.out == expected), "\(extra): \(result)")
            }
            let other = backend == "runc" ? "runsc" : "runc"
            #expect(try await f.succeed("run", "--isolation", other, "--", "echo", "x").out == "x\n")
            #expect(try await warm(f).allSatisfy { $0.claimed == 0 && $0.ready == 1 })
            // Streams, exit codes and files of a claimed one are those of any other.
            let output = try await f.run(
                DaemonFixture.cli,
                [
                    "run", "--isolation", backend, "-i", "--artifacts", f.path("out"), "--", "sh", "-c",
                    "mkdir output; cat > output/f; echo err >&2; exit 7",
                ], input: Array("given".utf8))
            #expect(output.code == 7 && output.err.hasPrefix("err\n"), "\(output)")
            #expect(try String(contentsOfFile: f.path("out/f"), encoding: .utf8) == "given")
            #expect(try await warm(f).allSatisfy { $0.claimed == 1 })
            #expect(try await f.list().isEmpty)
        }
    }

    @Test(arguments: backends) func anotherUsersRunTakesOne(_ backend: String) async throws {
        try await DaemonFixture.with(config: Self.config("warm: { base@\(backend): 1 }")) { f in
            try await full(f)
            let run = try await f.aegis(
                as: stranger, "run", "--isolation", backend, "--", "sh", "-c", "id -u; stat -c %u /workspace; echo > x")
            #expect(run.code == 0 && run.out == "0\n0\n", "\(run)")
            #expect(try await warm(f).allSatisfy { $0.claimed == 1 })
            #expect(try await f.list().isEmpty)
        }
    }

    /// Fills memory beyond what is to stay free, and keeps tasks waiting for it: the pool goes first, and comes back.
    @Test(
        .enabled(
            if: FileManager.default.isWritableFile(atPath: "/proc/pressure/memory"), "the kernel counts no pressure"),
        arguments: backends)
    func thePoolGoesWhenMemoryIsScarce(_ backend: String) async throws {
        @Sendable func available() throws -> Int {
            let text = try kernelText("/proc/meminfo")
            let line = text.split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
            return try #require(line?.split(separator: " ").dropFirst().first.flatMap { Int($0) }) >> 10
        }
        try await HostMemory.alone {
            let kept = try available() - 1500
            try await DaemonFixture.with(config: Self.config("warm: { base@\(backend): 1 }, warm_reserve: \(kept)Mi")) {
                f in
                try await full(f)
                let filler = "/dev/shm/aegis-test-\(try Random.hex(bytes: 6))"
                defer { try? Files.removeFile(filler) }
                let size = try available() - kept + 700
                #expect(try await f.run("/usr/bin/fallocate", ["-l", "\(size)M", filler]).code == 0)
                // More of a file is wanted all the time than fits: its pages come and go.
                let file = f.path("big")
                let made = try await f.run(
                    "/bin/sh",
                    [
                        "-c",
                        "head -c 60M /dev/urandom >'\(file)'; sync '\(file)'; dd if='\(file)' iflag=nocache count=0",
                    ])
                #expect(made.code == 0, "\(made)")
                let script = """
                    import mmap, os, random
                    for i in range(3): os.fork()
                    f = open('/big', 'rb')
                    m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
                    m.madvise(mmap.MADV_RANDOM)
                    while True:
                        for i in range(20000): m[random.randrange(len(m) // 2)]
                    """
                let busy = try f.begin(
                    "run", "--isolation", backend, "--memory", "24Mi", "--timeout", "120s", "--mount", "\(file):/big",
                    "--",
                    "python3", "-c", script)
                try await f.eventually("the pool has gone") {
                    try await warm(f).allSatisfy { $0.ready == 0 && $0.obstacle != nil }
                }
                try Files.removeFile(filler)
                _ = busy.child.signal(SIGTERM)
                _ = try await busy.result()
                try await full(f)
            }
        }
    }

    /// What is there of sandboxes: folders, ranges of ids, groups and keepers.
    func remains(_ f: DaemonFixture) throws -> [String] {
        let node = try f.node
        var found: [String] = []
        for folder in ["instances", "workspaces", "workspaces/.records", "logs", "warm"] {
            let names = (try? FileManager.default.contentsOfDirectory(atPath: "\(f.home)/\(folder)")) ?? []
            found += names.filter { $0.hasPrefix("i-") }.map { "\(folder)/\($0)" }
        }
        found += ((try? FileManager.default.contentsOfDirectory(atPath: "/run/aegis/\(node)")) ?? [])
            .filter { $0.hasPrefix("i-") }
        for range in (try? FileManager.default.contentsOfDirectory(atPath: "/run/aegis/ids")) ?? [] {
            let owner = f.text("/run/aegis/ids/\(range)") ?? ""
            if owner.hasPrefix("/run/aegis/\(node)/i-") { found.append("range \(range) of \(owner)") }
        }
        for root in (try? FileManager.default.contentsOfDirectory(atPath: "/sys/fs/cgroup")) ?? [] {
            let groups = try? FileManager.default.contentsOfDirectory(atPath: "/sys/fs/cgroup/\(root)/aegis-\(node)")
            found += (groups ?? []).filter { $0.hasPrefix("i-") }.map { "\(root)/\($0)" }
        }
        // A keeper outlives its folder, but its console goes on naming it.
        for pid in (try FileManager.default.contentsOfDirectory(atPath: "/proc")).compactMap({ Int32($0) }) {
            let console = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/fd/1")
            if let console, console.hasPrefix("/run/aegis/\(node)/i-") { found.append("process \(pid) of \(console)") }
        }
        return found
    }

    @Test(arguments: backends) func nothingIsLeftOfThem(_ backend: String) async throws {
        try await DaemonFixture.with(config: Self.config("warm: { base@\(backend): 2 }")) { f in
            try await full(f)
            #expect(try await f.list().isEmpty)
            #expect(try !remains(f).isEmpty)
            try await f.crash()
            try Self.config("max: 10").write(toFile: "\(f.home)/aegis-config.yaml", atomically: true, encoding: .utf8)
            try await f.up()
            #expect(try await warm(f).isEmpty)
            #expect(try remains(f) == [])
            // And with a daemon that ends as it should.
            try await f.succeed("down")
            try await f.succeed("up", "--ports", "auto", "--warm", "base@\(backend)=1")
            try await full(f)
            try await f.succeed("down")
            #expect(try remains(f) == [])
            try await f.up()
        }
    }

    /// One of runsc is frozen until it is taken, and dies only then: whoever wants one does not get that.
    @Test func oneThatIsKilledWhileItIsFrozenIsNobodys() async throws {
        try await DaemonFixture.with(config: Self.config("warm: { base@runsc: 1 }")) { f in
            try await full(f)
            let id = try #require(
                try FileManager.default.contentsOfDirectory(atPath: "\(f.home)/warm").first { $0.hasPrefix("i-") })
            for pid in try f.processes(of: id) { kill(pid, SIGKILL) }
            #expect(try await f.succeed("run", "--isolation", "runsc", "--", "echo", "well").out == "well\n")
            try await full(f)
            #expect(try await f.succeed("run", "--isolation", "runsc", "--", "echo", "again").out == "again\n")
        }
    }

    @Test func oneThatEndsByItselfIsReplaced() async throws {
        try await DaemonFixture.with(config: Self.config("warm: { base@runc: 1 }")) { f in
            try await full(f)
            let id = try #require(
                try FileManager.default.contentsOfDirectory(atPath: "\(f.home)/warm").first { $0.hasPrefix("i-") })
            for pid in try f.processes(of: id) { kill(pid, SIGKILL) }
            try await f.eventually("it is replaced") {
                try await warm(f).allSatisfy { $0.refills == 2 && $0.ready == 1 }
            }
            #expect(try await f.succeed("run", "--isolation", "runc", "--", "echo", "well").out == "well\n")
            #expect(try await warm(f).allSatisfy { $0.claimed == 1 })
        }
    }

    @Test(arguments: backends) func anInstanceThatHadClaimedOneStartsAfterACrash(_ backend: String) async throws {
        try await DaemonFixture.with(config: Self.config("warm: { base@\(backend): 1 }")) { f in
            try await full(f)
            let made = try await f.run(
                "/usr/bin/curl",
                [
                    "-sS", "--unix-socket", "\(f.home)/aegisd.sock", "-H", "Content-Type: application/json", "-d",
                    ##"{"command":["echo","late"],"isolation":"\##(backend)","ephemeral":true,"start":false}"##,
                    "http://localhost/v1/instances",
                ])
            let id = try JSONDecoder().decode(Record.self, from: Data(made.stdout)).id
            #expect(try await warm(f).allSatisfy { $0.claimed == 1 })
            try await f.crash()
            try await f.up()
            #expect(try await f.record(id).state == "stopped")
            try await full(f)
            let started = try await f.aegis("instance", "start", id)
            #expect(started.code == 0, "\(started)")
            try await f.eventually("it has run") {
                let logs = try await f.aegis("logs", id)
                return logs.out == "late\n" || logs.code != 0
            }
        }
    }

    @Test(arguments: backends) func thePoolIsBounded(_ backend: String) async throws {
        try await DaemonFixture.with(config: Self.config("warm: { base@\(backend): 4 }, warm_memory: 1Mi")) { f in
            try await f.eventually("it is said why there is none") {
                try await warm(f).first?.obstacle?.contains("1 MiB that they may") ?? false
            }
            // Nor is one made that nobody counts.
            #expect(try await warm(f).allSatisfy { $0.ready == 0 && $0.refills == 0 })
            #expect(try remains(f) == [])
            #expect(try await f.succeed("run", "--isolation", backend, "--", "echo", "cold").out == "cold\n")
            #expect(try await warm(f).allSatisfy { $0.claimed == 0 && $0.refills == 0 })
            try await f.succeed("down")
            try Self.config("warm: { base@\(backend): 4 }, warm_reserve: 900Ti").write(
                toFile: "\(f.home)/aegis-config.yaml", atomically: true, encoding: .utf8)
            try await f.up()
            try await f.eventually("it is said why there is none") {
                try await warm(f).first?.obstacle?.contains("are kept free") ?? false
            }
            #expect(try await warm(f).allSatisfy { $0.ready == 0 && $0.refills == 0 })
        }
    }

    @Test func aWrongWishIsRefused() async throws {
        try await DaemonFixture.with { f in
            try await f.succeed("down")
            for (wish, said) in [
                ("base@gvisor=1", "not an isolation"), ("base=65", "out of range"), ("base=x", "whole number"),
                ("@runc=1", "needs an image"), ("base+mem=1Gi=1", "did you mean 'memory'?"),
                ("base+memory=512Mi", "whole number"), ("base+memory=1Mi=1", "too small"), ("Base=1", "lower case"),
            ] {
                let result = try await f.aegis("up", "--ports", "auto", "--warm", wish)
                #expect(result.code != 0 && result.err.contains(said), "\(wish): \(result)")
            }
            try await f.succeed(
                "up", "--ports", "auto", "--warm", "1", "--warm", "base@runc=1", "--warm",
                "base@runc+memory=512Mi+cpus=0.5=1")
            let all = try await warm(f)
            #expect(all.count == 3 && all.allSatisfy { $0.wanted == 1 }, "\(all)")
            #expect(all.filter { $0.limits != nil }.count == 1, "\(all)")
        }
    }
}
