internal import AegisAPI
internal import AegisBackends
internal import AegisConfig
internal import AegisCore
internal import AegisFiles
internal import AegisIO
internal import AegisImages
internal import AegisInstances
internal import AegisRouter
internal import AegisSandboxTypes
internal import AegisSecrets
internal import AegisStore
internal import AegisWire
internal import LinuxSys
internal import Synchronization

/// The composition root: builds every service once, runs them, and takes them down in reverse order.
enum Daemon {
    /// How long requests in flight may take when the daemon ends.
    private static let drain = Duration.seconds(5)
    /// How long the start waits for the router to listen on what instances expose.
    private static let portPatience = Duration.seconds(10)
    /// Descriptors for as many connections as the router takes, each with one to its server, and for the instances. What
    /// runs in a sandbox has a limit of its own.
    private static let openFiles: UInt64 = 131_072

    private static func claimResources(_ logger: Logger, _ loop: EventLoop) {
        // The allocator keeps what a thousand connections have used, for good if nobody asks for it.
        loop.afterBursts { CurrentProcess.trimMemory() }
        do throws(Errno) { try CurrentProcess.protectFromOutOfMemory(score: -900) } catch {
            logger.debug("this daemon is as mortal as others when memory runs out", ("error", "\(error)"))
        }
        let files = CurrentProcess.raiseOpenFiles(to: openFiles)
        guard files < openFiles else { return }
        logger.warning("this daemon may have few files open: connections are refused sooner", ("limit", "\(files)"))
    }

    static func run(options: DaemonOptions, home: DaemonHome, loop: EventLoop, readiness: Readiness) async throws {
        try CurrentProcess.setDumpable(false)
        // AEGIS_DEBUG=1 shows what is told on the way: the steps of each boot, for one.
        let minimum = environmentValue("AEGIS_DEBUG") == "1" ? Logger.Level.debug : .info
        let logger = Logger(minimum: minimum) { say($0.description) }
        claimResources(logger, loop)
        let settings = try DaemonSettings(options: options, home: home)
        let signals = try SignalSource([15, 2, 1], on: loop)
        let scope = TaskScope(on: loop)
        let services = try DaemonServices(settings: settings, home: home, loop: loop, scope: scope, logger: logger)
        services.start(scope)
        let ending = Ending()
        let stage = try await Listening.open(settings: settings, home: home, loop: loop, anyPorts: options.anyPorts)
        let routing = try EventLoop.startThread(name: "router")
        defer { routing.stop() }
        let router = Router(
            InstanceRouteSource(directory: services.directory), on: routing, apiPort: try? stage.tcp?.localPort(),
            log: logger)
        var ports = stage.ports
        ports["router"] = try Listening.listen(router, settings: settings, anyPorts: options.anyPorts)
        let facts = services.facts(home: home, settings: settings, ports: ports, ending: ending)
        let agents = try await AgentPlane(settings: settings, home: home, services: services, logger: logger)
        let (socketServer, tcpServer) = servers(services, agents, facts, settings: settings, home: home, loop: loop)
        let guestServer = guests(services, loop: loop)

        try home.writePid()
        scope.spawn("images") { await services.images.run() }
        try await services.sweep()
        try await services.directory.recover()
        await services.sweepWarm()
        try await agents.start()

        await withTaskGroup(of: Void.self) { group in
            group.addTask { await socketServer.run([stage.socket]) }
            let (listening, listens) = AsyncStream<Never>.makeStream()
            group.addTask { await router.run { listens.finish() } }
            group.addTask { await guestServer.watch() }
            if let tcp = stage.tcp { group.addTask { await tcpServer.run([tcp]) } }
            group.addTask { await heed(signals, ending) }
            await announce(readiness, once: listening, home: home, clock: loop.clock, logger)
            // After readiness: `up` does not wait for canaries, `auto` waits for those it needs (decision D37).
            scope.spawn("probes") { await services.prove() }
            let keep = await ending.wait()
            logger.info("stopping", ("keep_instances", "\(keep)"))
            await agents.end()
            if keep { await services.directory.leaveAlone() } else { await services.directory.stopAll() }
            services.directory.endWatching()
            async let socketDone: Void = socketServer.shutdown(within: drain)
            async let tcpDone: Void = tcpServer.shutdown(within: drain)
            async let guestsDone: Void = guestServer.shutdown(within: .seconds(1))
            _ = await (socketDone, tcpDone, guestsDone)
            if keep { await services.directory.seeOff(within: drain) }
            signals.close()
            group.cancelAll()
        }
        await scope.end()
        await services.close(keepingInstances: ending.keepsInstances)
        home.removeMarks()
        logger.info("stopped")
    }

    /// Tells that the daemon is ready: whoever comes then is not refused by a public port that is not there yet.
    private static func announce(
        _ readiness: Readiness, once listening: AsyncStream<Never>, home: DaemonHome, clock: LoopClock, _ logger: Logger
    ) async {
        try? await withDeadline(portPatience, clock: clock) { for await _ in listening {} }
        logger.info("ready", ("home", home.path), ("node", home.node), ("pid", "\(CurrentProcess.pid)"))
        readiness.ready()
    }

    private static func heed(_ signals: SignalSource, _ ending: Ending) async {
        while let signal = try? await signals.next() {
            // SIGHUP is what a closed terminal sends: the daemon is not its child.
            if signal != 1 { ending.begin(keepingInstances: false) }
        }
    }

    /// Answers programs inside instances.
    private static func guests(_ services: DaemonServices, loop: EventLoop) -> HTTPServer {
        let shared = LogRoutes(services.directory).routes + StreamRoutes(services.directory).routes
        let routes = GuestRoutes(services.directory, shared: shared).routes
        let router = APIRouter(
            routes: routes + [SystemRoutes.description(of: routes)], owner: Caller(uid: .max, gid: .max))
        let server = HTTPServer(clock: loop.clock, handler: router.handler(for: .guest))
        services.directory.guests.open { stream, instance in
            await server.serve(stream, peer: .guest(instance: instance))
        }
        return server
    }

    private static func servers(
        _ services: DaemonServices, _ agents: AgentPlane, _ facts: SystemFacts, settings: DaemonSettings,
        home: DaemonHome, loop: EventLoop
    ) -> (socket: HTTPServer, tcp: HTTPServer) {
        let servers = MCPRoutes(agents.mcp, more: agents.kitServers.report)
        let groups = [
            SystemRoutes(facts, directory: services.directory, agents: agents.service, servers: servers).routes,
            InstanceRoutes(services.directory, kits: services.kits).routes, KitRoutes(services.kits).routes,
            StreamRoutes(services.directory).routes, LogRoutes(services.directory).routes,
            EventRoutes(services.directory, ledger: agents.events).routes, GroupRoutes(services.directory).routes,
            WorkspaceRoutes(services.directory).routes,
            FileRoutes(services.directory).routes, SecretRoutes(services.secrets, audit: services.audit.ledger).routes,
            ImageRoutes(services.images, directory: services.directory).routes,
            DebugRoutes(services.directory).routes, AgentRoutes(agents.service).routes, agents.routes,
            servers.routes,
            AuditRoutes(
                services.audit.service, resolve: AgentFaces.names(agents.service, services.directory)
            ).routes,
        ].flatMap(\.self)
        let routes = groups + [SystemRoutes.description(of: groups)]
        let router = APIRouter(
            routes: routes, owner: Caller(uid: CurrentProcess.effectiveUser, gid: CurrentProcess.effectiveGroup))
        let hosts = ["localhost", "127.0.0.1", "[::1]", settings.network.bind] + settings.network.hosts
        let door = APIRouter.Door.tcp(
            token: settings.token.reveal(), hosts: hosts, openMetrics: settings.network.openMetrics)
        return (
            HTTPServer(clock: loop.clock, handler: router.handler(for: .socket)),
            HTTPServer(clock: loop.clock, handler: router.handler(for: door))
        )
    }
}

/// The wish to end, from a signal or a request; said once.
final class Ending: Sendable {
    private struct State {
        var keepsInstances: Bool?
        var waiter: CheckedContinuation<Bool, Never>?
    }
    private let state = Mutex(State())

    var keepsInstances: Bool { state.withLock { $0.keepsInstances } ?? false }

    func begin(keepingInstances keep: Bool) {
        let waiter = state.withLock { state -> CheckedContinuation<Bool, Never>? in
            guard state.keepsInstances == nil else { return nil }
            state.keepsInstances = keep
            return state.waiter
        }
        waiter?.resume(returning: keep)
    }

    func wait() async -> Bool {
        await withCheckedContinuation { continuation in
            let keep = state.withLock { state -> Bool? in
                if state.keepsInstances == nil { state.waiter = continuation }
                return state.keepsInstances
            }
            if let keep { continuation.resume(returning: keep) }
        }
    }
}
