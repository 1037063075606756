import AegisCore
import AegisIO
import AegisWire
import LinuxSys

/// One client's connection: a task that takes requests one after the other.
///
/// State is touched on the proxy's loop only (hence `@unchecked Sendable`). The one other task, which sends a long request
/// body while the response comes, uses `request.buffer` and nothing else of it.
final class ProxyConnection: ProxyClientConnection, ProxyWaiter, @unchecked Sendable {
    enum Phase {
        /// Waits for the first byte of a request.
        case idle
        /// Waits for it without a task.
        case parked
        /// A part of a head has come, or none at all yet.
        case head
        /// An exchange goes on.
        case busy
        /// The protocol has changed: no limits.
        case tunnel
        /// The last answer was given; what the client still sends is dropped.
        case lingering
    }

    let proxy: HTTPProxy
    let stream: FileStream
    /// What is known of the present request; that of nobody while the connection is parked, which needs none. It changes only
    /// where `run` begins and ends: functions that use it more than once hold it, as each access is watched over.
    private(set) var request: ProxyRequest
    private let client: ProxyClient
    private let director: any ProxyDirector
    var phase = Phase.head
    /// When the client must have got on.
    private var deadline: UInt64
    /// Since when the client has been known to send no more; 0 while it may.
    private var endedSince: UInt64 = 0
    /// The server's side of the present exchange.
    var upstream: UpstreamConnection?
    /// The body of the present request has been sent on to its end.
    var uploadIsWhole = true
    /// The head of the present request has left the buffer.
    var headIsGone = false
    /// The response is over: what is left of the request body is of no use.
    var uploadIsAbandoned = false
    /// Why the request body could not be read, when it could not.
    var uploadFailure: BodyFailure?
    /// Whether a person reads the answer, noted when the head is about to go.
    var prefersHTML = false

    /// The connection was cut off: nothing of it goes on.
    private(set) var isCut = false
    var isGone: Bool { isCut }
    var onGone: (@Sendable () -> Void)?
    /// The task is to end, and to be made anew with the next request.
    private var isParking = false
    private var idleSince: UInt64 = 0
    /// It was parked early and had another request at once: parking it early again would only cost time.
    private var comesBack = false
    let owner: ObjectIdentifier?

    init(
        _ stream: FileStream, client: ProxyClient, director: any ProxyDirector, proxy: HTTPProxy,
        owner: ObjectIdentifier?
    ) {
        self.owner = owner
        self.stream = stream
        self.director = director
        self.proxy = proxy
        self.client = client
        request = proxy.noRequest
        deadline = proxy.now &+ proxy.headTime
    }

    func run() async -> Bool {
        isParking = false
        let request = proxy.pools.takeRequest(of: client, limits: proxy.limits.message)
        self.request = request
        defer { giveRequestBack() }
        // What has come for one that was parked is looked at before it parks again.
        var keepsTask = phase == .parked
        if phase == .parked {
            phase = .idle
            comesBack = proxy.now &- idleSince < proxy.limits.parkTime.nanoseconds
        }
        while await nextRequest(keepsTask: keepsTask || comesBack) {
            keepsTask = false
            phase = .busy
            deadline = .max
            guard await serve() else { break }
            headIsGone = false
            request.index.reset()
            phase = request.buffer.isEmpty ? .idle : .head
            deadline = proxy.now &+ (phase == .idle ? proxy.idleTime : proxy.headTime)
            idleSince = proxy.now
            if proxy.isStopping, phase == .idle { break }
        }
        if isParking, !isCut, !proxy.isStopping {
            phase = .parked
            return false
        }
        stream.close()
        return true
    }

    private func giveRequestBack() {
        let used = request
        request = proxy.noRequest
        proxy.pools.give(used)
    }

    /// Waits for a whole head, unless enough other connections keep their tasks while they wait.
    private func nextRequest(keepsTask: Bool) async -> Bool {
        guard phase == .idle else { return await nextHead() }
        if !keepsTask, proxy.waitingTasks >= proxy.limits.waitingTasks {
            isParking = true
            return false
        }
        proxy.waitingTasks += 1
        defer { proxy.waitingTasks -= 1 }
        return await nextHead()
    }

    // MARK: Time

    /// Looks at the limits; called once a tick.
    func check(_ now: UInt64) {
        switch phase {
        case .idle:
            if deadline <= now {
                stream.interruptRead()
            } else if now &- idleSince >= proxy.limits.parkTime.nanoseconds {
                // A task keeps the memory that its deepest call took: a kilobyte for one that waits, ten after a request.
                isParking = true
                stream.interruptRead()
            }
        case .head: if deadline <= now { stream.interruptRead() }
        case .parked, .lingering: if deadline <= now { stream.close() }
        case .tunnel: break
        case .busy:
            if mayAskAgain { upstream?.dropIfUnheard(now, after: proxy.limits.unheardTime.nanoseconds) }
            switch stream.peer {
            case .open: if stream.isClosed { abort() }
            case .lost: abort()
            case .ended:
                switch stream.presence {
                case .gone: abort()
                case .there: endedSince = 0
                case .unknown:
                    if endedSince == 0 { endedSince = now }
                    if now &- endedSince >= proxy.limits.endedTime.nanoseconds { abort() }
                }
            }
        }
    }

    /// Notes that the client took something: it is still there.
    func noteProgress() { endedSince = 0 }

    /// Ends the exchange for a client that is gone.
    private func abort() {
        isCut = true
        upstream?.stream.close()
        stream.close()
        let leave = onGone
        onGone = nil
        leave?()
    }

    /// Closes when nothing goes on.
    func finishSoon() {
        if phase == .idle { stream.interruptRead() }
        if phase == .parked { stream.close() }
    }

    func cut() { abort() }

    // MARK: Heads

    /// Waits for a whole head.
    ///
    /// - Returns: false when there is none and everything was said that there is to say.
    private func nextHead() async -> Bool {
        let request = request
        while true {
            if !request.buffer.isEmpty {
                do throws(HTTPError) {
                    if try request.index.scan(request.buffer.readable.span) { return true }
                } catch {
                    await refuse(error)
                    return false
                }
            }
            do throws(IOError) {
                guard try await readHead() > 0 else { return false }
            } catch {
                if error.kind == .timeout, phase == .head, !request.index.isBetweenRequests {
                    await refuse(HTTPError(.timeout, "the client was too slow"))
                }
                return false
            }
            if phase == .idle {
                phase = .head
                deadline = proxy.now &+ proxy.headTime
            }
        }
    }

    /// Memory is taken only once there is something to read.
    private func readHead() async throws(IOError) -> Int {
        let request = request
        while true {
            guard request.buffer.isEmpty else {
                return try await stream.readPlainly(into: &request.buffer, atMost: Self.headPortion)
            }
            proxy.pools.give(&request.buffer)
            try await stream.waitForBytes()
            request.buffer = proxy.pools.takeBuffer()
            if let count = try stream.readNow(into: &request.buffer, atMost: Self.headPortion) { return count }
        }
    }
    private static var headPortion: Int { 16 << 10 }

    /// - Returns: whether another request may follow.
    private func serve() async -> Bool {
        guard request.index.verb != .connect else {
            await refuse(HTTPError(.unsupported, "this server is no proxy"))
            return false
        }
        let decision: ProxyDecision
        if let made = director.decide(request) { decision = made } else { decision = await director.direct(request) }
        switch decision {
        case .relay(let target, let edits): return await relay(to: target, edits)
        case .answer(let answer): return await give(answer)
        }
    }

    // MARK: Answers of our own

    /// Answers the present request, whose head is still in the buffer.
    ///
    /// - Returns: whether another request may follow.
    func give(_ answer: ProxyAnswer) async -> Bool {
        let request = request
        var whole = false
        switch request.index.framing {
        case _ where headIsGone: whole = uploadIsWhole
        case .none:
            request.buffer.consume(request.index.length)
            whole = true
        case .length(let count) where request.buffer.readableBytes - request.index.length >= count:
            request.buffer.consume(request.index.length + count)
            whole = true
        default: break
        }
        let keepAlive = whole && request.index.keepAlive && !proxy.isStopping
        let bytes = answer.encoded(
            isHead: request.index.verb == .head, keepAlive: keepAlive, version: request.index.version)
        do throws(IOError) { try await stream.send(bytes[...]) } catch { return false }
        if !keepAlive { await linger() }
        return keepAlive
    }

    /// Answers what is no request, and ends the connection.
    func refuse(_ error: HTTPError) async {
        let answer = ProxyAnswer(error.aegisError, status: error.status, html: false)
        let bytes = answer.encoded(isHead: false, keepAlive: false, version: .http11)
        do throws(IOError) { try await stream.send(bytes[...]) } catch { return }
        await linger()
    }

    /// Says that there is no room, without keeping the client for long.
    func refuseForRoom(_ count: Int) async {
        let error = AegisError(
            .unavailable, "too-many-connections", "there are \(count) connections, which is the limit",
            hint: "try again later")
        let bytes = ProxyAnswer(error, status: 503, html: false).encoded(
            isHead: false, keepAlive: false, version: .http11)
        // What does not fit into the socket's buffer is not worth waiting for.
        _ = try? stream.writeNow(bytes[...])
        try? stream.closeWrite()
        var unread = ByteBuffer()
        _ = try? stream.readNow(into: &unread)
        stream.close()
    }

    /// Gives the client time to read the last answer: closing with unread bytes would reset the connection.
    func linger() async {
        let request = request
        phase = .lingering
        deadline = proxy.now &+ proxy.limits.lingerTime.nanoseconds
        guard (try? stream.closeWrite()) != nil else { return }
        request.buffer.removeAll()
        do throws(IOError) {
            while try await stream.readPlainly(into: &request.buffer, atMost: 64 << 10) > 0 {
                request.buffer.removeAll()
            }
        } catch { return }
    }
}
