package import AegisBroker
import AegisCapabilities
package import AegisCore
import AegisIO
import AegisProxy
package import AegisTLS
import Synchronization

/// What one run of an instance needs for its TLS to be looked into: made at its start.
package struct Inspection: Sendable {
    /// Whom the instance trusts beside the world's authorities.
    package let authority: CertificateAuthority
    /// What is put into its requests.
    package let secrets: BrokeredSecrets?

    /// Makes an authority for an instance.
    ///
    /// - Parameters:
    ///   - name: the instance's, for the certificate's subject.
    ///   - secrets: those that it may use.
    /// - Throws: `tls-failed`.
    package init(for name: String, _ secrets: [BrokeredSecret]) throws(AegisError) {
        do throws(TLSError) { authority = try CertificateAuthority(name: "Aegis, for \(name) only") } catch {
            throw error.aegisError
        }
        self.secrets = secrets.isEmpty ? nil : BrokeredSecrets(secrets)
    }

    /// Puts one together that was made at the start of a run which goes on.
    ///
    /// - Parameters:
    ///   - authority: whom the instance trusts.
    ///   - secrets: those that it may use, with the placeholders that it has.
    package init(_ authority: CertificateAuthority, _ secrets: [BrokeredSecret]) {
        self.authority = authority
        self.secrets = secrets.isEmpty ? nil : BrokeredSecrets(secrets)
    }

    /// Whether a secret may be used at a host: then its TLS is looked into, whatever else allows the connection.
    func hasSecret(for destination: Destination) -> Bool {
        guard destination.port == 443, case .name(let name) = destination.host, let secrets else { return false }
        return secrets.all.contains { $0.bindings.contains { $0.host == name } }
    }
}

/// The inspector of a node, made when it is first needed: reading whom the system trusts takes a while.
final class SharedInspector: Sendable {
    private let made = Mutex<Inspector?>(nil)
    /// Whom the configuration trusts beside the system, in PEM.
    private let authorities: [UInt8]?

    init(authorities: [UInt8]?) { self.authorities = authorities }

    /// - Throws: `tls-failed` when the system trusts nobody.
    func get(_ proxy: HTTPProxy) throws -> Inspector {
        try made.withLock { made in
            if let made { return made }
            do throws(TLSError) {
                let new = try Inspector(authorities: authorities, besideSystem: true, proxy: proxy)
                made = new
                return new
            } catch { throw error.aegisError }
        }
    }
}

extension Uplink {
    /// Records that a request is about to carry secrets.
    ///
    /// - Returns: nil when it may; why not, when that could not be recorded.
    func recordUse(of secrets: [String], in asked: InspectedRequest) -> InspectRefusal? {
        do throws(AegisError) {
            try observer.used(secrets, host: "\(asked.host)", method: asked.method)
            return nil
        } catch { return InspectRefusal(reason: error.code, message: error.message, hint: error.hint) }
    }

    /// From now on these grants open only what brokered secrets are bound to.
    func setImplied(_ grants: [GrantID]) { state.withLock { $0.implied = Set(grants) } }

    /// Why a request to a host that is open for brokered secrets alone is none that they may be used in.
    ///
    /// - Parameters:
    ///   - asked: the request.
    ///   - destination: where it goes.
    ///   - held: what the instance was granted; it allows the connection.
    /// - Returns: nil when another grant allows the connection too, or when the request is one of those.
    func refusal(of asked: InspectedRequest, to destination: Destination, _ held: GrantSet) -> InspectRefusal? {
        let implied = state.withLock { $0.implied }
        guard held.grants.contains(where: { implied.contains($0.id) }) else { return nil }
        let others = GrantSet(held.grants.filter { !implied.contains($0.id) }, protected: held.protected)
        if case .allow = evaluate(Request(.connect(destination)), with: others, at: .now()) { return nil }
        let bindings = (inspection?.secrets?.all ?? []).flatMap(\.bindings).filter { $0.host == asked.host }
        guard !bindings.contains(where: { $0.covers(host: asked.host, method: asked.method, path: asked.path) }) else {
            return nil
        }
        let places = bindings.map(\.description).joined(separator: " and ")
        return InspectRefusal(
            reason: "secret-not-bound",
            message: "'\(destination)' is open for \(places) only: not for "
                + "\(printable(asked.method)) \(printable(String(asked.path.prefix { $0 != "?" })))",
            hint: "open all of it with --allow \(asked.host),inspect")
    }
}

extension EgressPermit {
    /// Why a request in clear text is not passed on: it carries what stands for a secret.
    func refusal(ofClearText request: ProxyRequest, from uplink: Uplink) -> NetworkDenial? {
        guard let refusal = uplink.inspection?.secrets?.refusal(ofClearText: request.head) else { return nil }
        return NetworkDenial(
            uplink.instance, destination, reason: refusal.reason, "'\(destination)' is refused: \(refusal.message)",
            hint: refusal.hint)
    }
}

extension EgressConnection {
    /// Ends the instance's TLS, looks at each request and passes it on.
    func inspect(_ permit: EgressPermit, _ live: UInt64) async throws {
        let (uplink, gate, client, destination) = (uplink, uplink.gate, client, permit.destination)
        guard case .name(let name) = destination.host else {
            throw NetworkDenial(
                uplink.instance, destination, reason: "inspect-needs-name",
                "'\(destination)' is refused: TLS to an address cannot be looked into",
                hint: "connect by name, and allow that")
        }
        guard let inspection = uplink.inspection else {
            throw NetworkDenial(
                uplink.instance, destination, reason: "inspect-lost",
                "'\(destination)' is refused: the key to look into TLS was lost with an earlier daemon",
                hint: "restart the instance")
        }
        let inspector = try gate.inspector.get(gate.http)
        let rules = InspectRules(
            host: name, port: destination.port, authority: inspection.authority,
            authorise: { asked in
                // A revocation counts for the next request of a connection, too.
                guard let denial = permit.refusal() else {
                    return uplink.refusal(of: asked, to: destination, gate.grants.grants(of: uplink.holder))
                }
                let error = denial.asAegisError
                return InspectRefusal(reason: error.code, message: error.message, hint: error.hint)
            },
            secrets: { inspection.secrets },
            dial: {
                do {
                    let server = try await gate.dialer.dial(destination, for: uplink.instance)
                    guard uplink.join(live, server) else {
                        server.reset()
                        throw IOError.closed
                    }
                    server.setKeepAlive()
                    return server
                } catch let denial as NetworkDenial {
                    uplink.report(denial)
                    throw AegisError(.denied, denial.reason, denial.message, hint: denial.hint)
                }
            },
            report: { event in
                switch event {
                case .refused(let refusal, _):
                    uplink.report(
                        NetworkDenial(
                            uplink.instance, destination, reason: refusal.reason, refusal.message, hint: refusal.hint))
                case .failed(let error): uplink.note(error)
                case .used(let names, let asked):
                    gate.logger.debug(
                        "secrets used", ("instance", uplink.instance), ("secrets", names.joined(separator: " ")),
                        ("host", "\(asked.host)"), ("method", asked.method))
                }
            },
            recordUse: { names, asked in uplink.recordUse(of: names, in: asked) })
        client.setKeepAlive()
        await inspector.inspect(client, rules: rules)
    }
}
