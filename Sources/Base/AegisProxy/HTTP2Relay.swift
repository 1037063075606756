import AegisCore
import AegisIO
import AegisWire
import LinuxSys

/// One client's HTTP/2 connection: its settings are answered at once, its requests wait for the server and are passed on
/// stream by stream.
///
/// On the proxy's loop only, hence `@unchecked Sendable`.
final class HTTP2Relay: HTTP2Events, ProxyClientConnection, @unchecked Sendable {
    let proxy: HTTPProxy
    let link: HTTP2Link
    let client: ProxyClient
    let target: any HTTP2Target
    /// Decides about requests; nil lets all of them through.
    let policy: (any HTTP2Policy)?
    let scope: TaskScope
    private let arrived: () -> Void
    var exchanges: [Int32: HTTP2Exchange] = [:]
    /// Those that are not passed on yet.
    var waiting: [Int32: HTTP2Exchange] = [:]
    var server: HTTP2Server?
    var isConnecting = false
    /// Why the server was not ready when it was last waited for, for calls that wait on.
    var lateness: AegisError?
    private var isLeaving = false
    /// The client has gone before it said anything.
    private(set) var leftWithoutAWord = false
    private var hasSettled = false
    let owner: ObjectIdentifier?
    var stream: FileStream { link.below }
    private let since: UInt64
    private var idleSince: UInt64

    /// A connection of a client.
    ///
    /// - Parameters:
    ///   - transport: of the relay's loop.
    ///   - client: who it is.
    ///   - target: where its requests go.
    ///   - proxy: whose connection it is.
    ///   - scope: for the tasks of the connection to the server.
    ///   - policy: decides about its requests.
    ///   - owner: what `HTTPProxy.cut` may name.
    ///   - arrived: called once the client has sent a request, or has been silent for long.
    init?(
        _ transport: HTTP2Transport, client: ProxyClient, target: any HTTP2Target, proxy: HTTPProxy, scope: TaskScope,
        policy: (any HTTP2Policy)?, owner: ObjectIdentifier?, arrived: @escaping () -> Void
    ) {
        guard let session = HTTP2Session(isServer: true, limits: proxy.limits) else { return nil }
        link = HTTP2Link(transport, session, proxy.pools)
        self.policy = policy
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
            if seen == 0, policy == nil, !bytes.starts(with: Self.preface.prefix(bytes.count)) {
                refuseOldProtocol()
                return false
            }
            seen = 1
            return true
        }
        leftWithoutAWord = !link.hasHeard && !link.isOver
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
        _ = try? link.below.writeNow(bytes[...])
        try? link.below.closeWrite()
        var unread = ByteBuffer()
        _ = try? link.below.readNow(into: &unread)
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
            // Whoever has not said by then that it speaks the protocol is not waited for, were it in the middle of a word.
            if !link.session.hasGreeted { return link.close() }
        }
        if link.inSectionSince > 0, now &- link.inSectionSince > proxy.limits.headTime.nanoseconds {
            return link.close()
        }
        if link.below.peer == .lost { return link.close() }
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
        if let exchange = exchanges[stream] { return endUpload(exchange, section) }
        let exchange = HTTP2Exchange(
            stream, section, isWhole: ends, now: SystemTime.monotonic, isTimed: policy == nil)
        exchanges[stream] = exchange
        target.entered()
        settle()
        if section.isTooLarge {
            let error = AegisError(.tooLarge, "header-too-large", "the header section is too large")
            return answer(exchange, error, status: 431)
        }
        switch policy?.admit(section) {
        case .refuse(let error, let status): return answer(exchange, error, status: status)
        case .pass(let request, let screen):
            exchange.request = request
            exchange.screen = screen
        case nil:
            guard section.text(":method") != "CONNECT" else {
                return answer(exchange, AegisError(.usage, "unsupported", "this server is no proxy"), status: 501)
            }
        }
        start(exchange)
    }

    func data(_ stream: Int32, _ bytes: Span<UInt8>) {
        guard let exchange = exchanges[stream], !exchange.isOurs, !exchange.isServerDone else {
            link.session.consume(bytes.count)
            return link.session.consume(bytes.count, of: stream)
        }
        guard let screen = exchange.screen else {
            if exchange.up.append(bytes, proxy) { link.session.consume(bytes.count) }
            return resumeServer(exchange)
        }
        var out: [UInt8] = []
        do throws(AegisError) { try screen.upload(bytes.copied, into: &out) } catch {
            link.session.consume(bytes.count)
            link.session.consume(bytes.count, of: stream)
            return refuse(exchange, error)
        }
        if exchange.up.append(out.span, proxy, came: bytes.count) { link.session.consume(bytes.count) }
        let early = exchange.up.prepay(screen.heldUp)
        if early > 0 { link.session.consume(early, of: stream) }
        resumeServer(exchange)
    }

    func ended(_ stream: Int32) {
        guard let exchange = exchanges[stream] else { return }
        endUpload(exchange, HTTP2Fields())
    }

    /// The request is whole, with or without trailers.
    private func endUpload(_ exchange: HTTP2Exchange, _ section: HTTP2Fields) {
        defer { exchange.up.isWhole = true }
        guard !exchange.isOurs, !exchange.isServerDone else { return }
        var trailers = section.isTooLarge ? HTTP2Fields() : section.trailers
        if let screen = exchange.screen {
            var out: [UInt8] = []
            do throws(AegisError) { trailers = try screen.uploadEnd(trailers, into: &out) } catch {
                return refuse(exchange, error)
            }
            _ = exchange.up.append(out.span, proxy, came: 0)
        }
        exchange.up.trailers = trailers.isEmpty ? nil : trailers
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
    func invalid(_ stream: Int32, _ section: HTTP2Fields) { policy?.malformed(section) }
    func goaway() {}

    func produce(_ stream: Int32, into room: UnsafeMutableRawBufferPointer) -> HTTP2Portion {
        guard let exchange = exchanges[stream] else { return HTTP2Portion(count: 0, next: .nothingNow) }
        let (portion, credit, owed) = unsafe exchange.down.produce(into: room, proxy)
        if portion.next == .trailers, let trailers = exchange.down.trailers {
            link.session.submit(.trailers, stream, trailers)
        }
        exchange.server?.consumed(exchange, credit, owed)
        return portion
    }

    /// Lets the client send as much again.
    func consumed(_ exchange: HTTP2Exchange, _ count: Int, _ owed: Int) {
        guard count > 0 || owed > 0 else { return }
        if count > 0 { link.session.consume(count, of: exchange.id) }
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
        // An answer of our own has no server, and takes memory all the same.
        let back = exchange.down.drop(proxy)
        if let server = exchange.server {
            if back > 0 { server.link.session.consume(back) }
            if !exchange.isServerDone { server.abandon(exchange, code) }
        }
        exchange.server = nil
        target.left()
    }
}

extension Span<UInt8> {
    /// The same bytes as an array.
    var copied: [UInt8] { unsafe withUnsafeBufferPointer { unsafe Array($0) } }
}
