import AegisCapabilities
import AegisCore
import AegisIO
import AegisProxy
import AegisTLS
import AegisWire
import Synchronization

/// The server's side of an inspected connection, kept from one request to the next.
///
/// The one task of its connection uses all but the stream: that makes it `@unchecked Sendable`.
final class InspectUpstream: @unchecked Sendable {
    let stream: TLSStream
    /// The socket under it.
    let below: FileStream
    var buffer = ByteBuffer()
    var index: HTTPResponseIndex
    /// An exchange has used it before: the server may have closed it meanwhile.
    var wasUsed = false

    init(_ server: InspectServer, _ limits: HTTPLimits) {
        stream = server.stream
        below = server.below
        index = HTTPResponseIndex(limits: limits)
    }
}

/// One connection of a guest, inside its TLS: requests one after the other.
///
/// One task uses it, and for a request with a body a second one, which touches `buffer`, `uploadIsWhole` and `uploadFailure`
/// only and has ended before the first looks at these: that makes it `@unchecked Sendable`.
final class InspectConnection: @unchecked Sendable {
    let client: TLSStream
    let rules: InspectRules
    let inspector: Inspector
    var buffer = ByteBuffer()
    var index: HTTPRequestIndex
    /// The body of the present request has been sent on to its end.
    var uploadIsWhole = true
    /// Why the body was not sent on to its end.
    var uploadFailure: UploadFailure?
    /// Under a lock, because the guest's watch closes it.
    private let kept = Mutex<InspectUpstream?>(nil)
    private var served = 0
    /// The guest has ended the connection, although TLS was agreed upon, before it said anything.
    private(set) var leftWithoutAWord = false
    /// Why there is no connection to the server, when that was tried before the first request.
    var failure: (any Error)?

    enum UploadFailure: Error {
        case refused(InspectRefusal)
        case malformed(HTTPError)
        /// The guest has gone.
        case lost
        /// The server takes no more.
        case sink
    }

    /// A connection whose TLS has begun.
    ///
    /// - Parameters:
    ///   - client: the guest's side.
    ///   - server: what came of connecting to the server already; nil when nobody has.
    ///   - rules: what holds for it.
    ///   - inspector: whose limits hold.
    init(
        _ client: TLSStream, _ server: Result<InspectServer, any Error>?, _ rules: InspectRules, _ inspector: Inspector
    ) {
        self.client = client
        self.rules = rules
        self.inspector = inspector
        index = HTTPRequestIndex(limits: inspector.limits.message)
        switch server {
        case .success(let server): upstream = InspectUpstream(server, inspector.limits.message)
        case .failure(let error): failure = error
        case nil: break
        }
    }

    var upstream: InspectUpstream? {
        get { kept.withLock { $0 } }
        set { kept.withLock { $0 = newValue } }
    }

    func run() async {
        while !Task.isCancelled, await nextHead() {
            guard await serve() else { break }
            served += 1
            index.reset()
        }
        upstream?.stream.close()
        client.close()
    }

    /// Ends both sides at once.
    func abort() {
        upstream?.stream.close()
        client.reset()
    }

    // MARK: Heads

    private func nextHead() async -> Bool {
        let limits = inspector.limits
        let clock = inspector.clock
        do {
            if buffer.isEmpty {
                let limit = served == 0 ? limits.headTime : limits.idleTime
                guard try await withDeadline(limit, clock: clock, { try await self.readMore() }) else {
                    leftWithoutAWord = served == 0
                    return false
                }
            }
            if try scan() { return true }
            return try await withDeadline(limits.headTime, clock: clock) {
                while try await self.readMore() { if try self.scan() { return true } }
                return false
            }
        } catch let error as HTTPError {
            await refuse(error)
        } catch let error as IOError where error.kind == .timeout && !buffer.isEmpty {
            await refuse(HTTPError(.timeout, "the client was too slow"))
        } catch let error as IOError where error.kind == .closed || error.kind == .system {
            leftWithoutAWord = served == 0 && buffer.isEmpty
        } catch {}
        return false
    }

    private func readMore() async throws -> Bool { try await client.read(into: &buffer, atMost: 16 << 10) > 0 }

    private func scan() throws(HTTPError) -> Bool { try index.scan(buffer.readable.span) }

    // MARK: Decisions

    /// Serves the request whose head is in the buffer.
    ///
    /// - Returns: whether another may follow.
    private func serve() async -> Bool {
        let asked = asked()
        do throws(InspectRefusal) {
            try check(asked)
            let secrets = rules.secrets()
            var rewriter = HeadRewriter(secrets, host: rules.host, method: asked.method, path: asked.path)
            let head: [UInt8]
            do throws(BrokerRefusal) {
                head = try rewriter.rewrite(index, Array(buffer.readable.prefix(index.length)))
            } catch { throw InspectRefusal(error) }
            try rules.use(rewriter.used, in: asked)
            return await relay(head, secrets, asked)
        } catch { return await deny(error, asked) }
    }

    private func asked() -> InspectedRequest {
        let bytes = buffer.readable
        let path = HTTPText.string(bytes.span, index.path)
        return InspectedRequest(
            host: rules.host, port: rules.port, method: HTTPText.string(bytes.span, index.method),
            path: path.hasPrefix("/") || path == "*" ? path : "/" + path)
    }

    private func check(_ asked: InspectedRequest) throws(InspectRefusal) {
        let span = buffer.readable.span
        try rules.check(
            asked, authority: index.authority.map { HTTPText.string(span, $0) },
            host: index.table.text("host", in: span))
    }

    // MARK: Answers of our own

    /// Refuses the present request, and says so to whoever keeps events.
    func deny(_ refusal: InspectRefusal, _ asked: InspectedRequest) async -> Bool {
        rules.report(.refused(refusal, asked))
        let error = AegisError(.denied, refusal.reason, refusal.message, hint: refusal.hint)
        return await give(ProxyAnswer(error, status: 403, html: false))
    }

    /// Answers that the server cannot be reached, or gave no answer.
    func fail(_ failure: any Error) async -> Bool {
        let error = (failure as? AegisError) ?? AegisError.failed("internal-error", String(describing: failure))
        rules.report(.failed(error))
        return await give(ProxyAnswer(failure: error, html: false))
    }

    /// - Returns: whether another request may follow.
    private func give(_ answer: ProxyAnswer) async -> Bool {
        var whole = uploadIsWhole
        if index.length > 0, !headIsGone {
            var body = FilteredBody(index.framing, makesChunks: false, filter: nil, limits: inspector.limits.message)
            var dropped = ByteBuffer()
            buffer.consume(index.length)
            whole = (try? body.move(from: &buffer, into: &dropped)) != nil && body.isWhole
        }
        let keepAlive = whole && index.keepAlive
        let bytes = answer.encoded(isHead: index.verb == .head, keepAlive: keepAlive, version: index.version)
        do throws(IOError) { try await client.write(bytes) } catch { return false }
        headIsGone = false
        if !keepAlive { await linger() }
        return keepAlive
    }
    /// The head of the present request has left the buffer.
    var headIsGone = false

    /// Answers what is no request, and ends the connection.
    func refuse(_ error: HTTPError) async {
        let answer = ProxyAnswer(error.aegisError, status: error.status, html: false)
        let bytes = answer.encoded(isHead: false, keepAlive: false, version: .http11)
        do throws(IOError) { try await client.write(bytes) } catch { return }
        await linger()
    }

    /// Gives the client time to read the last answer: closing with unread bytes would reset the connection.
    func linger() async {
        guard (try? await client.end()) != nil else { return }
        _ = try? await withDeadline(inspector.limits.lingerTime, clock: inspector.clock) {
            self.buffer.removeAll()
            while try await self.readMore() { self.buffer.removeAll() }
        }
    }
}
