internal import AegisAPI
internal import AegisAgents
internal import AegisChannel
internal import AegisCore
internal import AegisIO
internal import AegisImages
internal import AegisInstances
internal import AegisKits
internal import AegisSandboxTypes
internal import AegisSessions

/// The sandboxes of agents: an instance for an agent, which is called as the agent's id is, belongs to the agent's owner, is made
/// with the first program that it runs, and goes with the agent.
struct AgentSandboxHost: AgentSandboxes {
    let directory: InstanceDirectory
    let kits: Kits
    let images: ImageStore
    /// The instances' loop.
    let loop: EventLoop
    let logger: Logger
    /// One instance for an agent, however many of its programs begin at once.
    let maker = SandboxMaker()

    init(_ services: DaemonServices, logger: Logger) {
        (directory, kits, images, loop) = (services.directory, services.kits, services.images, services.loop)
        self.logger = logger
    }

    func run(
        _ command: SandboxCommand, for agent: AgentRecord, _ plan: SandboxPlan, _ permit: SandboxPermit
    ) async throws -> SandboxOutcome {
        try await loop.run {
            let instance = try await maker.make(for: agent.id, permit) {
                try await self.instance(for: agent, plan, permit)
            }
            let run = CommandRun(instance: instance, command: command, ends: permit.ends)
            return try await permit.hold(or: run.lost) { try await run.run() }
        }
    }

    func remove(_ agent: String) async {
        await loop.run {
            // Without grace: what it had may be what was just taken back.
            await maker.remove(agent) { await directory.instance(ofAgent: agent)?.discard() }
        }
    }

    /// Removes the sandbox of an agent if it was made by that plan.
    func remove(_ agent: String, madeAs policy: String) async {
        await loop.run {
            await maker.remove(agent) {
                guard let instance = directory.instance(ofAgent: agent), instance.agent?.policy == policy else {
                    return
                }
                await instance.discard()
            }
        }
    }

    func plans() async -> [(agent: String, policy: String)] {
        directory.ofAgents.compactMap(\.agent).map { ($0.agent, $0.policy) }
    }

    /// The agent's instance as its grants are now.
    func instance(
        for agent: AgentRecord, _ plan: SandboxPlan, _ permit: SandboxPermit
    ) async throws -> Instance {
        if let instance = directory.instance(ofAgent: agent.id) {
            if instance.agent?.policy == plan.policy { return instance }
            await instance.discard()
            try Task.checkCancellation()
        }
        let caller = Caller(uid: agent.owner, gid: agent.group)
        if plan.kit == nil, let wait = await wait(for: plan.image ?? "base") { permit.tell(wait) }
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

    /// Why a sandbox of an image is not there at once; nil when it is.
    private func wait(for image: String) async -> String? {
        guard let reference = try? directory.reference(image), (try? await images.local(reference)) == nil else {
            return nil
        }
        return reference == .base
            ? "building the base image, which takes a minute or two and happens once ('aegis image build base' does it beforehand)"
            : "fetching the image '\(image)'"
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
    /// When what allows it ends.
    let ends: Timestamp?

    /// How long a program has after SIGTERM, and how long its end may take after SIGKILL.
    private static let (grace, patience) = (Duration.seconds(2), Duration.seconds(5))

    /// The error of a program whose sandbox ended under it.
    var lost: AegisError {
        .failed(
            "sandbox-lost", "the sandbox ended while '\(command.arguments[0])' ran in it",
            hint: "it was stopped, or what may be seen in it has changed; what the program did until then has happened")
    }

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
        // What ends it where this daemon cannot: killed in the middle, with none after it.
        let left = ends.map { Duration.milliseconds(max(0, $0.milliseconds - Timestamp.now().milliseconds)) }
        let limit = min(command.timeLimit, left ?? command.timeLimit) + Self.grace + .seconds(1)
        do { process = try await instance.exec(request, limit: limit) } catch let error as ProcessStartError {
            throw error.error
        }
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
            throw lost
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
