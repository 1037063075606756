internal import AegisCapabilities
internal import AegisCore
package import AegisIO
package import AegisProxy
package import AegisTLS

/// A server whose certificate was verified.
struct InspectServer: Sendable {
    let stream: TLSStream
    /// The socket under it.
    let below: FileStream
}

/// Ends TLS of guests with their instance's authority, looks at each request, and passes it on over verified TLS.
///
/// A guest that would speak HTTP/2 is answered once the server has chosen: on both sides the same is spoken.
package final class Inspector: Sendable {
    let client: TLSClient
    private let proxy: HTTPProxy
    private let server: TLSServer

    var limits: ProxyLimits { proxy.limits }
    var clock: any Clock<Duration> { proxy.loop.clock }

    /// An inspector for any number of connections.
    ///
    /// - Parameters:
    ///   - authorities: whom servers' certificates must come from, in PEM; nil takes those that the system trusts.
    ///   - besideSystem: whether those that the system trusts count as well.
    ///   - proxy: relays HTTP/2, and says what guests may do; of the loop of all connections.
    /// - Throws: `tls-failed` when there is nothing to trust.
    package init(
        authorities: [UInt8]? = nil, besideSystem: Bool = false, proxy: HTTPProxy
    ) throws(TLSError) {
        client = try TLSClient(authorities: authorities, besideSystem: besideSystem, protocols: ["http/1.1"])
        server = try TLSServer(protocols: ["http/1.1"])
        self.proxy = proxy
    }

    /// Serves a guest's connection until it ends; it is closed then.
    ///
    /// - Parameters:
    ///   - guest: the connection, at the beginning of TLS.
    ///   - early: what was read from it already.
    ///   - rules: what holds for it.
    package func inspect(_ guest: FileStream, early: ByteBuffer = ByteBuffer(), rules: InspectRules) async {
        defer { guest.close() }
        guard let hello = await greet(guest, early, rules) else { return }
        let prepared = await prepare(hello, rules)
        guard let stream = await accept(hello, prepared, rules) else {
            if case .success(let server) = prepared { server.stream.close() }
            return
        }
        let leftWithoutAWord =
            stream.applicationProtocol == "h2"
            ? await relay(stream, guest, prepared, rules) : await converse(stream, guest, prepared, rules)
        guard leftWithoutAWord else { return }
        // So do programs that look at the certificate themselves, once TLS is satisfied with it.
        report(
            TLSError(.refusedCertificate, "the client left when it had seen the certificate, before any request"),
            hasSeen: true, rules)
    }

    /// Speaks HTTP/1.1.
    ///
    /// - Returns: whether the guest has gone before it said anything.
    private func converse(
        _ stream: TLSStream, _ guest: FileStream, _ prepared: Result<InspectServer, any Error>?, _ rules: InspectRules
    ) async -> Bool {
        let connection = InspectConnection(stream, prepared, rules, self)
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.watch(guest, connection) }
            await connection.run()
            group.cancelAll()
        }
        return connection.leftWithoutAWord
    }

    /// Speaks HTTP/2.
    ///
    /// - Returns: whether the guest has gone before it said anything.
    private func relay(
        _ stream: TLSStream, _ guest: FileStream, _ prepared: Result<InspectServer, any Error>?, _ rules: InspectRules
    ) async -> Bool {
        let target = InspectTarget(prepared, rules, self)
        let scope = TaskScope(on: proxy.loop)
        let leftWithoutAWord = await proxy.serveHTTP2(
            stream.http2(over: guest), client: ProxyClient(address: ""), target: target, scope: scope,
            policy: InspectPolicy(rules))
        target.close()
        await scope.end()
        return leftWithoutAWord
    }

    // MARK: TLS

    /// Connects to the server of a connection.
    ///
    /// - Parameters:
    ///   - rules: which it is.
    ///   - speaking: what it is offered to speak.
    /// - Returns: the server, verified.
    /// - Throws: an `AegisError`, or what `dial` throws.
    func connect(_ rules: InspectRules, speaking: [String]) async throws -> InspectServer {
        let below = try await rules.dial()
        let (client, host) = (client, rules.host.description)
        do {
            let stream = try await withDeadline(limits.headTime, clock: clock) {
                try await client.connect(below, host: host, speaking: speaking)
            }
            return InspectServer(stream: stream, below: below)
        } catch {
            below.close()
            switch error {
            case let error as TLSError: throw error.aegisError
            case let error as IOError where error.kind == .timeout:
                throw AegisError(.timeout, "tls-timeout", "'\(host)' did not finish the TLS handshake in time")
            default: throw error
            }
        }
    }

    private func greet(_ guest: FileStream, _ early: ByteBuffer, _ rules: InspectRules) async -> TLSHello? {
        let server = server
        do {
            let hello = try await withDeadline(limits.headTime, clock: clock) {
                try await server.greet(guest, early: early)
            }
            if let name = hello.serverName, HostName(name) == rules.host { return hello }
            let name = hello.serverName.map { "'\(plain($0))'" } ?? "no server by name"
            report(TLSError(.noName, "TLS asks for \(name)"), hasSeen: false, rules)
        } catch let error as TLSError { report(error, hasSeen: false, rules) } catch {}
        return nil
    }

    /// Connects to the server before the guest is answered, when the guest would speak HTTP/2.
    ///
    /// - Returns: nil when it would not.
    private func prepare(_ hello: TLSHello, _ rules: InspectRules) async -> Result<InspectServer, any Error>? {
        guard hello.protocols.contains("h2") else { return nil }
        let offer = ["h2", "http/1.1"].filter { hello.protocols.contains($0) }
        do { return .success(try await connect(rules, speaking: offer)) } catch { return .failure(error) }
    }

    private func accept(
        _ hello: TLSHello, _ prepared: Result<InspectServer, any Error>?, _ rules: InspectRules
    ) async -> TLSStream? {
        let speaking: [String]
        switch prepared {
        case nil: speaking = ["http/1.1"]
        case .success(let server): speaking = server.stream.applicationProtocol == "h2" ? ["h2"] : ["http/1.1"]
        // Somebody has to say what failed.
        case .failure: speaking = hello.protocols.contains("http/1.1") ? ["http/1.1"] : ["h2"]
        }
        do {
            let leaf = try rules.authority.leaf(for: rules.host.description)
            return try await withDeadline(limits.headTime, clock: clock) {
                try await hello.accept(leaf, speaking: speaking)
            }
        } catch let error as TLSError { report(error, hasSeen: true, rules) } catch {}
        return nil
    }

    /// Says why a handshake failed, when that is the guest's doing.
    private func report(_ error: TLSError, hasSeen: Bool, _ rules: InspectRules) {
        var error = error
        if error.code == .cut, hasSeen {
            error.code = .refusedCertificate
            error.message = "the client left when it had seen the certificate"
        }
        let place = "'\(rules.host):\(rules.port)' is refused: "
        let own = error.aegisError
        switch error.code {
        case .noName:
            let hint = "connect to the name that the server's certificate is to be for"
            let message = place + error.message
            rules.report(.refused(InspectRefusal(reason: "sni-mismatch", message: message, hint: hint), nil))
        case .refusedCertificate, .nothingInCommon, .notTLS, .alert:
            let reason = InspectRefusal(reason: own.code, message: place + error.message, hint: own.hint)
            rules.report(.refused(reason, nil))
        case .cancelled, .cut: break
        default: rules.report(.failed(own))
        }
    }

    /// Ends the work for a guest that has gone while a server takes its time.
    private func watch(_ guest: FileStream, _ connection: InspectConnection) async {
        var ended = Duration.zero
        while (try? await clock.sleep(for: .seconds(1))) != nil {
            switch guest.peer {
            case .open: ended = .zero
            case .ended: ended += .seconds(1)
            case .lost: ended = limits.endedTime
            }
            if ended >= limits.endedTime { return connection.abort() }
        }
    }
}
