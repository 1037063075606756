internal import AegisAgents
internal import AegisAudit
internal import AegisCore
internal import AegisIO
internal import AegisInstances
internal import AegisJSON
internal import AegisKits
internal import AegisMCP
internal import AegisSandboxTypes
internal import AegisStore
internal import AegisTools
internal import Synchronization

/// The sandboxes of agents, with the MCP servers that their kits bring: each runs in the sandbox of the agent whose tools it has
/// (decision D14), and what it says of them counts for that agent and those that share its sandbox. A program in there could
/// change what it says, so that no other agent is told it.
final class KitServers: AgentSandboxes {
    /// The servers of one sandbox.
    private struct Held: Sendable {
        /// What the sandbox was to be when they were set up.
        var policy: String
        var kit: String
        var owner: AgentRecord
        var names: [String]
        var plane: MCPPlane
        var registry: ToolRegistry
        /// Withdrawn when they go: a sandbox that is being made for one of them is given up.
        var permit: SandboxPermit

        func end() async {
            permit.withdraw()
            await plane.end()
        }
    }

    /// What it needs of the house.
    struct Services: Sendable {
        var kits: Kits
        var store: MCPStore
        var audit: any AuditTrail
        var scope: TaskScope
        var clock: any Clock<Duration>
        var logger: Logger
        /// The names of the node's own servers: those are theirs.
        var taken: Set<String>
    }

    private static let startTime = TimeSpan.seconds(900)

    private let host: AgentSandboxHost
    private let services: Services
    private let held = Mutex<[String: Held]>([:])

    init(_ host: AgentSandboxHost, _ services: Services) {
        self.host = host
        self.services = services
    }

    // MARK: Sandboxes

    func run(
        _ command: SandboxCommand, for agent: AgentRecord, _ plan: SandboxPlan, _ permit: SandboxPermit
    ) async throws -> SandboxOutcome { try await host.run(command, for: agent, plan, permit) }

    func remove(_ agent: String) async {
        // First, so that none of them is started once more.
        await leave(agent)
        await host.remove(agent)
    }

    /// Those that are being made for a server are no instances yet.
    func plans() async -> [(agent: String, policy: String)] {
        await host.plans() + held.withLock { $0.map { ($0.key, $0.value.policy) } }
    }

    /// Removes what was made by a plan that does not stand any more; what was made since by another stays.
    private func remove(_ agent: String, madeAs policy: String) async {
        await leave(agent, madeAs: policy)
        await host.remove(agent, madeAs: policy)
    }

    private func leave(_ agent: String, madeAs policy: String? = nil) async {
        let gone = held.withLock { held in
            policy == nil || held[agent]?.policy == policy ? held.removeValue(forKey: agent) : nil
        }
        await gone?.end()
    }

    /// Forgets what was agreed to for the agents of a tree that is gone.
    func forget(tree: String) {
        do throws(AegisError) { try services.store.forget(prefix: "\(tree)/") } catch {
            services.logger.warning("what is kept of MCP servers stays", ("agent", tree), ("error", error.message))
        }
    }

    /// Ends every server.
    func end() async {
        let all = held.withLock { held in
            defer { held = [:] }
            return Array(held.values)
        }
        await withDiscardingTaskGroup { group in for held in all { group.addTask { await held.end() } } }
    }

    // MARK: Tools

    func tools(
        of owner: AgentRecord, _ plan: SandboxPlan, mayCall: @escaping @Sendable (String) -> Bool,
        stands: @escaping @Sendable () async -> Bool
    ) async -> OwnTools? {
        guard let kit = plan.kit, mayCall("mcp.") else { return nil }
        let servers: Held
        do { servers = try await hold(owner, plan, kit, stands) } catch {
            return OwnTools(ToolRegistry(), missing: [("mcp.", told(error, kit))])
        }
        let missing = await servers.plane.missing(for: owner.owner, mayCall: mayCall)
        return OwnTools(servers.registry, missing: missing)
    }

    private func told(_ error: any Error, _ kit: String) -> AegisError {
        guard var error = error as? AegisError else {
            return .failed("mcp-unavailable", "the MCP servers of kit \(kit) are not there: \(error)")
        }
        MCPPlane.hideRemarks(in: &error)
        return error
    }

    /// The servers of a sandbox as it is to be now.
    private func hold(
        _ owner: AgentRecord, _ plan: SandboxPlan, _ kit: String, _ stands: @escaping @Sendable () async -> Bool
    ) async throws -> Held {
        let policy = plan.policy
        if let known = held.withLock({ $0[owner.id] }), known.policy == policy { return known }
        let found = try await services.kits.servers(of: kit)
        try await check(stands, owner)
        let made = make(owner, plan, found, stands)
        let (kept, other) = held.withLock { held -> (Held, Held?) in
            if let known = held[owner.id], known.policy == policy { return (known, made) }
            defer { held[owner.id] = made }
            return (made, held[owner.id])
        }
        await other?.end()
        // Whoever went away meanwhile has not seen these.
        do { try await check(stands, owner) } catch {
            await leave(owner.id, madeAs: policy)
            throw error
        }
        return kept
    }

    private func check(_ stands: @Sendable () async -> Bool, _ owner: AgentRecord) async throws {
        guard await stands() else {
            throw AegisError.conflict(
                "sandbox-lost", "the sandbox of agent \(owner.name) is gone, or what it shows has changed",
                hint: "call it again")
        }
    }

    private func make(
        _ owner: AgentRecord, _ plan: SandboxPlan, _ found: (kit: String, servers: [KitTool], optional: Set<String>),
        _ stands: @escaping @Sendable () async -> Bool
    ) -> Held {
        let registry = ToolRegistry()
        let servers = found.servers.filter { !services.taken.contains($0.name) }
        let sections = servers.map { server in
            var section = MCPServerSection(server.name, command: server.command)
            section.keptAs = "\(owner.tree)/\(server.name)"
            section.idleStop = plan.idle
            // The sandbox may have to be made for it first, of an image that is fetched or built.
            section.startTimeout = Self.startTime
            if let timeout = server.timeout { section.timeout = timeout }
            return section
        }
        let (scope, clock, optional) = (services.scope, services.clock, found.optional)
        let permit = SandboxPermit(forServersOf: owner.id, policy: plan.policy)
        let plane = MCPPlane(
            sections, registry: registry, store: services.store, audit: services.audit, agent: owner.id, scope: scope,
            clock: clock, logger: services.logger
        ) { [self] section, onNotice in
            try await check(stands, owner)
            let process: any MCPProcess
            do { process = try await host.serve(section.name, for: owner, plan, permit, optional: optional) } catch {
                if await !stands() { scope.spawn("mcp: leaving") { await self.remove(owner.id, madeAs: plan.policy) } }
                throw error
            }
            do { try await check(stands, owner) } catch {
                // What was taken back while it started is not left in it. Not waited for: this is itself waited for there.
                await process.stop()
                scope.spawn("mcp: leaving") { await self.remove(owner.id, madeAs: plan.policy) }
                throw error
            }
            return MCPStdioTransport(section.name, process, scope: scope, clock: clock, onNotice: onNotice)
        }
        return Held(
            policy: plan.policy, kit: found.kit, owner: owner, names: sections.map(\.name), plane: plane,
            registry: registry, permit: permit)
    }

    // MARK: For people

    /// The servers in the sandboxes of a caller's agents, as `MCPPlane.report` has them. What they wrote is their owner's: it ran
    /// in a sandbox of theirs.
    func report(for caller: Caller) -> [JSONValue] {
        let all = held.withLock { Array($0.values) }.filter { caller.maySee(owner: $0.owner.owner) }
        return all.sorted { $0.owner.id < $1.owner.id }.flatMap { held in
            held.plane.report(operators: true).map { entry in
                let fields = (entry.fields ?? []).map { field in
                    field.name == "place" ? JSONValue.Field("place", .string("sandbox of \(held.owner.name)")) : field
                }
                return .object(fields + [.init("agent", .string(held.owner.id)), .init("kit", .string(held.kit))])
            }
        }
    }
}
