import AegisCapabilities
import AegisCore
import AegisIO
import AegisProxy
import LinuxSys
import Synchronization

/// One connection that an instance opened, from the redirect to its end.
struct EgressConnection: Sendable {
    let uplink: Uplink
    let client: FileStream

    private var gate: EgressGate { uplink.gate }
    /// How long a client may take to say which server it wants.
    private static var helloTime: Duration { .seconds(10) }

    /// Serves the connection; the stream is closed when it returns.
    func run() async {
        do {
            try await serve()
        } catch let denial as NetworkDenial {
            uplink.report(denial, of: ProbeFlow(client))
        } catch let error as AegisError {
            uplink.note(error)
        } catch {
            gate.logger.debug("an egress connection broke", ("instance", uplink.instance), ("error", "\(error)"))
        }
        client.reset()
    }

    private func serve() async throws {
        let destination = try destination()
        let admission: Admission
        do throws(Denial) { admission = try gate.grants.admit(Request(.connect(destination)), by: uplink.holder) } catch
        {
            throw NetworkDenial(uplink.instance, destination, error)
        }
        let (mustInspect, capability) = (admission.mustInspect, admission.capability)
        let permit = EgressPermit(admission, to: destination, of: uplink)
        defer { permit.settle() }
        let live = try uplink.begin(client, permit)
        defer { uplink.end(live) }
        // It was not among those that a revocation cuts before `begin`.
        do throws(Denial) { try permit.check() } catch { throw NetworkDenial(uplink.instance, destination, error) }
        if permit.isCounted { client.setMeter(permit) }
        let inspects = mustInspect || uplink.inspection?.hasSecret(for: destination) == true
        switch (destination.host, destination.port) {
        case (.name(ProofTargets.controlName), _): try await echo()
        // What a probe tries must have been refused by now. Nobody is to hear of it; the probe is to hear that it was let through.
        case _ where ProbeFlow(client).map(uplink.expects) == true:
            try await answerProbe { try await $0.write(ProofTrap.greeting[...]) }
        case (.name(let name), 80): await serveHTTP(permit, name)
        case _ where inspects: try await inspect(permit, live)
        case (.name(let name), 443):
            try await tunnel(destination, capability, live, hello: try await readHello(destination, name))
        default: try await tunnel(destination, capability, live, hello: ByteBuffer())
        }
    }

    /// What the connection was opened to, before it was redirected.
    private func destination() throws -> Destination {
        let (address, port) = try client.withDescriptor("asking for the destination") { descriptor throws(Errno) in
            try descriptor.originalDestination()
        }
        guard let name = uplink.name(of: address) else { return Destination(address, port: port) }
        return Destination(name, port: port)
    }

    /// The other side of a probe's control: answers with what it is told, once. To the instance itself it is of no use.
    private func echo() async throws {
        try await answerProbe { client in
            var bytes = ByteBuffer()
            guard try await client.readNext(into: &bytes, atMost: 64) > 0 else { return }
            try await client.write(bytes.readable)
        }
    }

    /// Says something to a probe.
    private func answerProbe(_ body: @escaping @Sendable (FileStream) async throws -> Void) async throws {
        let client = client
        try await withDeadline(Self.helloTime, clock: gate.loop.clock) {
            try await body(client)
            try client.closeWrite()
            // Its end first: a reset could overtake the answer.
            var rest = ByteBuffer()
            _ = try await client.readNext(into: &rest, atMost: 64)
        }
    }

    // MARK: TLS

    /// Reads the client's first message and checks that it asks for the server whose address it was given.
    private func readHello(_ destination: Destination, _ name: HostName) async throws -> ByteBuffer {
        let (client, instance) = (client, uplink.instance)
        return try await withDeadline(Self.helloTime, clock: gate.loop.clock) {
            var early = ByteBuffer()
            while true {
                guard early.readableBytes <= ClientHello.limit,
                    try await client.readNext(into: &early, atMost: 16 << 10) > 0
                else { throw IOError(.closed, "the client ended before it had named a server") }
                switch ClientHello.read(early.readable) {
                case .incomplete: continue
                case .malformed:
                    throw NetworkDenial(
                        instance, destination, reason: "not-tls",
                        "'\(destination)' is refused: what was said on port 443 is not TLS")
                case .name(let wanted?) where HostName(wanted) == name: return early
                case .name(let wanted):
                    throw NetworkDenial(
                        instance, destination, reason: "sni-mismatch",
                        "'\(destination)' is refused: TLS asks for "
                            + (wanted.map { "'\(printable($0))'" } ?? "no server by name"),
                        hint: "connect to the name that the server's certificate is to be for")
                }
            }
        }
    }

    /// Joins the client with the server; what the client said already goes first.
    private func tunnel(
        _ destination: Destination, _ capability: Capability, _ live: UInt64, hello: ByteBuffer
    ) async throws {
        let server = try await gate.dialer.dial(destination, for: uplink.instance, admitted: capability)
        guard uplink.join(live, server) else { return server.reset() }
        if !hello.isEmpty {
            do throws(IOError) { try await server.write(hello.readable) } catch {
                server.close()
                throw error
            }
        }
        client.setKeepAlive()
        server.setKeepAlive()
        await Tunnel.relay(client, server, pools: gate.http.pools)
    }

    // MARK: HTTP

    private func serveHTTP(_ permit: EgressPermit, _ name: HostName) async {
        let director = EgressDirector(uplink: uplink, permit: permit, destination: permit.destination, name: name)
        // As long as the connection lives it counts, and can be cut.
        await gate.http.serve(
            client, client: ProxyClient(address: uplink.addressText), director: director, stays: true)
    }
}

/// Text of others in a message: nothing but what can be printed.
func printable(_ text: String) -> String {
    String(decoding: text.utf8.prefix(253).map { (0x21..<0x7f).contains($0) ? $0 : UInt8(ascii: "?") }, as: UTF8.self)
}

/// Lets requests of one connection go on to the one server that it was opened to, as long as they are for that.
private struct EgressDirector: ProxyDirector {
    let uplink: Uplink
    let permit: EgressPermit
    let destination: Destination
    let name: HostName

    func direct(_ request: ProxyRequest) async -> ProxyDecision {
        guard let host = request.host.flatMap(Self.name), host == name else {
            return refuse(
                NetworkDenial(
                    uplink.instance, destination, reason: "host-mismatch",
                    "'\(destination)' is refused: the request is for '\(printable(request.host ?? ""))'",
                    hint: "connect to the name that the request is for"))
        }
        // A revocation counts for the next request of a connection, too.
        if let denial = permit.refusal() { return refuse(NetworkDenial(uplink.instance, destination, denial)) }
        if let denial = permit.refusal(ofClearText: request, from: uplink) { return refuse(denial) }
        var edits = ProxyEdits()
        edits.tellsClient = false
        let upstream = EgressUpstream(uplink: uplink, destination: destination)
        do { try await upstream.prepare() } catch let denial as NetworkDenial { return refuse(denial) } catch {
            if let error = error as? AegisError { uplink.note(error) }
            return .answer(ProxyAnswer(failure: error, html: request.prefersHTML))
        }
        return .relay(upstream, edits)
    }

    private func refuse(_ denial: NetworkDenial) -> ProxyDecision {
        uplink.report(denial)
        return .answer(
            ProxyAnswer(
                AegisError(.denied, denial.reason, denial.message, hint: denial.hint), status: 403, html: false))
    }

    /// The host of an authority, without its port.
    private static func name(_ authority: String) -> HostName? {
        let parts = authority.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 1 || (parts.count == 2 && (parts[1].isEmpty || parts[1] == "80")) else { return nil }
        return HostName(String(parts[0]))
    }
}

/// A new connection for each exchange: a kept one would go on after its grant.
private final class EgressUpstream: ProxyUpstream {
    private let uplink: Uplink
    private let destination: Destination
    private let ready = Mutex<FileStream?>(nil)

    init(uplink: Uplink, destination: Destination) {
        self.uplink = uplink
        self.destination = destination
    }

    deinit { ready.withLock { $0 }?.close() }

    /// Connects, so that a refusal is told as one.
    func prepare() async throws {
        let stream = try await dial()
        ready.withLock { $0 = stream }
    }

    func connect(fresh: Bool, for client: any ProxyWaiter) async throws -> UpstreamConnection {
        let prepared = ready.withLock { $0.take() }
        if let prepared { return UpstreamConnection(prepared) }
        return UpstreamConnection(try await dial())
    }

    func finished(_ connection: UpstreamConnection, reusable: Bool) { connection.stream.close() }

    private func dial() async throws -> FileStream {
        try await uplink.gate.dialer.dial(destination, for: uplink.instance)
    }
}
