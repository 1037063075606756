package import AegisCore
import AegisIO
import AegisWire

/// Where the calls of HTTP/2 connections go: a server that may have to be woken first. On the proxy's loop only.
package protocol HTTP2Target: AnyObject, Sendable {
    /// Whether the server answers, as far as is known.
    var isOpen: Bool { get }
    /// A stream counts from now on.
    func entered()
    /// The stream is over.
    func left()
    /// Waits until the server answers.
    ///
    /// - Throws: why it does not (an `AegisError`).
    func ready() async throws
    /// A new connection to the server.
    func dial() async throws -> HTTP2Transport
    /// The server took a request and gave no answer.
    var lost: AegisError { get }
    /// What the server says is no valid answer.
    func malformed(_ what: String) -> AegisError
}

extension HTTP2Target {
    package var lost: AegisError { .lost }
    package func malformed(_ what: String) -> AegisError {
        AegisError(.failed, "backend-malformed", "the server in the sandbox gave no valid answer: \(what)")
    }
}

/// The relay's connection to a server, for one client's streams.
///
/// Each client has its own: numbers, windows and GOAWAY of one never meet another's, and a slow client cannot fill the
/// window that others share. On the proxy's loop only, hence `@unchecked Sendable`.
final class HTTP2Server: HTTP2Events, @unchecked Sendable {
    let link: HTTP2Link
    private unowned let relay: HTTP2Relay
    private(set) var exchanges: [Int32: HTTP2Exchange] = [:]
    /// It has said that it takes no more.
    private(set) var isDraining = false
    var idleUntil: UInt64 = .max
    /// When it must have said something.
    private let greetingUntil: UInt64
    private var wasSilent = false
    /// What is wrong with it, as far as its connection shows.
    var problem: String? { (wasSilent || link.hasHeard) && !link.session.hasGreeted ? "it sent no settings" : nil }

    init?(_ transport: HTTP2Transport, _ relay: HTTP2Relay) {
        guard let session = HTTP2Session(isServer: false, limits: relay.proxy.limits) else { return nil }
        link = HTTP2Link(transport, session, relay.proxy.pools)
        self.relay = relay
        greetingUntil = relay.proxy.now &+ relay.proxy.limits.headTime.nanoseconds
        session.events = self
    }

    /// Whether another stream can be opened on it.
    var isUsable: Bool {
        !link.isOver && !isDraining && link.below.peer == .open && link.session.takesRequests
    }

    /// Passes a request on.
    func send(_ exchange: HTTP2Exchange, _ request: HTTP2Fields) -> Bool {
        let isWhole = exchange.up.isWhole && exchange.up.bytes.isEmpty && exchange.up.trailers == nil
        guard let id = link.session.submit(.request, 0, request, ends: isWhole) else { return false }
        exchange.server = self
        exchange.serverID = id
        exchanges[id] = exchange
        idleUntil = .max
        link.flush()
        return true
    }

    /// The client wants nothing more of a stream.
    func abandon(_ exchange: HTTP2Exchange, _ code: HTTP2Code) {
        guard exchanges.removeValue(forKey: exchange.serverID) != nil else { return }
        link.session.reset(exchange.serverID, code)
        noteIdle()
        link.flush()
    }

    private func noteIdle() {
        guard exchanges.isEmpty else { return }
        idleUntil = relay.proxy.now &+ relay.proxy.limits.upstreamIdleTime.nanoseconds
        if isDraining { link.session.goaway(.none) }
    }

    /// Gives up on a server that takes a connection and says nothing: it speaks something else.
    func check(_ now: UInt64) {
        guard !link.session.hasGreeted, greetingUntil <= now else { return }
        wasSilent = true
        link.close()
    }

    /// Ends an unused connection as the standard has it.
    func retire() {
        isDraining = true
        link.session.goaway(.none)
        link.flush()
    }

    /// Takes all exchanges away from a connection that is gone.
    func takeAll() -> [HTTP2Exchange] {
        defer { exchanges = [:] }
        return exchanges.values.sorted { $0.id < $1.id }
    }

    // MARK: HTTP2Events

    func headers(_ stream: Int32, _ section: HTTP2Fields, ends: Bool) {
        guard let exchange = exchanges[stream] else { return }
        if section.isTooLarge {
            abandon(exchange, .cancel)
            return relay.fail(exchange, relay.target.malformed("a header section is too large"))
        }
        guard let status = section.text(":status") else { return end(exchange, section.trailers) }
        var response = section.response
        if status.hasPrefix("1") {
            return relay.interim(exchange, exchange.screen?.interim(response) ?? response)
        }
        if let screen = exchange.screen {
            do throws(AegisError) { response = try screen.response(response, ends: ends) } catch {
                abandon(exchange, .cancel)
                exchange.isServerDone = true
                return relay.fail(exchange, error)
            }
        }
        exchange.down.isWhole = ends
        relay.respond(exchange, response, ends: ends)
    }

    func data(_ stream: Int32, _ bytes: Span<UInt8>) {
        guard let exchange = exchanges[stream] else { return link.session.consume(bytes.count) }
        guard let screen = exchange.screen else {
            if exchange.down.append(bytes, relay.proxy) { link.session.consume(bytes.count) }
            return relay.resume(exchange)
        }
        var out: [UInt8] = []
        screen.download(bytes.copied, into: &out)
        if exchange.down.append(out.span, relay.proxy, came: bytes.count) { link.session.consume(bytes.count) }
        let early = exchange.down.prepay(screen.heldDown)
        if early > 0 { link.session.consume(early, of: stream) }
        relay.resume(exchange)
    }

    func ended(_ stream: Int32) {
        guard let exchange = exchanges[stream] else { return }
        end(exchange, HTTP2Fields())
    }

    /// The response is whole, with or without trailers.
    private func end(_ exchange: HTTP2Exchange, _ section: HTTP2Fields) {
        var trailers = section
        if let screen = exchange.screen {
            var out: [UInt8] = []
            trailers = screen.downloadEnd(trailers, into: &out)
            _ = exchange.down.append(out.span, relay.proxy, came: 0)
        }
        exchange.down.trailers = trailers.isEmpty ? nil : trailers
        exchange.down.isWhole = true
        relay.resume(exchange)
    }

    func finished(_ stream: Int32) {}
    func invalid(_ stream: Int32, _ section: HTTP2Fields) {}

    func closed(_ stream: Int32, code: UInt32) {
        guard let exchange = exchanges.removeValue(forKey: stream) else { return }
        noteIdle()
        exchange.isServerDone = true
        relay.serverEnded(exchange, HTTP2Code(rawValue: code))
    }

    func unsent(_ stream: Int32) {
        guard let exchange = exchanges.removeValue(forKey: stream) else { return }
        noteIdle()
        exchange.server = nil
        exchange.serverID = 0
        relay.sendElsewhere(exchange)
    }

    func goaway() {
        isDraining = true
        if exchanges.isEmpty { link.session.goaway(.none) }
    }

    func produce(_ stream: Int32, into room: UnsafeMutableRawBufferPointer) -> HTTP2Portion {
        guard let exchange = exchanges[stream] else { return HTTP2Portion(count: 0, next: .nothingNow) }
        let (portion, credit, owed) = unsafe exchange.up.produce(into: room, relay.proxy)
        if portion.next == .trailers, let trailers = exchange.up.trailers {
            link.session.submit(.trailers, stream, trailers)
        }
        relay.consumed(exchange, credit, owed)
        return portion
    }

    /// Lets the server send as much again.
    func consumed(_ exchange: HTTP2Exchange, _ count: Int, _ owed: Int) {
        guard count > 0 || owed > 0 else { return }
        if count > 0, exchanges[exchange.serverID] === exchange { link.session.consume(count, of: exchange.serverID) }
        if owed > 0 { link.session.consume(owed) }
        link.flush()
    }
}
