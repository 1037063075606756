internal import AegisChannel
internal import AegisCore
internal import AegisInstances
internal import AegisMCP
internal import AegisSandboxTypes
internal import AegisSessions
internal import LinuxSys
internal import Synchronization

/// MCP servers in instances of their own (decision D14): each lives by this daemon as one of `aegis run` lives by its client, and is
/// removed when the daemon lets go of it, however that comes.
struct MCPInstanceHost: MCPProcessHost {
    let directory: InstanceDirectory

    func start(_ server: MCPServerSection) async throws -> any MCPProcess {
        let sandbox = server.sandbox
        var request = CreateInstance(command: server.command)
        request.image = sandbox.image
        request.isolation = sandbox.isolation
        request.env = sandbox.environment.isEmpty ? nil : sandbox.environment
        request.workdir = sandbox.workdir
        request.user = sandbox.user
        request.mounts = try sandbox.mounts.map { text throws(AegisError) in try MountSpec(parsing: text) }
        request.secrets = sandbox.secrets.isEmpty ? nil : sandbox.secrets
        request.network = NetworkRequest(
            mode: sandbox.networkMode, group: sandbox.networkGroup,
            allow: sandbox.networkAllow.isEmpty ? nil : sandbox.networkAllow)
        request.limits = Limits(
            cpus: sandbox.cpus, memory: sandbox.memory, pids: sandbox.pids, grace: TimeSpan(milliseconds: 2000))
        request.labels = ["aegis.mcp": server.name]
        // Nobody's program may start others in the daemon's name.
        request.guestAPI = .off
        request.ephemeral = true
        request.stdin = true
        let caller = Caller(uid: CurrentProcess.effectiveUser, gid: CurrentProcess.effectiveGroup)
        let instance = try await directory.create(request, for: caller)
        await instance.clientArrived()
        do {
            guard let relay = await instance.commandRelay().relay else {
                throw AegisError.failed("sandbox-lost", "its instance did not come up")
            }
            let watcher = try relay.attach(from: nil).watcher
            _ = try await instance.started()
            // One that ends at once may be over by now: its relay knows how.
            let session = await instance.command()?.session
            return MCPInstanceProcess(instance: instance, relay: relay, watcher: watcher, session: session)
        } catch {
            await instance.discard()
            throw error
        }
    }
}

/// The command of an instance, as a server's process.
private final class MCPInstanceProcess: MCPProcess {
    private let instance: Instance
    private let relay: ProcessRelay
    private let watcher: UInt64
    /// Nil for a command that was over before anything could be said to it.
    private let session: HarnessSession?
    private let isStopped = Atomic(false)

    init(instance: Instance, relay: ProcessRelay, watcher: UInt64, session: HarnessSession?) {
        self.instance = instance
        self.relay = relay
        self.watcher = watcher
        self.session = session
    }

    func read() async throws -> MCPProcessOutput {
        switch await relay.next(watcher) {
        case .bytes(let kind, let offset, let bytes):
            relay.consumed(watcher, kind, upTo: offset + UInt64(bytes.count))
            return kind == .stdout ? .stdout(bytes) : .stderr(bytes)
        case .exited(let end): return .ended("it ended with exit code \(end.code)")
        case .lost: return .ended("its instance ended")
        case nil: throw CancellationError()
        }
    }

    func write(_ bytes: [UInt8]) async throws { try await session?.write(relay.number, bytes[...]) }

    func stop() async {
        if !isStopped.exchange(true, ordering: .relaxed) {
            session?.endInput(relay.number)
            relay.detach(watcher)
        }
        // Also when whoever waits is cancelled: the deletion goes on.
        await instance.delete()
    }
}
