import CLinux
import CSeccomp

/// The walls that a helper puts around itself before it reads a hostile byte (D30).
///
/// Its own user namespace, whose root is an unused host id that owns nothing outside; a directory of the store reaches it
/// as a mount on which that root is the disk's root. Fresh mount, IPC and UTS namespaces, an empty network (except when it
/// fetches), nothing to see but an empty root, Landlock, a list of allowed system calls, limits, no descriptor but its own.
enum Confinement {
    /// The first host id of the helper's user namespace: outside of the ranges that people, containers and services get.
    static let firstID: UInt32 = 0x7000_0000
    /// How many ids it has: more than a sandbox, so that images that others have read can be opened too.
    static let idCount: UInt32 = 0x0FFE_0000

    /// Limits of a helper.
    struct Limits {
        /// Bytes of address space.
        var memory: UInt64
        /// Seconds of processor time.
        var processor: UInt64
        /// Bytes of one file.
        var fileSize: UInt64
        var files: UInt64 = 64
    }

    /// Descriptors that a helper may have: 0 to 2, the report and one more.
    static let report: Int32 = 3
    static let directory: Int32 = 4

    /// Confines a helper that only reads and writes its descriptors and, if `directory` is given, fills that directory.
    ///
    /// - Returns: the descriptor by which the directory is to be used from now on.
    static func apply(directory: Int32?, limits: Limits) throws(HelperFailure) -> Int32 {
        let parent = al_confine_parent()
        let keep: [Int32] = [0, 1, 2, report] + (directory.map { [$0] } ?? [])
        try checked(unsafe al_confine_close_others(keep, keep.count), "closing descriptors")
        let namespace = try userNamespace()
        let mount = Handle(
            try directory.map { raw throws(HelperFailure) in try mapped(raw, in: namespace.raw, readOnly: false) } ?? -1
        )
        if let directory { al_tree_close(directory) }
        try checked(al_confine_enter(namespace.raw, 1), "entering the user namespace")
        let tree =
            mount.raw < 0
            ? -1
            : try checked(
                unsafe al_tree_open_directory(mount.raw, cString([]), AL_TREE_NO_LINKS), "opening the directory")
        _ = consume mount
        _ = consume namespace
        try checked(al_confine_empty_root(), "leaving the file system")
        let writable = tree >= 0 ? [tree] : []
        try landlock(unsafe al_confine_landlock(writable, writable.count, nil, 0))
        try set(limits, processes: 0)
        let keepCapabilities = tree >= 0 ? fillingCapabilities : 0
        try checked(al_confine_keep_capabilities(keepCapabilities), "giving up capabilities")
        try checked(al_confine_seal(parent), "sealing the helper")
        try SeccompFilter.load(tree >= 0 ? .fills : .streams)
        return tree
    }

    /// The user namespace of a helper.
    static func userNamespace() throws(HelperFailure) -> Handle {
        let namespace = al_confine_user_namespace(firstID, idCount)
        guard namespace != -1 else {
            throw HelperFailure("needs-root", "images can only be fetched and unpacked by a daemon that runs as root")
        }
        return Handle(try checked(namespace, "making a user namespace"))
    }

    /// Checks that Landlock took hold: a helper that cannot be confined does not work at all.
    static func landlock(_ result: Int32) throws(HelperFailure) {
        // ENOSYS, EOPNOTSUPP: not built in, or not switched on.
        guard result != -38, result != -95 else {
            throw HelperFailure("landlock-missing", "the kernel has no Landlock, without which no image is unpacked")
        }
        try checked(result, "setting up Landlock")
    }

    /// A mount of a directory that helper's root owns.
    static func mapped(_ directory: Int32, in namespace: Int32, readOnly: Bool) throws(HelperFailure) -> Int32 {
        let tree = al_confine_mapped_tree(directory, namespace, readOnly ? 1 : 0)
        guard tree != -22 else {
            throw HelperFailure(
                "file-system-unsupported", "the file system of the image store cannot map ids (no idmapped mounts)")
        }
        return try checked(tree, "mapping ids")
    }

    static func set(_ limits: Limits, processes: UInt64?) throws(HelperFailure) {
        let values: [(Int, UInt64)] = [
            (AL_LIMIT_ADDRESS_SPACE, limits.memory), (AL_LIMIT_CPU_SECONDS, limits.processor),
            (AL_LIMIT_FILE_SIZE, limits.fileSize), (AL_LIMIT_FILES, limits.files), (AL_LIMIT_CORE, 0),
        ]
        for (resource, value) in values { try checked(al_confine_limit(Int32(resource), value), "setting a limit") }
        guard let processes else { return }
        try checked(al_confine_limit(Int32(AL_LIMIT_PROCESSES), processes), "setting a limit")
    }

    /// CHOWN, DAC_OVERRIDE, FOWNER, FSETID and SETFCAP: what writing another's files takes, valid on the one mount only.
    private static let fillingCapabilities: UInt64 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 31
}

/// Lists of allowed system calls; anything else answers EPERM.
enum SeccompFilter {
    /// What a helper does.
    enum Profile {
        /// Reads one descriptor and writes another.
        case streams
        /// Also makes entries in a directory.
        case fills
        /// Runs the program that talks to registries.
        case fetches
    }

    private static let common = [
        "read", "write", "readv", "writev", "close", "fstat", "newfstatat", "lseek", "munmap", "mremap", "brk",
        "madvise",
        "futex", "rt_sigreturn", "rt_sigprocmask", "rt_sigaction", "sigaltstack", "exit", "exit_group", "clock_gettime",
        "clock_nanosleep", "getrandom", "getpid", "gettid", "restart_syscall", "sched_yield", "poll", "ppoll", "rseq",
        "set_robust_list", "membarrier", "sched_getaffinity",
    ]
    private static let filling = [
        "pwrite64", "openat2", "openat", "mkdirat", "symlinkat", "linkat", "unlinkat", "readlinkat", "fchownat",
        "fchown",
        "fchmod", "fchmodat", "utimensat", "ftruncate", "fsetxattr", "getdents64",
    ]
    private static let fetching = [
        "pread64", "pwrite64", "openat", "open", "access", "faccessat", "faccessat2", "stat", "lstat", "statx",
        "statfs",
        "fstatfs", "mkdirat", "mkdir", "unlinkat", "unlink", "rmdir", "renameat", "renameat2", "rename", "readlinkat",
        "readlink", "symlinkat", "linkat", "fchmod", "fchmodat", "chmod", "fchown", "fchownat", "utimensat",
        "ftruncate",
        "fallocate", "fsync", "fdatasync", "flock", "getdents64", "getcwd", "chdir", "fchdir", "umask", "dup", "dup2",
        "dup3", "pipe2", "pipe", "fcntl", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait", "eventfd2",
        "select",
        "pselect6", "connect", "bind", "sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg", "shutdown",
        "getsockname", "getpeername", "setsockopt", "getsockopt", "nanosleep", "clock_getres", "gettimeofday", "time",
        "timer_create", "timer_settime", "timer_delete", "setitimer", "getuid", "geteuid", "getgid", "getegid",
        "getppid",
        "getgroups", "getresuid", "getresgid", "uname", "sysinfo", "getrlimit", "prlimit64", "getrusage", "times",
        "arch_prctl", "set_tid_address", "prctl", "execve", "wait4", "waitid", "copy_file_range", "sendfile", "splice",
        "mincore", "capget", "getxattr", "lgetxattr", "fgetxattr", "getcpu", "sched_getparam", "sched_getscheduler",
    ]

    /// Puts the filter on this process, for good.
    static func load(_ profile: Profile) throws(HelperFailure) {
        guard let filter = unsafe seccomp_init(as_action_errno(UInt16(EPERM))) else {
            throw HelperFailure("unpack-failed", "no memory for the system call filter")
        }
        defer { unsafe seccomp_release(filter) }
        let names = common + (profile == .fills ? filling : profile == .fetches ? fetching : [])
        for name in names { try unsafe allow(filter, name, []) }
        // No memory that can be executed, except while programs and libraries are loaded.
        let noExecution = profile == .fetches ? [] : [comparison(2, mask: 4, equals: 0)]
        for name in ["mmap", "mprotect"] { try unsafe allow(filter, name, noExecution) }
        if profile == .fills {
            // Named pipes are the only nodes; the descriptor flags are all of fcntl that reading directories needs.
            for name in ["mknodat"] {
                try unsafe allow(filter, name, [comparison(2, mask: 0o170000, equals: 0o010000)])
            }
            for command in [1, 2, 3] as [UInt64] {
                try unsafe allow(filter, "fcntl", [comparison(1, mask: ~0, equals: command)])
            }
        }
        if profile == .fetches { try unsafe allowFetching(filter) }
        let result = unsafe seccomp_load(filter)
        guard result == 0 else { throw HelperFailure(errno: -result, "loading the system call filter") }
    }

    private static func allowFetching(_ filter: scmp_filter_ctx) throws(HelperFailure) {
        // Internet and local sockets; no raw packets, no netlink but the route queries of name resolution.
        for family in [1, 2, 10] as [UInt64] {
            try unsafe allow(filter, "socket", [comparison(0, mask: ~0, equals: family)])
        }
        try unsafe allow(filter, "socket", [comparison(0, mask: ~0, equals: 16), comparison(2, mask: ~0, equals: 0)])
        // Threads, no processes; clone3 hides its flags behind a pointer and is refused as unknown.
        let thread: UInt64 = 0x0001_0000
        try unsafe allow(filter, "clone", [comparison(0, mask: thread | 0x7E02_0080, equals: thread)])
        let unknown = unsafe seccomp_rule_add_array(filter, as_action_errno(UInt16(ENOSYS)), number("clone3"), 0, nil)
        guard unknown == 0 else { throw HelperFailure(errno: -unknown, "making the system call filter") }
        // Signals to its own threads only: the id stays the same when the program is executed.
        let own = UInt64(al_confine_self())
        for name in ["tgkill", "kill"] { try unsafe allow(filter, name, [comparison(0, mask: ~0, equals: own)]) }
    }

    private static func number(_ name: String) -> Int32 { unsafe seccomp_syscall_resolve_name(name) }

    private static func comparison(_ argument: UInt32, mask: UInt64, equals value: UInt64) -> scmp_arg_cmp {
        scmp_arg_cmp(arg: argument, op: SCMP_CMP_MASKED_EQ, datum_a: mask, datum_b: value)
    }

    private static func allow(_ filter: scmp_filter_ctx, _ name: String, _ conditions: [scmp_arg_cmp])
        throws(HelperFailure)
    {
        let call = number(name)
        guard call >= 0 else { return }  // not on this architecture
        let result = unsafe seccomp_rule_add_array(
            filter, as_action_allow(), call, UInt32(conditions.count), conditions)
        guard result == 0 else { throw HelperFailure(errno: -result, "allowing \(name)") }
    }
}
