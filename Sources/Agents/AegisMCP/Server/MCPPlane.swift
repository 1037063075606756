package import AegisAudit
package import AegisCore
package import AegisIO
package import AegisJSON
package import AegisTools
internal import Synchronization

/// The MCP servers of a node, and their tools in its registry.
package final class MCPPlane: Sendable {
    /// Starts a server, or finds the way to it.
    package typealias Opener =
        @Sendable (
            MCPServerSection, @escaping @Sendable (MCPNotice) -> Void
        ) async throws -> any MCPTransport

    /// What is known of the tools of one server.
    private struct Catalog {
        var entries: [MCPStore.Entry] = []
        var hello: (revision: String, software: String)?
        /// What is wrong with tools that are not offered.
        var problems: [String] = []
        var registered: Set<String> = []
        /// Whether it has said what its tools are.
        var isListed = false
        /// Whether somebody has waited for that in vain.
        var isLate = false
        var isListing = false
        var wantsList = false
    }

    private let registry: ToolRegistry
    private let store: MCPStore
    private let audit: any AuditTrail
    /// The agent in whose sandbox the servers run; nil for those of the node.
    private let agent: String?
    private let scope: TaskScope
    let clock: any Clock<Duration>
    private let logger: Logger
    let links: Mutex<[(name: String, link: MCPLink)]>
    private let catalogs = Mutex<[String: Catalog]>([:])
    /// Changes of the registry are made one after another.
    private let order = Mutex(())

    /// How long after a list the next one is taken at the earliest, whatever a server says.
    private static let pause = Duration.seconds(2)

    /// Makes it, with nothing started.
    ///
    /// - Parameters:
    ///   - sections: the servers that the configuration names.
    ///   - registry: where their tools go.
    ///   - store: what is kept of them.
    ///   - audit: where what matters is recorded.
    ///   - agent: the agent in whose sandbox the servers run; nil for those of the node.
    ///   - scope: owns the tasks.
    ///   - clock: whose time counts.
    ///   - logger: told of what goes wrong when nobody waits for it.
    ///   - times: how long servers may take to answer.
    ///   - open: starts a server, or finds the way to it.
    package init(
        _ sections: [MCPServerSection], registry: ToolRegistry, store: MCPStore, audit: any AuditTrail,
        agent: String? = nil,
        scope: TaskScope, clock: any Clock<Duration>, logger: Logger, times: MCPClient.Times = MCPClient.Times(),
        open: @escaping Opener
    ) {
        self.registry = registry
        self.store = store
        self.audit = audit
        self.agent = agent
        self.scope = scope
        self.clock = clock
        self.logger = logger
        links = Mutex([])
        for section in sections where section.isEnabled {
            let name = section.name
            let link = MCPLink(
                section, open: open, scope: scope, clock: clock, times: times,
                onConnect: { [weak self] client in
                    self?.connected(name, client.hello)
                    try await self?.list(name, client)
                },
                onNotice: { [weak self] notice in if notice == .toolsChanged { self?.list(name) } })
            links.withLock { $0.append((name, link)) }
        }
    }

    /// Offers the tools that are known from before, and asks the other servers for theirs in the background.
    package func start() {
        for (name, link) in links.withLock({ $0 }) {
            let section = link.section
            do throws(AegisError) {
                let kept = try store.kept(section.keptName) { section.approval(of: $0) != .first }
                if let kept, kept.origin == link.section.origin {
                    catalogs.withLock { $0[name, default: Catalog()].hello = (kept.revision, kept.software) }
                    offer(kept.entries, problems: [], of: link)
                    continue
                }
            } catch { logger.warning("what is kept of an MCP server cannot be read", ("error", error.message)) }
            list(name)
        }
    }

    /// Stops every server.
    package func end() async {
        await withDiscardingTaskGroup { group in
            for (_, link) in links.withLock({ $0 }) { group.addTask { await link.end() } }
        }
    }

    private func link(_ name: String) -> MCPLink? { links.withLock { $0.first { $0.name == name }?.link } }

    private func connected(_ name: String, _ hello: MCPHello) {
        catalogs.withLock { $0[name, default: Catalog()].hello = (hello.revision, hello.software) }
        record(.mcpConnected, name, ("revision", hello.revision), ("software", hello.software))
    }

    /// What cannot be recorded is not worth an end here: each call is recorded by the gate before it is made.
    private func record(_ kind: AuditKind, _ server: String, _ fields: (String, String)...) {
        _ = try? audit.record(event(kind, server, fields))
    }

    private func event(_ kind: AuditKind, _ server: String, _ fields: [(String, String)]) -> AuditEvent {
        var event = AuditEvent(kind, agent: agent, ("server", .string(server)))
        event.fields += fields.map { JSONValue.Field($0.0, .string($0.1)) }
        return event
    }

    // MARK: Lists

    /// Asks a server for its tools, in the background; wishes that come meanwhile are one more list.
    func list(_ name: String) {
        let isFirst = catalogs.withLock { catalogs in
            catalogs[name, default: Catalog()].wantsList = true
            defer { catalogs[name]?.isListing = true }
            return catalogs[name]?.isListing != true
        }
        guard isFirst else { return }
        scope.spawn("mcp \(name): tools") {
            while self.catalogs.withLock({ self.takeWish(&$0, name) }) {
                do { try await self.refresh(name) } catch {
                    self.logger.warning("an MCP server did not list its tools", ("server", name), ("error", "\(error)"))
                }
                // A server that says it every moment is listed every now and then.
                do { try await self.clock.sleep(for: Self.pause) } catch { return }
            }
        }
    }

    private func takeWish(_ catalogs: inout [String: Catalog], _ name: String) -> Bool {
        guard catalogs[name]?.wantsList == true else {
            catalogs[name]?.isListing = false
            return false
        }
        catalogs[name]?.wantsList = false
        return true
    }

    func isLate(_ name: String) -> Bool { catalogs.withLock { $0[name]?.isLate ?? false } }
    func setLate(_ name: String) { catalogs.withLock { $0[name, default: Catalog()].isLate = true } }

    /// Whether a server has said what its tools are.
    package func isListed(_ name: String) -> Bool { catalogs.withLock { $0[name]?.isListed ?? false } }

    /// Asks a server for its tools, and offers them.
    ///
    /// - Throws: `mcp-server-not-found`, and why there is no list.
    package func refresh(_ name: String) async throws {
        guard let link = link(name) else { throw unknown(name) }
        let before = link.connections
        try await link.use { client in
            // One that was connected to for this has just been asked.
            if link.connections == before { try await list(name, client) }
        }
    }

    private func list(_ name: String, _ client: MCPClient) async throws {
        guard let link = link(name) else { return }
        let hello = client.hello
        let listed = try await client.tools()
        let section = link.section
        var problems = listed.problems
        let tools = listed.tools.filter { tool in
            guard section.admits(tool.name) else { return false }
            guard section.url != nil, let problem = MCPParameterHeaders.problem(in: tool.schema) else { return true }
            problems.append("'\(tool.name)': \(problem)")
            return false
        }
        let known = Dictionary(
            catalogs.withLock { $0[name]?.entries ?? [] }.map { ($0.definition.name, $0.definition.hash) }
        ) { first, _ in first }
        let entries = try store.keep(section.keptName, origin: section.origin, hello, tools, at: .now()) { tool in
            section.approval(of: tool) != .first
        }
        for entry in entries where entry.hasChanged && known[entry.definition.name] != entry.definition.hash {
            record(.mcpToolChanged, name, ("tool", entry.definition.name), ("hash", entry.definition.hash))
        }
        offer(entries, problems: problems, of: link)
    }

    private func unknown(_ name: String) -> AegisError {
        let names = links.withLock { $0.map(\.name) }
        return .notFound(
            "mcp-server-not-found", "no MCP server '\(MCPText.line(name, most: 80))'",
            hint: nearest(name, in: names).map { "did you mean '\($0)'?" } ?? "see 'aegis mcp list'")
    }

    /// Puts tools into the registry, and takes out those that are gone.
    private func offer(_ entries: [MCPStore.Entry], problems: [String], of link: MCPLink) {
        let section = link.section
        order.withLock { _ in
            var problems = problems
            var registered: Set<String> = []
            for entry in entries where section.admits(entry.definition.name) {
                let tool = entry.definition.name
                let asks = !entry.isAccepted || section.approval(of: tool) == .always
                let offered = MCPTool(entry, of: link, asks: asks, desk: self)
                do throws(AegisError) {
                    let own = catalogs.withLock { $0[section.name]?.registered.contains(tool) ?? false }
                    try registry.register(offered, foreign: true, replacing: own)
                    registered.insert(tool)
                } catch { problems.append("'\(tool)': \(error.message)") }
            }
            let gone = catalogs.withLock { catalogs in
                let old = catalogs[section.name]?.registered ?? []
                catalogs[section.name, default: Catalog()].entries = entries
                catalogs[section.name]?.problems = problems
                catalogs[section.name]?.registered = registered
                catalogs[section.name]?.isListed = true
                return old.subtracting(registered)
            }
            for tool in gone { registry.remove(section.fullName(tool)) }
        }
    }
}

extension MCPPlane: MCPToolDesk {
    func current(_ tool: String, of server: String) -> MCPToolDefinition? {
        catalogs.withLock { catalogs in
            guard let catalog = catalogs[server], catalog.registered.contains(tool) else { return nil }
            return catalog.entries.first { $0.definition.name == tool }?.definition
        }
    }

    func accepted(_ definition: MCPToolDefinition, of server: String) throws(AegisError) {
        guard let link = link(server) else { return }
        let catalog = catalogs.withLock { $0[server] }
        guard var entries = catalog?.entries, let place = entries.firstIndex(where: { $0.definition == definition }),
            !entries[place].isAccepted
        else { return }
        // It counts for whoever comes after: not without a record.
        try audit.record(event(.mcpToolAccepted, server, [("tool", definition.name), ("hash", definition.hash)]))
        try store.accept(link.section.keptName, definition)
        entries[place].accepted = definition.hash
        offer(entries, problems: catalog?.problems ?? [], of: link)
    }
}

extension MCPPlane {
    // MARK: For people

    /// Every server: where it stands, what it speaks, its tools, and what went wrong.
    ///
    /// - Parameters:
    ///   - operators: whether who asks runs the node: others are told neither addresses, which may hold keys, nor what servers
    ///     wrote.
    ///   - user: who asks; those that are not for them are left out.
    /// - Returns: an object for each server.
    package func report(operators: Bool, user: UInt32 = 0) -> [JSONValue] {
        links.withLock { $0 }.filter { $0.link.section.serves(user: user) }.map { name, link in
            let catalog = catalogs.withLock { $0[name] } ?? Catalog()
            let standing = link.standing
            let section = link.section
            var fields: [JSONValue.Field] = [
                .init("name", .string(name)), .init("transport", section.url == nil ? "stdio" : "http"),
                .init("place", .string(Self.place(section, operators: operators))),
                .init("state", .string(Self.word(standing.phase))),
            ]
            if section.url == nil { fields.append(.init("network", .string(section.sandbox.networkMode))) }
            if let hello = catalog.hello {
                fields.append(.init("revision", .string(hello.revision)))
                fields.append(.init("software", .string(hello.software)))
            }
            fields.append(
                .init(
                    "tools",
                    .array(
                        catalog.entries.filter { catalog.registered.contains($0.definition.name) }.map { entry in
                            let asks = !entry.isAccepted || section.approval(of: entry.definition.name) == .always
                            return [
                                "name": .string(section.fullName(entry.definition.name)), "approval": .bool(asks),
                                "changed": .bool(entry.hasChanged), "hash": .string(entry.definition.hash),
                            ]
                        })))
            if !catalog.problems.isEmpty {
                fields.append(.init("problems", .array(catalog.problems.prefix(100).map { .string($0) })))
            }
            if let error = standing.lastError {
                var told: [JSONValue.Field] = [
                    .init("code", .string(error.code)), .init("message", .string(error.message)),
                ]
                if operators, let hint = error.hint { told.append(.init("hint", .string(hint))) }
                fields.append(.init("last_error", .object(told)))
            }
            return .object(fields)
        }
    }

    /// What a server wrote is for people: a model is told where they find it.
    package static func hideRemarks(in error: inout AegisError) {
        guard error.hint?.hasPrefix(MCPLink.remarksMark) == true else { return }
        error.hint = "who runs this node finds what it wrote with 'aegis mcp list --output yaml'"
    }

    private static func place(_ section: MCPServerSection, operators: Bool) -> String {
        guard let url = section.url else { return section.sandbox.isHost ? "host" : "instance" }
        return operators ? url : "elsewhere"
    }

    private static func word(_ phase: MCPLink.Phase) -> String {
        switch phase {
        case .stopped: "stopped"
        case .connecting: "starting"
        case .ready: "running"
        case .waiting: "failed"
        }
    }
}
