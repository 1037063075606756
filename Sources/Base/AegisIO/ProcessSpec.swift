package import LinuxSys

/// What a child's standard descriptor is connected to.
package enum StandardDescriptor: Sendable, Equatable {
    /// `/dev/null`.
    case null
    /// The same as this process's own.
    case inherit
    /// A descriptor of this process, which keeps it.
    case descriptor(Int32)
    /// A pipe whose other end becomes a stream of the `ChildProcess`.
    case pipe
}

/// A program to run, and all that it gets: nothing is inherited that is not named here.
package struct ProcessSpec: Sendable {
    /// Path of the program; see `Files.findExecutable` for looking one up.
    package var executable: String
    /// The program's name (`argv[0]`) and its arguments.
    package var arguments: [String]
    /// `KEY=value`.
    package var environment: [String]
    package var workingDirectory: String?
    /// A directory's descriptor to start in; `workingDirectory` is then relative to it.
    package var workingDirectoryDescriptor: Int32?
    package var stdin: StandardDescriptor
    package var stdout: StandardDescriptor
    package var stderr: StandardDescriptor
    /// Further descriptors and the numbers (3 and up) that the child gets them under.
    package var extraDescriptors: [(childNumber: Int32, source: Int32)] = []
    /// Starts a session and process group of its own, so that `signalGroup` reaches what it starts.
    package var newSession: Bool
    /// A descriptor number of the child's that becomes its controlling terminal; needs `newSession`.
    package var controllingTerminal: Int32?
    /// Whom it runs as; nil is the caller.
    package var user: UserIdentity?
    /// A signal for the child when this process ends. Only from a thread that lasts: a loop's, the pool's, the main one.
    package var parentDeathSignal: Int32?
    package var limits: [ResourceLimit] = []
    /// Paths of `cgroup.procs` files that the child enters before it runs.
    package var cgroups: [String] = []
    /// Namespace descriptors that the child enters before it runs, in this order.
    package var namespaces: [Int32] = []
    package var noNewPrivileges = false
    /// -1000 to 1000; nil inherits this process's own, unless that is protected (`protectFromOutOfMemory`): then 0.
    package var outOfMemoryScore: Int32?
    package var fileMask: UInt32?

    /// A program without input, whose output goes nowhere unless said otherwise.
    package init(
        executable: String, arguments: [String], environment: [String] = [], workingDirectory: String? = nil,
        stdin: StandardDescriptor = .null, stdout: StandardDescriptor = .null, stderr: StandardDescriptor = .null,
        newSession: Bool = false, user: UserIdentity? = nil, parentDeathSignal: Int32? = nil
    ) {
        self.executable = executable
        self.arguments = arguments
        self.environment = environment
        self.workingDirectory = workingDirectory
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.newSession = newSession
        self.user = user
        self.parentDeathSignal = parentDeathSignal
    }

    /// The request without its descriptors.
    func request() -> SpawnRequest {
        var request = SpawnRequest(executable: executable, arguments: arguments, environment: environment)
        request.workingDirectory = workingDirectory
        request.workingDirectoryDescriptor = workingDirectoryDescriptor
        request.cgroups = cgroups
        request.namespaces = namespaces
        request.limits = limits
        request.newSession = newSession
        request.controllingTerminal = controllingTerminal
        request.user = user
        request.parentDeathSignal = parentDeathSignal
        request.noNewPrivileges = noNewPrivileges
        request.outOfMemoryScore = outOfMemoryScore
        request.fileMask = fileMask
        return request
    }
}

/// One step of ending a process.
package enum TeardownStep: Sendable, Equatable {
    /// Sends a signal to the process and gives it time.
    case signal(Int32, allow: Duration)
    /// Sends a signal to the process's whole group (see `newSession`) and gives the process time.
    case signalGroup(Int32, allow: Duration)
    /// Closes its standard input and gives it time.
    case closeInput(allow: Duration)
}
