package import AegisCore
package import AegisIO
package import AegisProxy
import AegisSandboxTypes
import AegisWire

/// Serves every exposed port of every instance, and the main router's port (issue 3, decisions D25 and D27).
///
/// Its state belongs to its loop's thread, hence `@unchecked Sendable`.
package final class Router: @unchecked Sendable {
    private let services: RouterServices
    private let changed = Signal()
    private var ports: [ExposedPort.Key: ExposedPort] = [:]
    /// The same in the source's order, for those who look for one.
    private var order: [ExposedPort] = []
    /// Which instance a kit's path leads to: the first that had it, for as long as it has.
    private var paths: [String: String] = [:]
    private var main: Listener?
    private var bindRetryAt: UInt64?

    /// A router that does nothing until `run`.
    ///
    /// - Parameters:
    ///   - source: the instances.
    ///   - loop: best one of its own; all data goes through its thread.
    ///   - limits: of waiting and holding.
    ///   - proxyLimits: of connections and messages.
    ///   - apiPort: where this daemon's API listens, for the error of who wants that port.
    ///   - log: gets refused connections and ports that cannot be had.
    ///   - time: monotonic nanoseconds, which limits of connections are measured by; nil: the machine's.
    package init(
        _ source: any RouteSource, on loop: EventLoop, limits: RouterLimits = RouterLimits(),
        proxyLimits: ProxyLimits = ProxyLimits(), apiPort: UInt16? = nil, log: Logger = .none,
        time: (@Sendable () -> UInt64)? = nil
    ) {
        let proxy = HTTPProxy(on: loop, limits: proxyLimits, time: time)
        services = RouterServices(source, proxy, limits, log, apiPort: apiPort)
    }

    /// Listens on the main router's port; before `run`.
    ///
    /// - Parameters:
    ///   - address: loopback unless the user wants otherwise.
    ///   - port: 0 = any free one.
    /// - Returns: the port.
    /// - Throws: why it cannot be had.
    package func listen(address: String = "127.0.0.1", port: UInt16) throws(IOError) -> UInt16 {
        let listener = try Listener.tcp(address: address, port: port, on: services.proxy.loop, backlog: 4096)
        let bound = try listener.localPort()
        main = listener
        services.listens(on: bound)
        return bound
    }

    /// Connections of clients that speak HTTP, at present.
    package func connectionCount() async -> Int {
        await services.proxy.loop.run { self.services.proxy.connectionCount }
    }

    /// Connections and requests that wait for an instance to be ready, at present.
    package func waitingCount() async -> Int {
        await services.proxy.loop.run { self.order.reduce(0) { $0 + $1.waitingCount } }
    }

    /// Serves until the task is cancelled; then everything is closed.
    ///
    /// - Parameter whenListening: called once every port that there was at the beginning is listened on, or has said why not.
    package func run(whenListening: @escaping @Sendable () -> Void = {}) async {
        await services.proxy.loop.run { await self.runOnLoop(whenListening) }
    }

    private func runOnLoop(_ whenListening: @Sendable () -> Void) async {
        let changed = changed
        let leave = services.source.onChange { changed.set() }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.services.proxy.run { self.sweep($0) } }
            if let main, let port = try? main.localPort() {
                group.addTask { await self.acceptMain(main, MainDirector(router: self, port: port)) }
            }
            await reconcile()
            whenListening()
            while !Task.isCancelled {
                await changed.wait()
                await reconcile()
            }
            group.cancelAll()
            services.proxy.cut()
        }
        leave()
        for port in ports.values { port.close() }
        main?.close()
        await services.proxy.end()
        await services.scope.end()
    }

    private func acceptMain(_ listener: Listener, _ director: MainDirector) async {
        await withDiscardingTaskGroup { group in
            while !Task.isCancelled {
                do throws(IOError) {
                    let stream = try await listener.accept()
                    group.addTask {
                        await self.services.proxy.serve(stream, client: stream.proxyClient, director: director)
                    }
                } catch {
                    guard error.kind == .system else { break }
                    try? await services.proxy.loop.clock.sleep(for: .milliseconds(50))
                }
            }
        }
    }

    // MARK: Ports

    /// Makes what is served equal to what is to be served.
    private func reconcile() async {
        let wanted = await services.source.exposures()
        var keys: [ExposedPort.Key] = []
        var fresh: [ExposedPort.Key: Exposure] = [:]
        for exposure in wanted {
            let key = ExposedPort.Key(instance: exposure.instance, guestPort: exposure.guestPort)
            keys.append(key)
            if ports[key]?.update(exposure) != true { fresh[key] = exposure }
        }
        let kept = Set(keys)
        // What goes away goes first: its number may be wanted by what comes.
        for (key, port) in ports where !kept.contains(key) || fresh[key] != nil {
            port.close()
            ports[key] = nil
        }
        for (key, exposure) in fresh { ports[key] = ExposedPort(exposure, services) }
        order = keys.compactMap { ports[$0] }
        let named = order.filter { $0.exposure.routing?.path != nil && $0.isWeb }
        paths = paths.filter { path, id in
            named.contains { $0.exposure.instance == id && $0.exposure.routing?.path == path }
        }
        for port in named {
            guard let path = port.exposure.routing?.path, paths[path] == nil else { continue }
            paths[path] = port.exposure.instance
        }
        for port in order where port.bind() { await tell(port) }
        retryLater()
    }

    private func tell(_ port: ExposedPort) async {
        let exposure = port.exposure
        if let error = port.failure {
            services.log.warning(
                "A public port cannot be had", ("instance", exposure.instance), ("port", "\(exposure.publicPort)"),
                ("cause", error.message))
            await services.source.bindFailed(exposure.instance, guestPort: exposure.guestPort, error)
        } else {
            await services.source.didBind(
                exposure.instance, guestPort: exposure.guestPort, publicPort: port.boundPort)
        }
    }

    private func retryLater() {
        guard order.contains(where: { $0.failure != nil }) else {
            bindRetryAt = nil
            return
        }
        services.proxy.wake()
        bindRetryAt = services.proxy.now &+ UInt64(services.limits.bindRetry.wholeNanoseconds)
    }

    /// - Returns: whether time has anything left to do.
    private func sweep(_ now: UInt64) -> Bool {
        var more = false
        for port in order where port.target.sweep(now) { more = true }
        if let at = bindRetryAt {
            more = true
            if at <= now {
                bindRetryAt = nil
                changed.set()
            }
        }
        return more
    }

    // MARK: The main router's view

    /// The port that a label means: `NAME`, `PORT-NAME`, or the same with an id.
    func port(label: String) -> ExposedPort? {
        let label = label.lowercased()
        if let found = port(of: label, guestPort: nil) { return found }
        let digits = label.prefix { $0.isASCII && $0.isNumber }
        guard !digits.isEmpty, let number = UInt16(digits), label.dropFirst(digits.count).hasPrefix("-") else {
            return nil
        }
        return port(of: String(label.dropFirst(digits.count + 1)), guestPort: number)
    }

    /// HTTP before WebSockets where no port is given, and in the order of the exposures.
    private func port(of name: String, guestPort: UInt16?) -> ExposedPort? {
        let all = order.filter { port in
            let exposure = port.exposure
            guard exposure.name == name || exposure.instance == name else { return false }
            guard exposure.portProtocol == .http || exposure.portProtocol == .ws else { return false }
            return guestPort == nil || exposure.guestPort == guestPort
        }
        return all.first { $0.exposure.portProtocol == .http } ?? all.first
    }

    /// The port of the instance whose kit names this path.
    func port(path segment: String) -> ExposedPort? {
        paths["/\(segment)"].flatMap { port(of: $0, guestPort: nil) }
    }

    /// The port of the only instance that serves anything.
    var onlyPort: ExposedPort? {
        let all = order.filter { $0.exposure.portProtocol == .http || $0.exposure.portProtocol == .ws }
        guard let first = all.first, all.allSatisfy({ $0.exposure.instance == first.exposure.instance }) else {
            return nil
        }
        return port(of: first.exposure.instance, guestPort: nil)
    }

    /// What can be asked for.
    var labels: [String] {
        var seen: Set<String> = []
        return order.compactMap { port in
            let exposure = port.exposure
            guard exposure.portProtocol == .http || exposure.portProtocol == .ws else { return nil }
            let label = exposure.name ?? exposure.instance
            return seen.insert(label).inserted ? label : nil
        }
    }
}
