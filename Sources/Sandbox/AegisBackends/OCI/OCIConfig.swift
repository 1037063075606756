import AegisSandboxTypes

/// What differs between the configurations of two sandboxes.
struct OCIConfig: Sendable {
    /// A bind mount of the sandbox.
    struct Bind: Sendable, Equatable {
        var source: String
        var target: String
        var readOnly: Bool
    }
    var kind: OCIRuntime.Kind
    var hostname: String
    var layout: RunLayout
    /// First host id of the sandbox's range.
    var idBase: UInt32
    /// Absolute path of the cgroup below each hierarchy.
    var cgroup: String
    /// In bytes; bounds what a tmpfs claims to be, the cgroup bounds what it is.
    var memory: UInt64
    /// Files that a process may have open, at most.
    var openFiles: Int64 = 65_536
    /// Processes and threads inside, at most, where the control group cannot tell them from the runtime's own; nil elsewhere.
    var processes: Int?
    /// See `SeccompProfile.json`.
    var passesUnknown = false
    /// Whether nothing inside can give a file setuid, setgid or capabilities; see `SeccompProfile.json`.
    var guardsSetID = false
    var binds: [Bind]
}

extension OCIConfig {
    /// Ids of one sandbox.
    package static let idCount = SandboxBounds.ids
    /// Where the harness lies inside.
    static let harnessPath = "/.aegis/harness"

    /// Decision D44: what package managers and services need as root inside, and nothing that reaches the host's kernel.
    package static let capabilities = [
        "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP",
        "CAP_KILL",
        "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_SETFCAP",
    ]
    /// What tells about the host or its hardware.
    package static let maskedPaths = [
        "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
        "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ]
    /// What would change the kernel.
    package static let readOnlyPaths = [
        "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
    ]

    /// config.json (OCI runtime specification 1.0.2) with the keeper's placeholders `@USERNS@` and `@NETNS@`.
    func encoded() -> [UInt8] {
        JSONText.object([
            ("ociVersion", .text("1.0.2")), ("process", process),
            ("root", .object([("path", .text(layout.root)), ("readonly", .flag(false))])),
            ("hostname", .text(hostname)),
            ("mounts", .list(mounts)), ("linux", linux),
        ]).bytes
    }

    private var process: JSONText {
        let capabilities = JSONText.texts(Self.capabilities.filter { !guardsSetID || $0 != "CAP_SETFCAP" })
        var limits: [(String, Int64)] = [("RLIMIT_NOFILE", openFiles), ("RLIMIT_CORE", 0)]
        if let processes { limits.append(("RLIMIT_NPROC", Int64(processes))) }
        return .object([
            ("terminal", .flag(false)), ("user", .object([("uid", .number(0)), ("gid", .number(0))])),
            ("args", .texts([Self.harnessPath])),
            ("env", .texts(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"])), ("cwd", .text("/")),
            ("noNewPrivileges", .flag(true)),
            (
                "capabilities",
                .object([
                    ("bounding", capabilities), ("effective", capabilities), ("permitted", capabilities),
                    ("inheritable", .list([])), ("ambient", .list([])),
                ])
            ),
            (
                "rlimits",
                .list(
                    limits.map {
                        .object([("type", .text($0.0)), ("hard", .number($0.1)), ("soft", .number($0.1))])
                    })
            ),
            // Above the host's services: when memory runs out everywhere, workloads go first.
            ("oomScoreAdj", .number(100)),
        ])
    }

    /// Where memory file systems are mounted whose size is that of the sandbox's memory.
    static let rooms = ["/tmp", "/run", "/dev/shm"]
    /// The size of those, in bytes.
    static func room(of memory: UInt64) -> UInt64 { max(memory, 1 << 20) }

    private var mounts: [JSONText] {
        let room = "size=\(Self.room(of: memory))"
        func kernel(_ target: String, _ type: String, _ options: [String]) -> JSONText {
            .object([
                ("destination", .text(target)), ("type", .text(type)), ("source", .text(type)),
                ("options", .texts(options)),
            ])
        }
        let own = [
            kernel("/proc", "proc", ["nosuid", "noexec", "nodev"]),
            kernel("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
            kernel(
                "/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            kernel("/dev/shm", "tmpfs", ["nosuid", "noexec", "nodev", "mode=1777", room]),
            kernel("/dev/mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
            kernel("/sys", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
            kernel("/tmp", "tmpfs", ["nosuid", "nodev", "mode=1777", room]),
            kernel("/run", "tmpfs", ["nosuid", "nodev", "mode=755", room]),
        ]
        let bound = [Bind(source: layout.harness, target: Self.harnessPath, readOnly: true)] + binds
        return own
            + bound.map { bind in
                // The keeper attached the sources nosuid and nodev; a user namespace may not take those flags off.
                .object([
                    ("destination", .text(bind.target)), ("type", .text("bind")), ("source", .text(bind.source)),
                    ("options", .texts(["bind", "nosuid", "nodev", bind.readOnly ? "ro" : "rw"])),
                ])
            }
    }

    private var linux: JSONText {
        var namespaces = ["pid", "mount", "ipc", "uts"].map { JSONText.object([("type", .text($0))]) }
        var members: [(String, JSONText)] = []
        switch kind {
        case .namespaces:
            namespaces.append(.object([("type", .text("cgroup"))]))
            namespaces.append(.object([("type", .text("user")), ("path", .text("@USERNS@"))]))
            namespaces.append(.object([("type", .text("network")), ("path", .text("@NETNS@"))]))
            let range: JSONText = .list([
                .object([
                    ("containerID", .number(0)), ("hostID", .number(Int64(idBase))),
                    ("size", .number(Int64(Self.idCount))),
                ])
            ])
            members.append(("uidMappings", range))
            members.append(("gidMappings", range))
            members.append(("cgroupsPath", .text(cgroup)))
            members.append(
                (
                    "resources",
                    .object([("devices", .list([.object([("allow", .flag(false)), ("access", .text("rwm"))])]))])
                ))
            members.append(("sysctl", .object([("net.ipv4.ip_unprivileged_port_start", .text("0"))])))
        case .userKernel:
            // It is started inside the keeper's namespaces: it stays in the network that it finds itself in.
            break
        }
        members.append(("namespaces", .list(namespaces)))
        members.append(("maskedPaths", .texts(Self.maskedPaths)))
        members.append(("readonlyPaths", .texts(Self.readOnlyPaths)))
        members.append(
            ("seccomp", .encoded(SeccompProfile.encoded(passingUnknown: passesUnknown, guardingSetID: guardsSetID))))
        return .object(members)
    }
}
