internal import AegisCore
package import AegisTools

/// A command that an agent wants to run.
package struct SandboxCommand: Sendable, Hashable {
    /// The program and its arguments.
    package var arguments: [String]
    /// The folder inside in which it starts.
    package var directory: String
    /// Variables beside those that the sandbox has.
    package var environment: [String: String]
    /// What it reads on its stdin; nil is nothing.
    package var input: [UInt8]?
    /// How long it may take, from when it runs.
    package var timeLimit: Duration

    /// Describes a command.
    package init(
        _ arguments: [String], in directory: String, environment: [String: String] = [:], input: [UInt8]? = nil,
        timeLimit: Duration
    ) {
        self.arguments = arguments
        self.directory = directory
        self.environment = environment
        self.input = input
        self.timeLimit = timeLimit
    }
}

/// How a command ended.
package struct SandboxOutcome: Sendable {
    /// Its exit code; 128 and the signal's number when a signal ended it.
    package var code: Int32
    /// The signal that ended it, if one did.
    package var signal: Int?
    /// Whether it was ended because its time was up.
    package var isTimedOut: Bool
    package var stdout: BoundedOutput
    package var stderr: BoundedOutput
    /// How long it ran.
    package var duration: Duration

    /// Describes an end.
    package init(
        code: Int32, signal: Int?, isTimedOut: Bool, stdout: BoundedOutput, stderr: BoundedOutput, duration: Duration
    ) {
        self.code = code
        self.signal = signal
        self.isTimedOut = isTimedOut
        self.stdout = stdout
        self.stderr = stderr
        self.duration = duration
    }
}

/// Where the programs of agents run: instances of the sandbox plane, one for an agent at most.
package protocol AgentSandboxes: Sendable {
    /// Runs a command in the sandbox of an agent, which is made, or started, when it is not there; one that was made for another
    /// plan is replaced. When the task is cancelled the command is ended.
    ///
    /// - Throws: why there is no sandbox, or why the command could not be started: then nothing of it has run;
    ///   `sandbox-lost` when the sandbox ended under it.
    func run(_ command: SandboxCommand, for agent: AgentRecord, _ plan: SandboxPlan) async throws -> SandboxOutcome

    /// The tools that the sandbox of an agent brings: servers of its kit. Those that have not said what they have are asked, and
    /// started in the sandbox for that.
    ///
    /// - Parameters:
    ///   - owner: whose sandbox it is.
    ///   - plan: the sandbox.
    ///   - mayCall: whether whoever asks holds a grant of a tool whose name begins so.
    ///   - stands: whether the sandbox is still the owner's, and is to be as the plan has it: asked again before anything starts.
    /// - Returns: the tools; nil when it brings none.
    func tools(
        of owner: AgentRecord, _ plan: SandboxPlan, mayCall: @escaping @Sendable (String) -> Bool,
        stands: @escaping @Sendable () async -> Bool
    ) async -> OwnTools?

    /// Removes the sandbox of an agent that is gone, or whose grants are not what they were; fine when there is none.
    func remove(_ agent: String) async
    /// The agents that have one, with the plan of each.
    func plans() async -> [(agent: String, policy: String)]
}
