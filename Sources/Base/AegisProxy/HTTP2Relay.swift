package import AegisCore
import AegisIO
import AegisWire
import LinuxSys

/// One client's HTTP/2 connection: its settings are answered at once, its requests wait for the server and are passed on
/// stream by stream.
///
/// On the proxy's loop only, hence `@unchecked Sendable`.
final class HTTP2Relay: HTTP2Events, ProxyClientConnection, @unchecked Sendable {
    let proxy: HTTPProxy
    private let link: HTTP2Link
    private let client: ProxyClient
    private let target: any HTTP2Target
    private let scope: TaskScope
    private let arrived: () -> Void
    private var exchanges: [Int32: HTTP2Exchange] = [:]
    /// Those that are not passed on yet.
    private var waiting: [Int32: HTTP2Exchange] = [:]
    private var server: HTTP2Server?
    private var isConnecting = false
    private var isLeaving = false
    private var hasSettled = false
    let owner: ObjectIdentifier?
    var stream: FileStream { link.stream }
    private let since: UInt64
    private var idleSince: UInt64

    /// A connection of a client.
    ///
    /// - Parameters:
    ///   - stream: of the relay's loop.
    ///   - client: who it is.
    ///   - target: where its requests go.
    ///   - proxy: whose connection it is.
    ///   - scope: for the tasks of the connection to the server.
    ///   - owner: what `HTTPProxy.cut` may name.
    ///   - arrived: called once the client has sent a request, or has been silent for long.
    init?(
        _ stream: FileStream, client: ProxyClient, target: any HTTP2Target, proxy: HTTPProxy, scope: TaskScope,
        owner: ObjectIdentifier?, arrived: @escaping () -> Void
    ) {
        guard let session = HTTP2Session(isServer: true, limits: proxy.limits) else { return nil }
        link = HTTP2Link(stream, session, proxy.pools)
        self.client = client
        self.target = target
        self.proxy = proxy
        self.scope = scope
        self.arrived = arrived
        self.owner = owner
        since = proxy.now
        idleSince = proxy.now
        session.events = self
    }

    private static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

    func run() async -> Bool {
        let writer = scope.spawn("write to a client") { await self.link.write() }
        var seen = 0
        let problem = await link.read({ proxy.now }) { bytes in
            if seen == 0, !bytes.starts(with: Self.preface.prefix(bytes.count)) {
                refuseOldProtocol()
                return false
            }
            seen = 1
            return true
        }
        end(saying: problem != nil)
        await writer.wait()
        return true
    }

    func cut() { link.close() }

    /// A client of HTTP/1 gets an answer that it understands.
    private func refuseOldProtocol() {
        let error = AegisError(
            .usage, "http2-only", "this port speaks gRPC: HTTP/2 from the first byte, without TLS",
            hint: "expose the port as http for other clients")
        let bytes = ProxyAnswer(error, status: 400, html: false).encoded(
            isHead: false, keepAlive: false, version: .http11)
        _ = try? link.stream.writeNow(bytes[...])
        try? link.stream.closeWrite()
        var unread = ByteBuffer()
        _ = try? link.stream.readNow(into: &unread)
    }

    /// The client has gone: nothing of it goes on.
    private func end(saying isPolite: Bool) {
        link.close(saying: isPolite)
        settle()
        for exchange in exchanges.values { drop(exchange, .cancel) }
        exchanges = [:]
        server?.link.close(saying: true)
        server = nil
    }

    private func settle() {
        if !hasSettled { arrived() }
        hasSettled = true
    }

    // MARK: Time

    func check(_ now: UInt64) {
        if now &- since > proxy.limits.headTime.nanoseconds {
            settle()
            if !link.hasHeard { return link.close() }
        }
        if link.inSectionSince > 0, now &- link.inSectionSince > proxy.limits.headTime.nanoseconds {
            return link.close()
        }
        if link.stream.peer == .lost { return link.close() }
        if exchanges.isEmpty, now &- idleSince > proxy.limits.streamlessTime.nanoseconds { finishSoon() }
        server?.check(now)
        if let server, server.exchanges.isEmpty, server.idleUntil <= now {
            server.retire()
            self.server = nil
        }
    }

    func finishSoon() {
        guard !isLeaving else { return }
        isLeaving = true
        link.session.goaway(.none)
        link.flush()
    }

    // MARK: The client's side

    func headers(_ stream: Int32, _ section: HTTP2Fields, ends: Bool) {
        if let exchange = exchanges[stream] {
            // Trailers of the request.
            let trailers = section.trailers
            exchange.up.trailers = trailers.isEmpty || section.isTooLarge ? nil : trailers
            exchange.up.isWhole = true
            return resumeServer(exchange)
        }
        let exchange = HTTP2Exchange(stream, section, isWhole: ends, now: SystemTime.monotonic)
        exchanges[stream] = exchange
        target.entered()
        settle()
        if section.isTooLarge {
            let error = AegisError(.tooLarge, "header-too-large", "the header section is too large")
            return answer(exchange, error, status: 431)
        }
        guard section.text(":method") != "CONNECT" else {
            return answer(exchange, AegisError(.usage, "unsupported", "this server is no proxy"), status: 501)
        }
        start(exchange)
    }

    func data(_ stream: Int32, _ bytes: Span<UInt8>) {
        guard let exchange = exchanges[stream], !exchange.isOurs, !exchange.isServerDone else {
            link.session.consume(bytes.count)
            return link.session.consume(bytes.count, of: stream)
        }
        if exchange.up.append(bytes, proxy) { link.session.consume(bytes.count) }
        resumeServer(exchange)
    }

    func ended(_ stream: Int32) {
        guard let exchange = exchanges[stream] else { return }
        exchange.up.isWhole = true
        resumeServer(exchange)
    }

    func finished(_ stream: Int32) {
        guard let exchange = exchanges[stream] else { return }
        exchange.isFinished = true
        stopUpload(exchange)
    }

    func closed(_ stream: Int32, code: UInt32) {
        guard let exchange = exchanges.removeValue(forKey: stream) else { return }
        drop(exchange, code == 0 ? .cancel : HTTP2Code(rawValue: code))
        idleSince = proxy.now
    }

    func unsent(_ stream: Int32) {}
    func goaway() {}

    func produce(_ stream: Int32, into room: UnsafeMutableRawBufferPointer) -> HTTP2Portion {
        guard let exchange = exchanges[stream] else { return HTTP2Portion(count: 0, next: .nothingNow) }
        let (portion, owed) = unsafe exchange.down.produce(into: room, proxy)
        if portion.next == .trailers, let trailers = exchange.down.trailers {
            link.session.submit(.trailers, stream, trailers)
        }
        exchange.server?.consumed(exchange, portion.count, owed)
        return portion
    }

    /// Lets the client send as much again.
    func consumed(_ exchange: HTTP2Exchange, _ count: Int, _ owed: Int) {
        guard count > 0 else { return }
        link.session.consume(count, of: exchange.id)
        if owed > 0 { link.session.consume(owed) }
        link.flush()
    }

    private func resumeServer(_ exchange: HTTP2Exchange) {
        guard let server = exchange.server, !exchange.isServerDone else { return }
        server.link.session.resume(exchange.serverID)
        server.link.flush()
    }

    /// Forgets an exchange, and tells the server if it still works on it.
    private func drop(_ exchange: HTTP2Exchange, _ code: HTTP2Code) {
        waiting[exchange.id] = nil
        exchange.timer?.cancel()
        exchange.timer = nil
        let owed = exchange.up.drop(proxy)
        if owed > 0 { link.session.consume(owed) }
        if let server = exchange.server {
            let owed = exchange.down.drop(proxy)
            if owed > 0 { server.link.session.consume(owed) }
            if !exchange.isServerDone { server.abandon(exchange, code) }
        }
        exchange.server = nil
        target.left()
    }

    // MARK: Passing on

    private func start(_ exchange: HTTP2Exchange) {
        if let server, server.isUsable, target.isOpen { return send(exchange, server) }
        waiting[exchange.id] = exchange
        if let deadline = exchange.deadline {
            exchange.timer = scope.spawn("wait for a server") {
                let left = deadline &- min(deadline, SystemTime.monotonic)
                try? await self.proxy.loop.clock.sleep(for: .nanoseconds(Int64(clamping: left)))
                self.expire(exchange)
            }
        }
        guard !isConnecting else { return }
        isConnecting = true
        scope.spawn("connect to a server") { await self.connect() }
    }

    private func expire(_ exchange: HTTP2Exchange) {
        guard !Task.isCancelled, waiting.removeValue(forKey: exchange.id) != nil else { return }
        answer(
            exchange,
            AegisError(.timeout, "port-not-ready", "the server in the sandbox was not ready within the call's own time")
        )
    }

    /// Brings the server to the point where the waiting requests can go on, or tells all of them why not.
    private func connect() async {
        var failure: AegisError?
        do {
            try await target.ready()
            if server?.isUsable != true {
                let stream = try await target.dial()
                if link.isOver { stream.close() } else { begin(stream) }
            }
        } catch {
            failure = (error as? AegisError) ?? AegisError(.failed, "internal-error", String(describing: error))
        }
        // A call with a time of its own waits that long, whatever the port's own limit says.
        let isLate = failure.map { ["port-not-ready", "wake-timeout"].contains($0.code) } ?? false
        let patient = isLate ? waiting.filter { $0.value.deadline != nil } : [:]
        isConnecting = !patient.isEmpty
        let all = waiting.values.filter { patient[$0.id] == nil }.sorted { $0.id < $1.id }
        waiting = patient
        for exchange in all {
            exchange.timer?.cancel()
            exchange.timer = nil
            if let server, failure == nil {
                send(exchange, server)
            } else {
                answer(exchange, failure ?? .lost)
            }
        }
        if isConnecting { scope.spawn("connect to a server") { await self.connect() } }
    }

    private func begin(_ stream: FileStream) {
        guard let made = HTTP2Server(stream, self) else { return stream.close() }
        server = made
        made.link.flush()
        scope.spawn("write to a server") { await made.link.write() }
        scope.spawn("read from a server") {
            let problem = await made.link.read { self.proxy.now }
            made.link.close(saying: problem != nil)
            self.lost(made, made.problem ?? problem)
        }
    }

    private func send(_ exchange: HTTP2Exchange, _ server: HTTP2Server) {
        var timeout: String?
        if let deadline = exchange.deadline {
            let now = SystemTime.monotonic
            timeout = GRPC.timeout(deadline > now ? deadline - now : 1)
        }
        let request = exchange.request.request(of: client, timeout: timeout)
        if !server.send(exchange, request) { answer(exchange, .lost) }
    }

    /// The server took no more requests on its connection: another one is made, once.
    func sendElsewhere(_ exchange: HTTP2Exchange) {
        guard exchanges[exchange.id] === exchange, !exchange.wasUnsent else { return answer(exchange, .lost) }
        exchange.wasUnsent = true
        start(exchange)
    }

    /// A connection to the server is gone, with everything on it.
    private func lost(_ gone: HTTP2Server, _ problem: String?) {
        if server === gone { server = nil }
        let error = problem.map {
            AegisError(.failed, "backend-malformed", "the server in the sandbox does not speak HTTP/2: \($0)")
        }
        for exchange in gone.takeAll() {
            exchange.isServerDone = true
            fail(exchange, error ?? .lost)
        }
    }

    // MARK: Answers

    func interim(_ exchange: HTTP2Exchange, _ section: HTTP2Fields) {
        link.session.submit(.interim, exchange.id, section)
        link.flush()
    }

    func respond(_ exchange: HTTP2Exchange, _ section: HTTP2Fields, ends: Bool) {
        exchange.isAnswered = true
        link.session.submit(.response, exchange.id, section, ends: ends)
        link.flush()
    }

    func resume(_ exchange: HTTP2Exchange) {
        link.session.resume(exchange.id)
        link.flush()
    }

    /// The server has closed its stream; what it sent before still goes to the client.
    func serverEnded(_ exchange: HTTP2Exchange, _ code: HTTP2Code) {
        guard exchange.down.isWhole else {
            link.session.reset(exchange.id, code == .none ? .internalError : code)
            return link.flush()
        }
        stopUpload(exchange)
    }

    /// The response is over and nobody reads the rest of the request: the client may stop sending it.
    private func stopUpload(_ exchange: HTTP2Exchange) {
        guard exchange.isFinished, !exchange.up.isWhole, exchange.isServerDone || exchange.isOurs else { return }
        link.session.reset(exchange.id, .none)
        link.flush()
    }

    /// Ends an exchange whose server is gone, in a way that its client understands.
    func fail(_ exchange: HTTP2Exchange, _ error: AegisError) {
        guard exchange.isAnswered else { return answer(exchange, error) }
        if exchange.down.isWhole { return stopUpload(exchange) }
        if exchange.isGRPC {
            exchange.down.trailers = HTTP2Fields(GRPC.status(error))
            exchange.down.isWhole = true
            exchange.isOurs = true
            return resume(exchange)
        }
        link.session.reset(exchange.id, .internalError)
        link.flush()
    }

    /// Answers a request that goes nowhere: a call with its status, others with the error of the API.
    private func answer(_ exchange: HTTP2Exchange, _ error: AegisError, status: Int? = nil) {
        exchange.isOurs = true
        exchange.down.isWhole = true
        let owed = exchange.up.drop(proxy)
        if owed > 0 { link.session.consume(owed) }
        var head: HTTP2Fields
        if exchange.isGRPC {
            head = HTTP2Fields([":status": "200", "content-type": "application/grpc"])
            for (name, value) in GRPC.status(error) { head.add(name, value) }
            respond(exchange, head, ends: true)
        } else {
            let body = error.jsonBody
            let code = status ?? (error.kind == .timeout ? 504 : error.kind == .failed ? 502 : 503)
            head = HTTP2Fields([
                ":status": "\(code)", "content-type": "application/json", "content-length": "\(body.count)",
                "cache-control": "no-store",
            ])
            _ = exchange.down.append(body.span, proxy)
            respond(exchange, head, ends: false)
        }
    }
}

extension AegisError {
    /// The server took the request and gave no answer.
    package static let lost = AegisError(
        .failed, "backend-lost", "the server in the sandbox closed the connection before it answered")
}
