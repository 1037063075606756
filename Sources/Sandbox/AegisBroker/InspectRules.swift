package import AegisCapabilities
package import AegisCore
package import AegisIO
package import AegisTLS

/// A request as it is asked about.
package struct InspectedRequest: Sendable, Equatable {
    /// The only host of the connection.
    package var host: HostName
    /// The port that the client connected to.
    package var port: UInt16
    /// As it was sent.
    package var method: String
    /// With its query, as it was sent.
    package var path: String
}

/// Why a request is not let through.
package struct InspectRefusal: Error, Sendable, Equatable {
    /// The stable word for the cause.
    package var reason: String
    /// What happened.
    package var message: String
    /// What to do about it.
    package var hint: String?

    /// Makes a refusal.
    package init(reason: String, message: String, hint: String? = nil) {
        self.reason = reason
        self.message = message
        self.hint = hint
    }

    init(_ refusal: BrokerRefusal) {
        self.init(reason: refusal.reason, message: refusal.message, hint: refusal.hint)
    }
}

/// What happens on an inspected connection, for whoever keeps events.
package enum InspectEvent: Sendable, Equatable {
    /// Something was refused; the request is nil when it was the connection.
    case refused(InspectRefusal, InspectedRequest?)
    /// Secrets were put into a request that went out.
    case used([String], InspectedRequest)
    /// The server could not be reached, or gave no valid answer.
    case failed(AegisError)
}

/// What holds for one connection of a guest.
package struct InspectRules: Sendable {
    /// The name that the connection was opened to.
    package let host: HostName
    /// The port that it was opened to.
    package let port: UInt16
    /// Makes the certificate that the guest sees.
    package let authority: CertificateAuthority
    /// Decides each request; nil lets it through.
    package let authorise: @Sendable (InspectedRequest) -> InspectRefusal?
    /// The secrets that hold now; asked for each request, so that what was taken away counts at once.
    package let secrets: @Sendable () -> BrokeredSecrets?
    /// Connects to the server; what it throws (an `AegisError`) becomes the answer.
    package let dial: @Sendable () async throws -> FileStream
    /// Hears what happens.
    package let report: @Sendable (InspectEvent) -> Void
    /// Asked before a request with secrets goes out; a refusal when that cannot be recorded.
    package let recordUse: @Sendable ([String], InspectedRequest) -> InspectRefusal?

    /// Puts rules together.
    package init(
        host: HostName, port: UInt16, authority: CertificateAuthority,
        authorise: @escaping @Sendable (InspectedRequest) -> InspectRefusal?,
        secrets: @escaping @Sendable () -> BrokeredSecrets?,
        dial: @escaping @Sendable () async throws -> FileStream,
        report: @escaping @Sendable (InspectEvent) -> Void,
        recordUse: @escaping @Sendable ([String], InspectedRequest) -> InspectRefusal? = { _, _ in nil }
    ) {
        self.host = host
        self.port = port
        self.authority = authority
        self.authorise = authorise
        self.secrets = secrets
        self.dial = dial
        self.report = report
        self.recordUse = recordUse
    }
}

extension InspectRules {
    /// Records and tells that a request is about to carry secrets.
    ///
    /// - Throws: why it does not, when that could not be recorded.
    func use(_ secrets: [String], in asked: InspectedRequest) throws(InspectRefusal) {
        guard !secrets.isEmpty else { return }
        if let refusal = recordUse(secrets, asked) { throw refusal }
        report(.used(secrets, asked))
    }

    /// Checks that a request is one for this connection, and allowed.
    ///
    /// - Parameters:
    ///   - asked: the request.
    ///   - authority: whom its target names; nil when it names nobody.
    ///   - field: what its `Host` says; nil when there is none.
    /// - Throws: why it goes nowhere.
    func check(_ asked: InspectedRequest, authority: String?, host field: String?) throws(InspectRefusal) {
        let place = "'\(host):\(port)'"
        guard asked.method != "CONNECT" else {
            throw InspectRefusal(
                reason: "connect-refused", message: "\(place): CONNECT would lead where nobody looks",
                hint: "connect to the other host itself")
        }
        let named = authority ?? field ?? ""
        guard names(named), field.map(names) ?? true else {
            throw InspectRefusal(
                reason: Self.otherHost, message: "\(place) is refused: the request is for '\(plain(named))'",
                hint: "connect to the name that the request is for")
        }
        if let refusal = authorise(asked) { throw refusal }
    }

    /// The reason for which a request is refused that is for another host.
    static var otherHost: String { "host-mismatch" }

    /// Whether an authority is the host of this connection, with its port or none.
    private func names(_ authority: String) -> Bool {
        let parts = authority.split(separator: ":", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), HostName(String(parts[0])) == host else { return false }
        return parts.count == 1 ? true : parts[1].isEmpty || parts[1] == String(port)
    }
}
