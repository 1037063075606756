internal import AegisAudit
internal import AegisChannel
internal import AegisCore
internal import AegisHTTPClient
internal import AegisIO
internal import AegisInstances
internal import AegisMCP
internal import AegisSecrets
internal import AegisStore
internal import AegisTools
internal import LinuxSys

/// The MCP servers of the configuration and of kits, put together.
enum MCPServers {
    /// The sandboxes of agents, with the servers that kits bring.
    static func inSandboxes(
        _ settings: DaemonSettings, _ services: DaemonServices, scope: TaskScope, loop: EventLoop, logger: Logger
    ) -> KitServers {
        let host = AgentSandboxHost(services.directory, kits: services.kits, loop: services.loop, logger: logger)
        return KitServers(
            host,
            KitServers.Services(
                kits: services.kits, store: MCPStore(services.database), audit: services.audit.ledger, scope: scope,
                clock: loop.clock, logger: logger, taken: Set(settings.mcpServers.map(\.name))))
    }

    /// An entry with the numbers of the users that it names.
    private static func withUsers(_ section: MCPServerSection) throws(AegisError) -> MCPServerSection {
        guard !section.users.isEmpty else { return section }
        var section = section
        var numbers: Set<UInt32> = []
        for user in section.users {
            if let number = UInt32(user) {
                numbers.insert(number)
                continue
            }
            guard let passwd = try? Files.read("/etc/passwd", limit: Accounts.fileLimit),
                let account = try? Accounts.resolve(Array(user.utf8), passwd: passwd, group: [])
            else {
                throw AegisError(
                    .usage, "invalid-config",
                    "the MCP server '\(section.name)' names the user '\(user)', who is not in /etc/passwd",
                    hint: "write the user's number where the name is known elsewhere only")
            }
            numbers.insert(account.uid)
        }
        section.userIDs = numbers
        return section
    }

    static func make(
        _ settings: DaemonSettings, _ registry: ToolRegistry, _ services: DaemonServices, scope: TaskScope,
        loop: EventLoop, logger: Logger
    ) throws -> MCPPlane {
        let sections = try settings.mcpServers.map { section throws(AegisError) in try withUsers(section) }
        let names = sections.map(\.name)
        if let twice = names.first(where: { name in names.count { $0 == name } > 1 }) {
            throw AegisError(
                .usage, "invalid-config", "two entries of mcp_servers have the name '\(twice)'",
                hint: "each server has a name of its own")
        }
        let client = try HTTPClient(on: loop, authorities: settings.tls.authorities)
        let instances = MCPInstanceHost(directory: services.directory)
        let secrets = services.secrets
        let host = MCPHostPlace(
            program: try Files.readLink("/proc/self/exe"), cgroups: services.cgroups, secrets: secrets, loop: loop,
            scope: scope)
        let clock = loop.clock
        return MCPPlane(
            sections, registry: registry, store: MCPStore(services.database), audit: services.audit.ledger,
            scope: scope, clock: clock, logger: logger
        ) { section, onNotice in
            guard let url = section.url else {
                let place: any MCPProcessHost = section.sandbox.isHost ? host : instances
                let process = try await place.start(section)
                return MCPStdioTransport(section.name, process, scope: scope, clock: clock, onNotice: onNotice)
            }
            let headers = try await BlockingPool.shared.run {
                try section.headers.map { header in
                    let value = try header.value { name throws(AegisError) in
                        String(decoding: try secrets.value(of: name).reveal(), as: UTF8.self)
                    }
                    return (name: header.name, value: value)
                }
            }
            return try MCPHTTPTransport(
                section.name, url, headers: headers, client: client, scope: scope, clock: clock, onNotice: onNotice)
        }
    }
}
