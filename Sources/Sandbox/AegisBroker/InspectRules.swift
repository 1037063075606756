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
    package let dial: @Sendable () async throws -> any ByteStream
    /// Hears what happens.
    package let report: @Sendable (InspectEvent) -> Void
    /// Asked before a request with secrets goes out; a refusal when that cannot be recorded.
    package let recordUse: @Sendable ([String], InspectedRequest) -> InspectRefusal?

    /// Puts rules together.
    package init(
        host: HostName, port: UInt16, authority: CertificateAuthority,
        authorise: @escaping @Sendable (InspectedRequest) -> InspectRefusal?,
        secrets: @escaping @Sendable () -> BrokeredSecrets?,
        dial: @escaping @Sendable () async throws -> any ByteStream,
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
