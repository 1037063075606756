internal import AegisAPI
internal import AegisAgents
internal import AegisCapabilities
internal import AegisChannel
internal import AegisCore
internal import AegisIO
internal import AegisInstances
internal import AegisMCP
internal import AegisSandboxTypes
internal import AegisSessions
internal import LinuxSys
internal import Synchronization

extension AgentSandboxHost {
    /// Starts a server of a kit in an agent's sandbox, which is made for it where there is none.
    ///
    /// - Parameters:
    ///   - name: the server.
    ///   - agent: whose sandbox it is.
    ///   - plan: what that is to be.
    ///   - optional: secrets that the kit can do without.
    /// - Returns: its process.
    /// - Throws: why there is no sandbox, or why it does not run; `kit-secret-missing`; `administrator-needed` where it wants secrets
    ///   and its owner may give none.
    func serve(
        _ name: String, for agent: AgentRecord, _ plan: SandboxPlan, optional: Set<String>
    ) async throws -> any MCPProcess {
        try await loop.run {
            let instance = try await instance(for: agent, plan)
            // What it was made from counts: an installed kit of a higher version has other files.
            guard let server = await instance.kitServers.first(where: { $0.name == name }) else {
                throw AegisError.notFound(
                    "mcp-server-not-found",
                    "the kit that the sandbox of agent \(agent.name) was made from has no '\(name)'",
                    hint: "spawn the agent again: its kit was changed meanwhile")
            }
            var request = ExecRequest(command: server.command)
            request.env = server.env
            request.stdin = true
            request.start = true
            let secrets = try secrets(of: server, for: agent, optional)
            let process: RunningProcess
            // Its output is messages and may hold what it was trusted with: it is not put into the instance's log.
            do { process = try await instance.exec(request, secrets: secrets, logged: false) } catch let error
                as ProcessStartError
            { throw error.error }
            do {
                let watcher = try process.relay.attach(from: nil).watcher
                return KitServerProcess(process, in: instance, watcher: watcher)
            } catch {
                process.hangUp(in: instance, watcher: 0)
                throw error
            }
        }
    }

    /// The secrets that a server gets: those that it names and the store has.
    private func secrets(of server: KitTool, for agent: AgentRecord, _ optional: Set<String>) throws -> [String] {
        guard let wanted = server.secrets, !wanted.isEmpty else { return [] }
        // Secrets are the node's, as for any instance.
        guard agent.owner == 0 || agent.owner == CurrentProcess.effectiveUser else {
            throw AegisError(
                .denied, "administrator-needed",
                "the MCP server '\(server.name)' wants the secret \(wanted.joined(separator: ", ")), and secrets belong to the whole node",
                hint: "an agent of root's or of the daemon's own user can use it")
        }
        let known = Set(try directory.secretNames())
        let missing = wanted.filter { !known.contains($0) && !optional.contains($0) }
        guard missing.isEmpty else {
            throw AegisError.notFound(
                "kit-secret-missing",
                "the MCP server '\(server.name)' needs the secret \(missing.joined(separator: ", "))",
                hint: missing.map { "aegis secret set \($0) -" }.joined(separator: "; "))
        }
        return wanted.filter(known.contains)
    }
}

/// A program in an agent's sandbox, as a server's process.
private final class KitServerProcess: MCPProcess {
    private struct State {
        var isOver = false
        /// Nil once it is let go of: from then on it keeps the sandbox awake no longer.
        var process: RunningProcess?
    }
    private let instance: Instance
    private let relay: ProcessRelay
    private let session: HarnessSession
    private let watcher: UInt64
    private let state: Mutex<State>

    init(_ process: RunningProcess, in instance: Instance, watcher: UInt64) {
        self.instance = instance
        self.watcher = watcher
        (relay, session) = (process.relay, process.session)
        state = Mutex(State(process: process))
    }

    func read() async throws -> MCPProcessOutput {
        let piece = await relay.next(watcher)
        switch piece {
        case .bytes(let kind, let offset, let bytes):
            relay.consumed(watcher, kind, upTo: offset + UInt64(bytes.count))
            return kind == .stdout ? .stdout(bytes) : .stderr(bytes)
        case .exited(let end):
            state.withLock { $0.isOver = true }
            return .ended("it ended with exit code \(end.code)")
        case .lost:
            state.withLock { $0.isOver = true }
            return .ended("its sandbox ended")
        case nil: throw CancellationError()
        }
    }

    func write(_ bytes: [UInt8]) async throws { try await session.write(relay.number, bytes[...]) }

    func stop() async {
        let (process, isOver) = state.withLock { state in
            defer { state.process = nil }
            return (state.process, state.isOver)
        }
        guard let process else { return }
        if isOver { return await instance.finish(process) }
        session.endInput(relay.number)
        // Whoever reads hears that it is over; from here on somebody else does, until it has ended.
        relay.detach(watcher)
        process.hangUp(in: instance, watcher: (try? relay.attach(from: nil).watcher) ?? 0)
    }
}
