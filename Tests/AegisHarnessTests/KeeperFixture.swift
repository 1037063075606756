import AegisChannel
import CHarness
import Glibc
import Synchronization
import Testing

/// The runtimes that the keeper is tested with.
enum Runtime: String, CaseIterable, Sendable {
    case runc, runsc
    var path: String { self == .runc ? "/usr/sbin/runc" : "/usr/bin/runsc" }
}

/// A keeper with a sandbox of its own: root tree from a static busybox, bundle, sockets; all of it goes at the end.
final class KeeperFixture {
    let runtime: Runtime
    let scratch: Scratch
    let id: String
    let pid: pid_t
    /// The first daemon's connection.
    let client: ChannelClient
    let cgroup: String
    private let base: UInt32
    private var isOver = false

    /// Gives each fixture an id range and a name of its own.
    private static let counter = Atomic<UInt32>(0)

    init(_ runtime: Runtime, root: ((String) throws -> Void)? = nil) throws {
        self.runtime = runtime
        scratch = try Scratch()
        let number = Self.counter.add(1, ordering: .relaxed).newValue
        base = 1_000_000 + number * 65_536
        id = "aht-\(getpid())-\(number)"
        cgroup = "/sys/fs/cgroup/freezer/\(id)"
        unsafe chmod(scratch.path, 0o711)
        try Self.makeRoot(scratch.path + "/image")
        try root?(scratch.path + "/image")
        for name in ["lower", "root"] { unsafe mkdir("\(scratch.path)/\(name)", 0o755) }
        unsafe mkdir(cgroup, 0o755)
        let listener = try listen(scratch.path + "/keep.sock")
        let image = unsafe open(scratch.path + "/image", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        let harness = unsafe open(Binary.path, O_RDONLY | O_CLOEXEC)
        let null = unsafe open("/dev/null", O_RDWR | O_CLOEXEC)
        let log = unsafe open(scratch.path + "/keep.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        let (ours, theirs) = try socketPair()
        defer { for descriptor in [image, harness, null, log, theirs, listener] { close(descriptor) } }
        pid = try spawn(
            [Binary.path, "keep"],
            descriptors: [(0, null), (1, log), (2, log), (3, theirs), (4, listener), (5, image), (6, harness)])
        client = ChannelClient(ours)
    }

    /// A root tree of nothing but busybox.
    private static func makeRoot(_ path: String) throws {
        let script = """
            set -e; mkdir -p \(path)/bin \(path)/usr/bin \(path)/etc \(path)/proc \(path)/dev \(path)/sys \(path)/tmp \(path)/root
            cp /bin/busybox \(path)/usr/bin/busybox; ln -s ../usr/bin/busybox \(path)/bin/busybox; /bin/busybox --install -s \(path)/bin
            echo 'root:x:0:0::/root:/bin/sh' > \(path)/etc/passwd; echo 'app:x:1000:1000::/home/app:/bin/sh' >> \(path)/etc/passwd
            echo 'root:x:0:' > \(path)/etc/group; echo 'app:x:1000:' >> \(path)/etc/group
            """
        guard run(["/bin/sh", "-c", script]) == 0 else { throw TestFailure("the root tree (is busybox-static there?)") }
    }

    // MARK: The plan

    func plan(deadline: UInt32 = 30_000) -> BootPlan {
        func path(_ name: String) -> [UInt8] { Array("\(scratch.path)/\(name)".utf8) }
        let map = [IDRange(inside: 0, outside: base, count: 65_536)]
        return BootPlan(
            uids: map, gids: map, maps: [IDMap(uids: [], gids: [])],
            mounts: [
                .idmapped(source: 5, map: 0, target: path("lower"), readOnly: true),
                .makeDirectory(path("work")), .makeDirectory(path("upper/.aegis")),
                .makeFile(path("upper/.aegis/harness")),
                .overlay(lower: [path("lower")], upper: path("upper"), work: path("work"), target: path("root")),
                .bind(source: 6, target: path("root/.aegis/harness"), readOnly: true),
                .makeDirectory(path("run/state")),
            ],
            entry: runtime == .runc ? .byPath : .inside,
            runtime: arguments.map { Array($0.utf8) }, environment: [Array("PATH=/usr/sbin:/usr/bin:/sbin:/bin".utf8)],
            configPath: path("run/config.json"), config: Array(config.utf8), pidFile: path("run/pid"),
            cgroupProcs: [Array("\(cgroup)/cgroup.procs".utf8)], deadline: deadline)
    }

    private var arguments: [String] {
        let bundle = scratch.path + "/run"
        return runtime == .runc
            ? [
                runtime.path, "--root", bundle + "/state", "run", "-d", "--bundle", bundle, "--pid-file",
                bundle + "/pid", id,
            ]
            : [
                runtime.path, "--root", bundle + "/state", "--network=host", "--ignore-cgroups", "--platform=ptrace",
                "run",
                "-detach", "-bundle", bundle, "-pid-file", bundle + "/pid", id,
            ]
    }

    private var config: String {
        let capabilities =
            #"["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FOWNER","CAP_FSETID","CAP_SETUID","CAP_SETGID","CAP_SETPCAP","CAP_KILL"]"#
        let byPath = #"{"type":"user","path":"@USERNS@"},{"type":"network","path":"@NETNS@"}"#
        let maps =
            #""uidMappings":[{"containerID":0,"hostID":\#(base),"size":65536}],"gidMappings":[{"containerID":0,"hostID":\#(base),"size":65536}],"#
        return #"""
            {"ociVersion":"1.0.2","hostname":"test","root":{"path":"\#(scratch.path)/root"},
            "process":{"terminal":false,"user":{"uid":0,"gid":0},"args":["/.aegis/harness"],"env":["PATH=/bin"],"cwd":"/",
            "noNewPrivileges":true,"capabilities":{"bounding":\#(capabilities),"effective":\#(capabilities),"permitted":\#(capabilities)}},
            "mounts":[{"destination":"/proc","type":"proc","source":"proc","options":["nosuid","noexec","nodev"]},
            {"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","mode=755","size=65536k"]},
            {"destination":"/dev/pts","type":"devpts","source":"devpts","options":["nosuid","noexec","newinstance","ptmxmode=0666","mode=0620","gid=5"]},
            {"destination":"/tmp","type":"tmpfs","source":"tmpfs","options":["nosuid","nodev","mode=1777"]}],
            "linux":{\#(runtime == .runc ? maps : "")\#(runtime == .runc ? "\"cgroupsPath\":\"/\(id)/c\"," : "")"namespaces":[{"type":"pid"},{"type":"mount"},{"type":"ipc"},
            {"type":"uts"},\#(runtime == .runc ? byPath : #"{"type":"network"}"#)],"maskedPaths":["/proc/kcore"],"readonlyPaths":["/proc/sys"]}}
            """#
    }

    /// Boots and waits until the sandbox is up.
    @discardableResult
    func boot(_ change: (inout BootPlan) -> Void = { _ in }) throws -> Booted {
        try sendPlan(change)
        try client.wait("boot; log: \(log)", seconds: 40) { $0.booted != nil || $0.bootFailed != nil }
        guard let booted = client.booted else { throw TestFailure("boot failed: \(client.summary)\n\(log)") }
        return booted
    }

    func sendPlan(_ change: (inout BootPlan) -> Void = { _ in }) throws {
        var plan = plan()
        change(&plan)
        try client.send(.boot, plan.encoded())
    }

    /// Runs something else as the sandbox's first process, with the channel as its stdin and stdout.
    func usingHarness(_ arguments: [String]) -> (inout BootPlan) -> Void {
        { plan in
            let list = arguments.map { "\"" + $0.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") + "\"" }
            let text = String(decoding: plan.config, as: UTF8.self)
            plan.config = Array(
                text.replacing(#"["/.aegis/harness"]"#, with: "[" + list.joined(separator: ",") + "]").utf8)
        }
    }

    /// A further connection; the caller says `attach`.
    func connect() throws -> ChannelClient {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = unixAddress(scratch.path + "/keep.sock")
        let result = unsafe withUnsafePointer(to: &address) {
            unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result == 0 else {
            close(descriptor)
            throw TestFailure("connect: errno \(errno)")
        }
        return ChannelClient(descriptor)
    }

    func attach() throws -> ChannelClient {
        let client = try connect()
        try client.send(.attach, Attach().encoded())
        try client.wait("state") { $0.state != nil }
        return client
    }

    var log: String { (try? contents(scratch.path + "/keep.log")).map { String(decoding: $0, as: UTF8.self) } ?? "" }

    /// The keeper's exit code.
    func waitForKeeper(seconds: Double = 30) throws -> Int32 {
        guard let code = waitForExit(pid, seconds: seconds) else {
            throw TestFailure("the keeper does not end\n\(log)")
        }
        isOver = true
        return code
    }

    /// Kills what runs, takes the last record and lets the keeper go.
    func end(_ client: ChannelClient? = nil) throws {
        let client = client ?? self.client
        try client.send(.kill)
        try client.wait("ended", seconds: 30) { $0.ended != nil }
        try client.send(.release)
        #expect(try waitForKeeper() == 0)
    }

    deinit {
        if !isOver {
            if let killer = try? connect() { try? killer.send(.kill) }
            client.close()
            // One that never booted has gone by now.
            if waitForExit(pid, seconds: 0.5) == nil, let last = try? attach() {
                try? last.wait("end", seconds: 10) { $0.ended != nil || $0.bootFailed != nil }
                try? last.send(.release)
            }
            if waitForExit(pid, seconds: 10) == nil, pid > 1 {
                kill(pid, SIGKILL)
                _ = waitForExit(pid, seconds: 5)
            }
        }
        let limit = now() + 10
        run([
            "/bin/sh", "-c", "for d in /sys/fs/cgroup/*/\(id)/c /sys/fs/cgroup/*/\(id); do [ -d $d ] && rmdir $d; done",
        ])
        while unsafe rmdir(cgroup) != 0 && errno == EBUSY && now() < limit { sched_yield() }
    }
}

/// The address of a Unix socket.
func unixAddress(_ path: String) -> sockaddr_un {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path.utf8) }
    return address
}

func listen(_ path: String) throws -> Int32 {
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = unixAddress(path)
    let result = unsafe withUnsafePointer(to: &address) {
        unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            unsafe bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
    }
    guard result == 0, Glibc.listen(descriptor, 8) == 0 else { throw TestFailure("listen: errno \(errno)") }
    return descriptor
}
