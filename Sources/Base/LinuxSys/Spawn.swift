internal import CLinux
internal import Glibc

/// Everything about a child process that the kernel must know before it runs; see `ChildProcess` for the usual way.
package struct SpawnRequest: Sendable {
    /// Path of the program; never searched for.
    package var executable: String
    /// `argv`, the program's own name included.
    package var arguments: [String]
    /// `KEY=value`; nothing is inherited.
    package var environment: [String]
    package var workingDirectory: String?
    /// Entered before `workingDirectory`.
    package var workingDirectoryDescriptor: Int32?
    /// Which of the parent's descriptors the child gets under which number; it gets no others.
    package var descriptors: [(childNumber: Int32, source: Int32)] = []
    /// Paths of `cgroup.procs` files that the child enters before it runs.
    package var cgroups: [String] = []
    /// Namespace descriptors that the child enters, in this order.
    package var namespaces: [Int32] = []
    package var limits: [ResourceLimit] = []
    package var newSession = false
    /// A descriptor number of the child's that becomes its controlling terminal; needs `newSession`.
    package var controllingTerminal: Int32?
    package var user: UserIdentity?
    /// Sent to the child when the THREAD that spawned it ends.
    package var parentDeathSignal: Int32?
    package var noNewPrivileges = false
    /// -1000 (never killed for memory) to 1000; nil inherits, but never this process's own protection.
    package var outOfMemoryScore: Int32?
    package var fileMask: UInt32?

    /// A request with an empty environment and no descriptors at all.
    package init(executable: String, arguments: [String], environment: [String]) {
        self.executable = executable
        self.arguments = arguments
        self.environment = environment
    }
}

/// Whom a child runs as.
package struct UserIdentity: Sendable, Equatable {
    package var user: UInt32
    package var group: UInt32
    /// Supplementary groups; the caller's own are dropped.
    package var groups: [UInt32]

    /// A user with its group and supplementary groups.
    package init(user: UInt32, group: UInt32, groups: [UInt32] = []) {
        self.user = user
        self.group = group
        self.groups = groups
    }
}

/// A resource limit of a child (`setrlimit`).
package struct ResourceLimit: Sendable, Equatable {
    /// What is limited.
    package enum Resource: Int32, Sendable {
        case cpuSeconds = 0, fileSize = 1, stack = 3, core = 4, processes = 6, openFiles = 7, addressSpace = 9
    }
    package var resource: Resource
    /// `UInt64.max` is no limit.
    package var soft: UInt64
    package var hard: UInt64

    /// A limit with the same soft and hard value.
    package init(_ resource: Resource, _ value: UInt64) {
        self.resource = resource
        soft = value
        hard = value
    }
}

/// A failed spawn: which step, and why.
package struct SpawnError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The step that failed.
    package enum Step: Int32, Sendable {
        case start = 1, session, cgroup, outOfMemoryScore, limit, namespace, workingDirectory, descriptor, terminal,
            user,
            privileges, parent, execute
    }
    package var step: Step
    package var errno: Errno

    /// Makes an error from its parts.
    package init(step: Step, errno: Errno) {
        self.step = step
        self.errno = errno
    }

    package var description: String {
        let what =
            switch step {
            case .start: "no new process"
            case .session: "new session"
            case .cgroup: "entering the cgroup"
            case .outOfMemoryScore: "setting the out-of-memory score"
            case .limit: "setting a resource limit"
            case .namespace: "entering a namespace"
            case .workingDirectory: "working directory"
            case .descriptor: "passing a descriptor"
            case .terminal: "controlling terminal"
            case .user: "changing the user"
            case .privileges: "giving up privileges"
            case .parent: "the parent has gone"
            case .execute: "the program"
            }
        return "\(what): \(errno)"
    }
}

/// How a process ended.
package enum ExitStatus: Sendable, Equatable, CustomStringConvertible {
    case exited(Int32)
    case signalled(Int32)

    /// What a shell says: the exit code, or 128 plus the signal's number.
    package var shellCode: Int32 {
        switch self {
        case .exited(let code): code
        case .signalled(let signal): 128 + signal
        }
    }

    /// Whether it ended with code 0.
    package var isSuccess: Bool { self == .exited(0) }

    package var description: String {
        switch self {
        case .exited(let code): "exit code \(code)"
        case .signalled(let signal): "signal \(signal)"
        }
    }
}

/// A pidfd: one process, never another one that got its number later.
package struct ProcessHandle: ~Copyable, Sendable {
    /// The number that it has, or had.
    package let pid: Int32
    /// Becomes readable when the process has ended.
    package let descriptor: FileDescriptor

    init(pid: Int32, owning descriptor: consuming FileDescriptor) {
        self.pid = pid
        self.descriptor = descriptor
    }

    /// Names a running process by its number. A pid that came from elsewhere is checked: 0, 1 and negative numbers are
    /// refused with `EINVAL`, because a signal to them would reach far more than one process.
    package init(pid: Int32) throws(Errno) {
        guard pid > 1 else { throw .invalidArgument }
        let descriptor = try FileDescriptor(checking: al_pidfd_open(pid))
        self.init(pid: pid, owning: descriptor)
    }

    /// Sends a signal; `ESRCH` when the process has ended and was reaped.
    package borrowing func signal(_ number: Int32) throws(Errno) {
        try check(al_pidfd_signal(descriptor.raw, number))
    }

    /// Reaps a child if it has ended; nil while it runs. `ECHILD` for a process that is not a child of this one.
    package borrowing func reap() throws(Errno) -> ExitStatus? {
        var signalled: Int32 = 0
        var value: Int32 = 0
        let result = try check(unsafe al_reap(descriptor.raw, 0, &signalled, &value))
        guard result == 1 else { return nil }
        return signalled != 0 ? .signalled(value) : .exited(value)
    }

    /// Blocks until a child has ended, and reaps it.
    package borrowing func reapWaiting() throws(Errno) -> ExitStatus {
        var signalled: Int32 = 0
        var value: Int32 = 0
        try check(unsafe al_reap(descriptor.raw, 1, &signalled, &value))
        return signalled != 0 ? .signalled(value) : .exited(value)
    }
}

/// Sends a signal to a process group that the caller leads or whose leader it has not yet reaped.
package func signalProcessGroup(_ group: Int32, _ number: Int32) throws(Errno) {
    guard group > 1 else { throw .invalidArgument }
    try check(kill(-group, number))
}

extension SpawnRequest {
    /// Starts the child. Blocks the calling thread until the program runs or a step before has failed (about 0.5 ms;
    /// up to 12 ms when a cgroup is entered).
    package func spawn() throws(SpawnError) -> ProcessHandle {
        var child = al_child(pid: -1, pidfd: -1, stage: 0)
        let memory = SpawnMemory()
        // SAFETY: `memory` owns what the request points to and outlives the call.
        let failure = withExtendedLifetime(memory) {
            var raw = unsafe fields(in: memory)
            return unsafe al_spawn(&raw, &child)
        }
        guard failure == 0 else {
            throw SpawnError(step: SpawnError.Step(rawValue: child.stage) ?? .start, errno: Errno(failure))
        }
        return ProcessHandle(pid: child.pid, owning: FileDescriptor(owning: child.pidfd))
    }

    private func fields(in memory: SpawnMemory) -> al_spawn {
        var raw = unsafe al_spawn()
        unsafe raw.path = UnsafePointer(memory.string(executable))
        unsafe raw.argv = UnsafePointer(memory.strings(arguments))
        unsafe raw.envp = UnsafePointer(memory.strings(environment))
        unsafe raw.directory = workingDirectory.map { unsafe UnsafePointer(memory.string($0)) }
        unsafe raw.directory_fd = workingDirectoryDescriptor ?? -1
        unsafe raw.sources = UnsafePointer(memory.array(descriptors.map(\.source)))
        unsafe raw.targets = UnsafePointer(memory.array(descriptors.map(\.childNumber)))
        unsafe raw.descriptor_count = descriptors.count
        unsafe raw.cgroups = UnsafePointer(memory.array(cgroups.map { unsafe UnsafePointer(memory.string($0)) }))
        unsafe raw.cgroup_count = cgroups.count
        unsafe raw.namespaces = UnsafePointer(memory.array(namespaces))
        unsafe raw.namespace_count = namespaces.count
        let limits = limits.map { al_limit(resource: $0.resource.rawValue, soft: $0.soft, hard: $0.hard) }
        unsafe raw.limits = UnsafePointer(memory.array(limits))
        unsafe raw.limit_count = limits.count
        unsafe raw.new_session = newSession ? 1 : 0
        unsafe raw.controlling_terminal = controllingTerminal ?? -1
        unsafe raw.set_user = user == nil ? 0 : 1
        unsafe raw.uid = user?.user ?? 0
        unsafe raw.gid = user?.group ?? 0
        unsafe raw.groups = UnsafePointer(memory.array(user?.groups ?? []))
        unsafe raw.group_count = user?.groups.count ?? 0
        unsafe raw.parent_death_signal = parentDeathSignal ?? 0
        unsafe raw.no_new_privileges = noNewPrivileges ? 1 : 0
        let score = outOfMemoryScore ?? CurrentProcess.childOutOfMemoryScore
        unsafe raw.set_oom_score = score == nil ? 0 : 1
        unsafe raw.oom_score = score ?? 0
        unsafe raw.file_mask = fileMask.map(Int32.init(bitPattern:)) ?? -1
        return unsafe raw
    }
}

/// Memory that a spawn request's C form points into, freed together.
@safe private final class SpawnMemory {
    private var blocks: [UnsafeMutableRawPointer] = unsafe []

    deinit { unsafe blocks.forEach { unsafe $0.deallocate() } }

    /// A copy of an array of plain values.
    func array<Element: BitwiseCopyable>(_ elements: [Element]) -> UnsafeMutablePointer<Element> {
        let copy = UnsafeMutablePointer<Element>.allocate(capacity: elements.count + 1)
        unsafe copy.initialize(from: elements, count: elements.count)
        unsafe blocks.append(UnsafeMutableRawPointer(copy))
        return unsafe copy
    }

    /// A NUL-ended copy of a text.
    func string(_ text: String) -> UnsafeMutablePointer<CChar> {
        unsafe array(text.utf8.map { CChar(bitPattern: $0) } + [0])
    }

    /// A NULL-ended list of texts.
    func strings(_ texts: [String]) -> UnsafeMutablePointer<UnsafeMutablePointer<CChar>?> {
        var pointers = unsafe texts.map { unsafe Optional(string($0)) }
        unsafe pointers.append(nil)
        return unsafe array(pointers)
    }
}
