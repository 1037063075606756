extension SeccompProfile {
    /// Calls of every architecture, by purpose.
    static let common: [String] = [
        // files: open, read, write, look
        "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2",
        "lseek", "openat", "openat2", "close", "close_range", "dup", "dup3", "fcntl", "flock", "ioctl", "fstat",
        "newfstatat", "statx", "statfs", "fstatfs", "getdents64", "getcwd", "chdir", "fchdir", "chroot", "faccessat",
        "faccessat2", "readlinkat", "umask", "truncate", "ftruncate", "fallocate", "fadvise64", "readahead", "fsync",
        "fdatasync", "sync", "syncfs", "sync_file_range", "sendfile", "splice", "tee", "vmsplice", "copy_file_range",
        "cachestat",
        // files: names, owners, modes, attributes
        "renameat", "renameat2", "mkdirat", "unlinkat", "linkat", "symlinkat", "mknodat", "fchmod", "fchmodat",
        "fchmodat2", "fchown", "fchownat", "utimensat", "setxattr", "lsetxattr", "fsetxattr", "setxattrat",
        "getxattr", "lgetxattr", "fgetxattr", "getxattrat", "listxattr", "llistxattr", "flistxattr", "listxattrat",
        "removexattr", "lremovexattr", "fremovexattr", "removexattrat",
        // waiting for events; gVisor of 2022 calls pselect6 pselect, and select of the C library is that
        "pselect6", "pselect",
        "ppoll", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "eventfd2", "pipe2",
        "signalfd4", "inotify_init1", "inotify_add_watch", "inotify_rm_watch", "timerfd_create", "timerfd_settime",
        "timerfd_gettime", "io_setup", "io_submit", "io_cancel", "io_destroy", "io_getevents", "io_pgetevents",
        // memory
        "brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "mincore", "msync", "mlock", "mlock2", "munlock",
        "mlockall", "munlockall", "remap_file_pages", "membarrier", "memfd_create", "pkey_alloc", "pkey_free",
        "pkey_mprotect", "mseal", "map_shadow_stack",
        // processes and threads
        "execve", "execveat", "exit", "exit_group", "wait4", "waitid", "kill", "tkill", "tgkill", "pidfd_open",
        "pidfd_send_signal", "getpid", "getppid", "gettid", "getpgid", "setpgid", "getsid", "setsid",
        "set_tid_address", "set_robust_list", "get_robust_list", "rseq", "futex", "futex_waitv", "futex_wake",
        "futex_wait", "futex_requeue", "restart_syscall", "prctl", "prlimit64", "getrlimit", "setrlimit", "getrusage",
        "times", "getpriority", "setpriority", "ioprio_get", "ioprio_set", "sched_yield", "sched_getaffinity",
        "sched_setaffinity", "sched_getparam", "sched_setparam", "sched_getscheduler", "sched_setscheduler",
        "sched_getattr", "sched_setattr", "sched_get_priority_max", "sched_get_priority_min", "sched_rr_get_interval",
        "getcpu",
        // debugging of own processes (harness and foreign users stay out of reach: no CAP_SYS_PTRACE)
        "ptrace", "process_vm_readv", "process_vm_writev",
        // users, groups, capabilities (only downwards)
        "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups", "setuid", "setgid",
        "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups", "capget", "capset",
        "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self",
        // signals
        "rt_sigaction", "rt_sigprocmask", "rt_sigpending", "rt_sigsuspend", "rt_sigtimedwait", "rt_sigqueueinfo",
        "rt_tgsigqueueinfo", "rt_sigreturn", "sigaltstack",
        // time
        "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "getitimer", "setitimer",
        "timer_create", "timer_settime", "timer_gettime", "timer_getoverrun", "timer_delete",
        // sockets (which families: see json)
        "bind", "listen", "accept", "accept4", "connect", "getsockname", "getpeername", "getsockopt", "setsockopt",
        "sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg", "shutdown",
        // System V and POSIX messages, in an IPC namespace of their own
        "shmget", "shmat", "shmctl", "shmdt", "semget", "semop", "semtimedop", "semctl", "msgget", "msgsnd", "msgrcv",
        "msgctl", "mq_open", "mq_unlink", "mq_timedsend", "mq_timedreceive", "mq_notify", "mq_getsetattr",
        // the machine
        "uname", "sysinfo", "getrandom",
    ]

    /// Older forms that only x86-64 has.
    static let onlyX86: [String] = [
        "open", "creat", "stat", "lstat", "access", "readlink", "rename", "mkdir", "rmdir", "link", "unlink",
        "symlink", "chmod", "chown", "lchown", "mknod", "utime", "utimes", "futimesat", "getdents", "select", "poll",
        "epoll_create", "epoll_wait", "eventfd", "pipe", "dup2", "signalfd", "inotify_init", "pause", "alarm", "time",
        "fork", "vfork", "getpgrp", "arch_prctl",
    ]
}
