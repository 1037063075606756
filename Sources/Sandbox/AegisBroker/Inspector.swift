internal import AegisCapabilities
internal import AegisCore
package import AegisIO
package import AegisProxy
package import AegisTLS
internal import Synchronization

/// Ends TLS of guests with their instance's authority, looks at each request, and passes it on over verified TLS.
///
/// It speaks HTTP/1.1 on both sides, and offers nothing else: a client that speaks only HTTP/2 is refused with
/// `tls-nothing-in-common`.
package final class Inspector: Sendable {
    let client: TLSClient
    let limits: ProxyLimits
    let clock: any Clock<Duration>
    private let server: TLSServer

    /// An inspector for any number of connections.
    ///
    /// - Parameters:
    ///   - authorities: whom servers' certificates must come from, in PEM; nil takes those that the system trusts.
    ///   - limits: what guests may do.
    ///   - clock: whose time the limits are in.
    /// - Throws: `tls-failed` when there is nothing to trust.
    package init(
        authorities: [UInt8]? = nil, limits: ProxyLimits = ProxyLimits(), clock: any Clock<Duration>
    ) throws(TLSError) {
        client = try TLSClient(authorities: authorities, protocols: ["http/1.1"])
        server = try TLSServer(protocols: ["http/1.1"])
        self.limits = limits
        self.clock = clock
    }

    /// Serves a guest's connection until it ends; it is closed then.
    ///
    /// - Parameters:
    ///   - guest: the connection, at the beginning of TLS.
    ///   - early: what was read from it already.
    ///   - rules: what holds for it.
    package func inspect(_ guest: any ByteStream, early: ByteBuffer = ByteBuffer(), rules: InspectRules) async {
        defer { guest.close() }
        guard let stream = await accept(guest, early, rules) else { return }
        let connection = InspectConnection(stream, rules, self)
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.watch(guest, connection) }
            await connection.run()
            group.cancelAll()
        }
        guard connection.leftWithoutAWord else { return }
        // So do programs that look at the certificate themselves, once TLS is satisfied with it.
        report(
            TLSError(.refusedCertificate, "the client left when it had seen the certificate, before any request"),
            hasSeen: true, rules)
    }

    private func accept(_ guest: any ByteStream, _ early: ByteBuffer, _ rules: InspectRules) async -> TLSStream? {
        let server = server
        let hasSeen = Mutex(false)
        let chooser: TLSServer.Chooser = { name throws(TLSError) in
            guard let name, HostName(name) == rules.host else {
                throw TLSError(.noName, "TLS asks for \(name.map { "'\(plain($0))'" } ?? "no server by name")")
            }
            let leaf = try rules.authority.leaf(for: rules.host.description)
            hasSeen.withLock { $0 = true }
            return leaf
        }
        do {
            return try await withDeadline(limits.headTime, clock: clock) {
                try await server.accept(guest, early: early, leaf: chooser)
            }
        } catch let error as TLSError {
            report(error, hasSeen: hasSeen.withLock { $0 }, rules)
        } catch {}
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
    private func watch(_ guest: any ByteStream, _ connection: InspectConnection) async {
        guard let file = guest as? FileStream else { return }
        var ended = Duration.zero
        while (try? await clock.sleep(for: .seconds(1))) != nil {
            switch file.peer {
            case .open: ended = .zero
            case .ended: ended += .seconds(1)
            case .lost: ended = limits.endedTime
            }
            if ended >= limits.endedTime { return connection.abort() }
        }
    }
}
