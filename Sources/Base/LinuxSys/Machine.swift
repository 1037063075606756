internal import CLinux
internal import Glibc
internal import Synchronization

/// Random bytes of the kernel.
package enum Random {
    /// Fills an array with random bytes.
    package static func bytes(_ count: Int) throws(Errno) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        try check(unsafe al_random(&bytes, count))
        return bytes
    }

    /// Random bytes as lower-case hexadecimal digits, two per byte.
    package static func hex(bytes count: Int) throws(Errno) -> String {
        let digits = Array("0123456789abcdef".utf8)
        let text = try bytes(count).flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }
        return String(decoding: text, as: UTF8.self)
    }
}

/// The kernel's clocks.
package enum SystemTime {
    /// Nanoseconds of `CLOCK_MONOTONIC`: never goes back, stands still while the machine sleeps.
    package static var monotonic: UInt64 { al_monotonic_ns() }
    /// Nanoseconds since 1970, UTC; may jump.
    package static var realtime: UInt64 { al_realtime_ns() }
}

/// This process and what it may do.
package enum CurrentProcess {
    package static var pid: Int32 { getpid() }
    package static var parent: Int32 { getppid() }
    package static var user: UInt32 { getuid() }
    package static var effectiveUser: UInt32 { geteuid() }
    package static var effectiveGroup: UInt32 { getegid() }

    /// A variable of the environment; nil when it is not set.
    package static func environment(_ name: String) -> String? {
        guard let value = unsafe getenv(name) else { return nil }
        return unsafe String(cString: value)
    }

    /// The whole environment as `KEY=value`.
    package static var environment: [String] {
        var all: [String] = []
        guard var entry = unsafe al_environment() else { return [] }
        while let text = unsafe entry.pointee {
            unsafe all.append(String(cString: text))
            unsafe entry += 1
        }
        return all
    }

    /// Raises the number of descriptors that this process may have open, as far as its rights and the kernel's own limit
    /// (`fs.nr_open`) go. Never lowers it.
    ///
    /// - Parameter wanted: as many as that are enough.
    /// - Returns: how many it may have now.
    package static func raiseOpenFiles(to wanted: UInt64) -> UInt64 {
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 1024 }
        let before = UInt64(limit.rlim_cur)
        guard before < wanted else { return before }
        // The hard limit is root's to raise.
        for most in [max(UInt64(limit.rlim_max), wanted), UInt64(limit.rlim_max)] {
            var raised = rlimit(rlim_cur: rlim_t(min(most, wanted)), rlim_max: rlim_t(most))
            if unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &raised) == 0 { return min(most, wanted) }
        }
        return before
    }

    /// From now on writing to a closed pipe is an error (`EPIPE`), not a signal. Children get the default back.
    package static func ignoreBrokenPipes() { al_ignore_sigpipe() }

    /// Whether others of the same user may read this process's memory and it may dump core.
    package static func setDumpable(_ on: Bool) throws(Errno) { try check(al_set_dumpable(on ? 1 : 0)) }
    package static var isDumpable: Bool { al_is_dumpable() == 1 }

    /// No program that this process starts gains privileges any more.
    package static func setNoNewPrivileges() throws(Errno) { try check(al_set_no_new_privileges()) }

    /// Orphans below this process become its children, and it must reap them.
    package static func setChildSubreaper(_ on: Bool) throws(Errno) { try check(al_set_child_subreaper(on ? 1 : 0)) }

    /// Keeps memory (whole pages) out of swap and core dumps; the range must stay allocated until `unprotect`.
    package static func protect(_ memory: UnsafeMutableRawBufferPointer) throws(Errno) {
        try check(unsafe al_protect_memory(memory.baseAddress, memory.count))
    }

    /// Undoes `protect`.
    package static func unprotect(_ memory: UnsafeMutableRawBufferPointer) throws(Errno) {
        try check(unsafe al_unprotect_memory(memory.baseAddress, memory.count))
    }

    /// Whether this process has a protection that what it starts must not inherit.
    private static let isProtected = Atomic<Bool>(false)

    /// Makes this process one of the last that the kernel ends when memory runs out; what it starts from now on gets the
    /// usual score (0) unless its request says otherwise.
    ///
    /// - Parameter score: -1000 to 0; lowering it needs CAP_SYS_RESOURCE.
    /// - Throws: the error of the system call.
    package static func protectFromOutOfMemory(score: Int32) throws(Errno) {
        // In place: a file of /proc cannot be replaced by another one.
        let file = try FileDescriptor.open("/proc/self/oom_score_adj", .writeOnly)
        try file.writeAll(Array(String(score).utf8)[...])
        isProtected.store(score < 0, ordering: .relaxed)
    }

    /// The score of a child whose request names none; nil inherits.
    static var childOutOfMemoryScore: Int32? { isProtected.load(ordering: .relaxed) ? 0 : nil }

    /// Gives memory that was freed back to the kernel; takes about a millisecond for 20 MiB.
    package static func trimMemory() { al_trim_memory() }

    /// Unmaps the code that this program has run; what runs again is mapped again, a few pages at a time. For after a start, which
    /// runs through much that is never run again.
    package static func releaseCode() { al_release_code() }

    /// How many descriptors are open.
    package static func openDescriptorCount() throws(Errno) -> Int {
        // The listing has one open itself.
        try Files.list("/proc/self/fd").count - 1
    }
}

/// Mount points of the calling process's mount namespace.
package enum Mounts {
    /// Mounts (`mount(2)`); `flags` are the kernel's `MS_` bits.
    package static func mount(
        _ source: String, on target: String, type: String, flags: UInt64 = 0, data: String = ""
    ) throws(Errno) { try check(unsafe al_mount(source, target, type, flags, data)) }

    /// Unmounts; a detached mount disappears from the tree now and is released when its last user has gone.
    package static func unmount(_ target: String, detach: Bool = false) throws(Errno) {
        try check(unsafe al_unmount(target, detach ? 2 : 0))
    }
}

/// Threads for those who must have one of their own: event loops and blocking pools.
package enum SystemThread {
    private final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// Starts a detached thread; the name is cut at 15 bytes.
    package static func start(name: String, _ body: @escaping @Sendable () -> Void) throws(Errno) {
        let context = unsafe Unmanaged.passRetained(Body(body))
        let entry: @convention(c) @Sendable (UnsafeMutableRawPointer?) -> Void = { raw in
            guard let raw = unsafe raw else { return }
            unsafe Unmanaged<Body>.fromOpaque(raw).takeRetainedValue().run()
        }
        let failure = unsafe al_thread_start(entry, context.toOpaque(), name)
        guard failure == 0 else {
            unsafe context.release()
            throw Errno(failure)
        }
    }

    /// The kernel's number of the calling thread.
    package static var id: Int32 { al_thread_id() }
}
