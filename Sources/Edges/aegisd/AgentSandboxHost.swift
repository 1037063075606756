internal import AegisAPI
internal import AegisAgents
internal import AegisChannel
internal import AegisCore
internal import AegisIO
internal import AegisInstances
internal import AegisKits
internal import AegisSandboxTypes
internal import AegisSessions

/// The sandboxes of agents: an instance for an agent, which is called as the agent's id is, belongs to the agent's owner, is made
/// with the first program that it runs, and goes with the agent.
struct AgentSandboxHost: AgentSandboxes {
    let directory: InstanceDirectory
    let kits: Kits
    /// The instances' loop.
    let loop: EventLoop
    let logger: Logger
    /// One instance for an agent, however many of its programs begin at once.
    private let turn = Turnstile()

    init(_ directory: InstanceDirectory, kits: Kits, loop: EventLoop, logger: Logger) {
        self.directory = directory
        self.kits = kits
        self.loop = loop
        self.logger = logger
    }

    func run(
        _ command: SandboxCommand, for agent: AgentRecord, _ plan: SandboxPlan
    ) async throws -> SandboxOutcome {
        try await loop.run {
            let instance = try await instance(for: agent, plan)
            return try await CommandRun(instance: instance, command: command).run()
        }
    }

    func remove(_ agent: String) async {
        await loop.run {
            await turn.enter(agent)
            // Without grace: what it had may be what was just taken back.
            await directory.instance(ofAgent: agent)?.discard()
            turn.leave(agent)
        }
    }

    func plans() async -> [(agent: String, policy: String)] {
        directory.ofAgents.compactMap(\.agent).map { ($0.agent, $0.policy) }
    }

    /// The agent's instance as its grants are now.
    func instance(for agent: AgentRecord, _ plan: SandboxPlan) async throws -> Instance {
        await turn.enter(agent.id)
        defer { turn.leave(agent.id) }
        try Task.checkCancellation()
        if let instance = directory.instance(ofAgent: agent.id) {
            if instance.agent?.policy == plan.policy { return instance }
            await instance.discard()
        }
        let caller = Caller(uid: agent.owner, gid: agent.group)
        let (info, _) = try await kits.createOrRestart(request(for: agent, plan), for: caller)
        let instance = try directory.find(info.id, for: caller)
        // Its owner may have made one of that name: what that sees is not what was granted.
        guard instance.agent?.agent == agent.id else {
            throw AegisError.conflict(
                "name-in-use", "the name '\(agent.id)' is in use by an instance that is not the agent's",
                hint: "delete that instance")
        }
        return instance
    }

    private func request(for agent: AgentRecord, _ plan: SandboxPlan) -> CreateInstance {
        // Something has to run for as long as the sandbox is to be there; a kit brings its own.
        var request = CreateInstance(command: plan.kit == nil ? ["sleep", "infinity"] : nil)
        request.name = agent.id
        request.image = plan.image
        request.kit = plan.kit
        request.isolation = plan.isolation
        request.minIsolation = plan.minIsolation
        request.limits = plan.limits
        request.idle = IdlePolicy(pause: .seconds(0), stop: plan.idle)
        request.mounts = plan.mounts
        request.network = NetworkRequest(allow: plan.network)
        request.labels = ["aegis.agent": agent.id, "aegis.agent.name": agent.name, "aegis.agent.tree": agent.tree]
        request.guestAPI = .off
        request.agent = AgentPlaces(
            agent: agent.id, name: agent.name, tree: agent.tree, folder: agent.workspace, parts: plan.workspace,
            policy: plan.policy)
        return request
    }
}

/// One program in an agent's instance, to its end.
private struct CommandRun {
    let instance: Instance
    let command: SandboxCommand

    /// How long a program has after SIGTERM, and how long its end may take after SIGKILL.
    private static let (grace, patience) = (Duration.seconds(2), Duration.seconds(5))

    private enum Step: Sendable {
        case nothing, timeUp, kill, giveUp
        case ended(ProcessRelayEnd, BoundedOutput, BoundedOutput)
    }

    func run() async throws -> SandboxOutcome {
        var request = ExecRequest(command: command.arguments)
        request.env = command.environment
        request.workdir = command.directory
        request.stdin = command.input != nil
        request.start = true
        let process: RunningProcess
        do { process = try await instance.exec(request) } catch let error as ProcessStartError { throw error.error }
        let start = ContinuousClock.now
        let watcher: UInt64
        do { watcher = try process.relay.attach(from: nil).watcher } catch {
            process.hangUp(in: instance, watcher: 0)
            throw error
        }
        let (end, isTimedOut, stdout, stderr) = await follow(process, watcher)
        switch end {
        case .exited(let code, let signal):
            await instance.finish(process)
            return SandboxOutcome(
                code: code, signal: signal, isTimedOut: isTimedOut, stdout: stdout, stderr: stderr,
                duration: start.duration(to: .now))
        case .lost:
            await instance.finish(process)
            throw AegisError.failed(
                "sandbox-lost", "the sandbox ended while '\(command.arguments[0])' ran in it",
                hint:
                    "it was stopped, or what may be seen in it has changed; what the program did until then has happened"
            )
        case .left:
            process.hangUp(in: instance, watcher: watcher)
            throw isTimedOut ? IOError.timeout : CancellationError() as any Error
        }
    }

    private func follow(
        _ process: RunningProcess, _ watcher: UInt64
    ) async -> (end: ProcessRelayEnd, isTimedOut: Bool, stdout: BoundedOutput, stderr: BoundedOutput) {
        await withTaskGroup(of: Step.self) { group in
            group.addTask {
                await feed(process)
                return .nothing
            }
            group.addTask { await after(command.timeLimit, .timeUp) }
            group.addTask { await collect(process, watcher) }
            var isTimedOut = false
            while let step = await group.next() {
                switch step {
                case .nothing: continue
                case .timeUp:
                    isTimedOut = true
                    process.session.signal(process.relay.number, 15, group: true)
                    group.addTask { await after(Self.grace, .kill) }
                case .kill:
                    process.session.signal(process.relay.number, 9, group: true)
                    group.addTask { await after(Self.patience, .giveUp) }
                case .giveUp: group.cancelAll()
                case .ended(let end, let stdout, let stderr):
                    group.cancelAll()
                    return (end, isTimedOut, stdout, stderr)
                }
            }
            return (.left, isTimedOut, BoundedOutput(), BoundedOutput())
        }
    }

    private func after(_ duration: Duration, _ step: Step) async -> Step {
        await instance.pauseFor(duration)
        return Task.isCancelled ? .nothing : step
    }

    private func feed(_ process: RunningProcess) async {
        guard let input = command.input else { return }
        // What has closed its input, or has ended, takes no more of it.
        try? await process.session.write(process.relay.number, input[...])
        process.session.endInput(process.relay.number)
    }

    private func collect(_ process: RunningProcess, _ watcher: UInt64) async -> Step {
        var outputs: [OutputKind: BoundedOutput] = [.stdout: BoundedOutput(), .stderr: BoundedOutput()]
        var end = ProcessRelayEnd.left
        loop: while let piece = await process.relay.next(watcher) {
            switch piece {
            case .bytes(let kind, let offset, let bytes):
                outputs[kind]?.append(bytes)
                process.relay.consumed(watcher, kind, upTo: offset + UInt64(bytes.count))
            case .exited(let exit):
                end = .exited(Int32(truncatingIfNeeded: exit.code), exit.signal == 0 ? nil : Int(exit.signal))
                break loop
            case .lost:
                end = .lost
                break loop
            }
        }
        return .ended(end, outputs[.stdout] ?? BoundedOutput(), outputs[.stderr] ?? BoundedOutput())
    }
}

/// How a program ended, as far as we saw.
private enum ProcessRelayEnd: Sendable {
    case exited(Int32, Int?)
    /// The sandbox ended.
    case lost
    /// Nobody waits for it any more.
    case left
}
