import AegisCore
import AegisIO
import AegisProxy
import AegisSandboxTypes
import AegisWire
import LinuxSys

/// One exposed port: its listener, which outlives whatever the instance does, and its target.
///
/// On the router's loop only, hence `@unchecked Sendable`.
final class ExposedPort: @unchecked Sendable {
    /// Names an exposure for its life.
    struct Key: Hashable {
        let instance: String
        let guestPort: UInt16
    }

    private let services: RouterServices
    let target: RouteTarget
    private var listener: Listener?
    private var accepting: TaskScope.Handle?
    /// The public port that is listened on; 0 while there is none.
    private(set) var boundPort: UInt16 = 0
    /// What the source was told about a port that cannot be had.
    private(set) var failure: AegisError?
    /// Connections that are held for an instance that is not ready.
    private var held = 0
    /// Until when it is known from the log that there is no room.
    private var fullToldUntil: UInt64 = 0
    private static let fullPause: UInt64 = 10_000_000_000
    /// What the instance's kit sets in requests and responses.
    private var fields: (request: ProxyFields?, response: ProxyFields?)
    /// What of the exposure each request needs: a copy of it all would cost as much as parsing the request.
    private let portProtocol: ExposeSpec.PortProtocol
    private var showsPage: Bool
    /// Connections and requests that wait for the instance.
    var waitingCount: Int { held + target.waitingCount }

    var exposure: Exposure { target.exposure }
    /// Whether the main router's port serves it, too.
    var isWeb: Bool { exposure.portProtocol == .http || exposure.portProtocol == .ws }
    var key: Key { Key(instance: exposure.instance, guestPort: exposure.guestPort) }

    init(_ exposure: Exposure, _ services: RouterServices) {
        self.services = services
        portProtocol = exposure.portProtocol
        showsPage = exposure.ui
        target = RouteTarget(exposure, services)
        fields = Self.fields(of: exposure)
    }

    /// Takes over a changed exposure.
    ///
    /// - Returns: false when it is to listen elsewhere, and has to be made anew.
    func update(_ new: Exposure) -> Bool {
        let sameProtocol = new.portProtocol == exposure.portProtocol
        let samePort = new.publicPort == boundPort || (new.publicPort == 0 && exposure.publicPort == 0)
        guard new.address == exposure.address, sameProtocol, samePort || boundPort == 0 else { return false }
        target.exposure = new
        showsPage = new.ui
        fields = Self.fields(of: new)
        return true
    }

    private static func fields(of exposure: Exposure) -> (request: ProxyFields?, response: ProxyFields?) {
        func made(_ set: [String: String]?) -> ProxyFields? {
            guard let set, !set.isEmpty else { return nil }
            return ProxyFields(set.sorted { $0.key < $1.key }.map { (name: $0.key, value: $0.value) })
        }
        return (made(exposure.routing?.headers?.request), made(exposure.routing?.headers?.response))
    }

    /// Listens, if it does not yet.
    ///
    /// - Returns: whether there is news for the source.
    func bind() -> Bool {
        guard listener == nil else { return false }
        do throws(IOError) {
            let listener = try LastingPorts.listen(
                address: exposure.address, port: exposure.publicPort, on: services.proxy.loop)
            boundPort = try listener.localPort()
            self.listener = listener
            failure = nil
            accepting = services.scope.spawn("serve \(exposure.instance):\(exposure.guestPort)") { [self] in
                await acceptAll(from: listener)
            }
            return true
        } catch {
            let isNews = failure == nil
            failure = services.failure(error, exposure)
            return isNews
        }
    }

    /// Stops listening and ends all connections.
    func close() {
        listener?.close()
        listener = nil
        boundPort = 0
        accepting?.cancel()
        services.proxy.cut(ObjectIdentifier(self))
        target.close()
    }

    private func acceptAll(from listener: Listener) async {
        await withDiscardingTaskGroup { group in
            while !Task.isCancelled {
                do throws(IOError) {
                    let stream = try await listener.accept()
                    group.addTask { await self.serve(stream) }
                } catch {
                    guard error.kind == .system else { break }
                    // Out of memory or the like: what is open may end and make room.
                    try? await services.proxy.loop.clock.sleep(for: .milliseconds(50))
                }
            }
            listener.close()
        }
    }

    private func serve(_ stream: FileStream) async {
        if exposure.address != "127.0.0.1", exposure.address != "::1" { stream.setKeepAlive() }
        switch exposure.portProtocol {
        case .http, .ws:
            let arrival = PortDirector(port: self, isHeld: exposure.wake == .connect)
            await services.proxy.serve(
                stream, client: stream.proxyClient, director: arrival, owner: ObjectIdentifier(self))
            // One that is only parked has sent a request before.
            arrival.settle()
        case .grpc:
            let isHeld = exposure.wake == .connect
            if isHeld { target.arrived() }
            await services.proxy.serveHTTP2(
                HTTP2Transport(stream), client: stream.proxyClient, target: target, scope: services.scope,
                owner: ObjectIdentifier(self)
            ) { [target] in
                if isHeld { target.settled() }
            }
        case .tcp:
            await serveBytes(stream)
        }
    }

    /// Holds a connection silently until the port answers, and joins the two; a client sees a reset when it never does.
    private func serveBytes(_ stream: FileStream) async {
        guard held < services.limits.waiting else { return refuseForRoom(stream, "\(held) wait for the port already") }
        guard services.enter() else {
            return refuseForRoom(
                stream, "there are \(services.limits.streams) connections to tcp ports, which is the limit")
        }
        defer { services.leave() }
        held += 1
        let opening = RouteOpening(
            exposure: exposure, source: services.source, loop: services.proxy.loop, limits: services.limits)
        do {
            let found = try await open(opening, for: stream)
            held -= 1
            await Tunnel.relay(stream, found.stream, pools: services.proxy.pools)
            // The instance is held to the end of the connection.
            withExtendedLifetime(found.hold) {}
        } catch {
            held -= 1
            guard !(error is CancellationError) else { return stream.reset() }
            refuse(stream, "\(error)")
        }
    }

    /// Nobody has waited for this refusal: as many as clients like come in a second, and the log is not theirs to fill.
    private func refuseForRoom(_ stream: FileStream, _ cause: String) {
        let now = SystemTime.monotonic
        guard now >= fullToldUntil else { return stream.reset() }
        fullToldUntil = now + Self.fullPause
        refuse(stream, cause + "; others are refused without a word for some seconds")
    }

    private func refuse(_ stream: FileStream, _ cause: String) {
        services.log.info(
            "A connection was refused", ("instance", exposure.instance), ("port", "\(exposure.guestPort)"),
            ("cause", cause))
        stream.reset()
    }

    /// Holds the instance and finds its server, for as long as the client waits for it.
    private func open(
        _ opening: RouteOpening, for client: FileStream
    ) async throws -> (hold: any RouteHold, stream: FileStream) {
        try await withThrowingTaskGroup(of: (hold: any RouteHold, stream: FileStream).self) { group in
            defer { group.cancelAll() }
            group.addTask { try await opening.open(.connection) }
            group.addTask { [services] in
                while !client.isForsaken { try await services.proxy.loop.clock.sleep(for: services.proxy.limits.tick) }
                throw CancellationError()
            }
            guard let found = try await group.next() else { throw CancellationError() }
            return found
        }
    }
}

extension FileStream {
    /// Who is at the other end, for the server inside.
    var proxyClient: ProxyClient {
        let peer = try? withDescriptor("asking for the peer") { descriptor throws(Errno) in try descriptor.peerAddress()
        }
        return ProxyClient(address: (peer ?? nil)?.address ?? "unknown")
    }
}

/// Sends the requests of one connection to the port that it came in on.
///
/// On the router's loop only, hence `@unchecked Sendable`.
final class PortDirector: ProxyDirector, @unchecked Sendable {
    private let port: ExposedPort
    /// The connection itself holds the instance, until its first request.
    private var isHeld: Bool

    init(port: ExposedPort, isHeld: Bool) {
        self.port = port
        self.isHeld = isHeld
        if isHeld { port.target.arrived() }
    }

    func settle() {
        if isHeld { port.target.settled() }
        isHeld = false
    }

    func decide(_ request: ProxyRequest) -> ProxyDecision? {
        guard let decision = port.decide(request, ProxyEdits()) else { return nil }
        settle()
        return decision
    }

    func direct(_ request: ProxyRequest) async -> ProxyDecision {
        defer { settle() }
        return await port.direct(request, ProxyEdits())
    }
}

extension ExposedPort {
    /// What becomes of a request that is meant for this port; nil when a browser may have to be shown a page first.
    func decide(_ request: ProxyRequest, _ edits: ProxyEdits) -> ProxyDecision? {
        if portProtocol == .ws, !request.isWebSocket { return .answer(websocketOnly) }
        if showsPage, !target.isOpen, request.prefersHTML, !request.index.wantsUpgrade { return nil }
        return relay(edits)
    }

    /// The same, with waiting for the page.
    func direct(_ request: ProxyRequest, _ edits: ProxyEdits) async -> ProxyDecision {
        if let decision = decide(request, edits) { return decision }
        if let page = await target.page() { return .answer(page) }
        return relay(edits)
    }

    private func relay(_ edits: ProxyEdits) -> ProxyDecision {
        var edits = edits
        (edits.requestFields, edits.responseFields) = fields
        return .relay(target, edits)
    }

    private var websocketOnly: ProxyAnswer {
        let error = AegisError(
            .usage, "websocket-only", "port \(exposure.guestPort) of \(exposure.instance) takes WebSockets only")
        var answer = ProxyAnswer(error, status: 426, html: false)
        answer.headers.add("Upgrade", "websocket")
        answer.headers.add("Connection", "upgrade")
        return answer
    }
}
