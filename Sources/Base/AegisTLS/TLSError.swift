package import AegisCore
internal import AegisIO
internal import COpenSSL

/// Why a TLS session could not begin or broke; typed, so that callers can tell whose fault it was.
package struct TLSError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The stable word for a cause.
    package struct Code: Sendable, Hashable, CustomStringConvertible {
        private enum Value: String {
            case expired = "certificate-expired"
            case notYetValid = "certificate-not-yet-valid"
            case otherName = "certificate-name-mismatch"
            case unknownAuthority = "certificate-unknown-authority"
            case badCertificate = "certificate-invalid"
            case alert = "tls-alert"
            case refusedCertificate = "client-refused-certificate"
            case notTLS = "not-tls"
            case nothingInCommon = "tls-nothing-in-common"
            case cut = "tls-cut"
            case noName = "tls-name-missing"
            case failed = "tls-failed"
            case cancelled = "cancelled"
        }
        private var value: Value
        /// The server's certificate, or one that it stands on, has expired.
        package static let expired = Code(value: .expired)
        /// It is for a later time.
        package static let notYetValid = Code(value: .notYetValid)
        /// It is for another host.
        package static let otherName = Code(value: .otherName)
        /// It was made by nobody who is trusted.
        package static let unknownAuthority = Code(value: .unknownAuthority)
        /// Something else is wrong with it.
        package static let badCertificate = Code(value: .badCertificate)
        /// The peer refused with an alert.
        package static let alert = Code(value: .alert)
        /// The client did not accept our certificate: it trusts other authorities, or one certificate only.
        package static let refusedCertificate = Code(value: .refusedCertificate)
        /// The peer does not speak TLS.
        package static let notTLS = Code(value: .notTLS)
        /// There is no version, cipher or application protocol that both speak.
        package static let nothingInCommon = Code(value: .nothingInCommon)
        /// The connection ended in the middle.
        package static let cut = Code(value: .cut)
        /// The client named no server, or not the one that it may have.
        package static let noName = Code(value: .noName)
        /// The protocol was broken, or the library failed.
        package static let failed = Code(value: .failed)
        /// The task was cancelled.
        package static let cancelled = Code(value: .cancelled)
        package var description: String { value.rawValue }
    }

    /// The cause.
    package var code: Code
    /// What happened, in one sentence without a full stop.
    package var message: String
    /// The number of the peer's alert (RFC 8446, section 6); nil when there was none.
    package var alert: Int?

    /// Makes an error.
    package init(_ code: Code, _ message: String, alert: Int? = nil) {
        self.code = code
        self.message = message
        self.alert = alert
    }

    package var description: String { "\(message) (\(code))" }

    /// The same in the shape of the rest of Aegis.
    package var aegisError: AegisError {
        AegisError(.failed, code.description, message, hint: hint)
    }

    private var hint: String? {
        switch code {
        case .unknownAuthority: "let the daemon's machine trust the authority, as for every other program on it"
        case .refusedCertificate: "the client accepts certain certificates only: allow the host without 'inspect'"
        case .expired, .notYetValid: "the server's certificate must be renewed, or this machine's clock is wrong"
        default: nil
        }
    }

    /// Alerts by which a client says that it does not want the certificate: bad, unsupported, revoked, expired, unknown,
    /// unknown authority.
    private static let aboutCertificates: Set<Int> = [42, 43, 44, 45, 46, 48]

    /// What a failed call of OpenSSL means.
    ///
    /// - Parameters:
    ///   - problem: what the call said.
    ///   - host: the server that was asked; nil on the server's side.
    init(_ problem: TLSProblem, host: String?) {
        let place = host.map { " of '\($0)'" } ?? ""
        let text = problem.text
        switch problem.kind {
        case AL_TLS_EXPIRED: self.init(.expired, "the certificate\(place) has expired")
        case AL_TLS_NOT_YET_VALID: self.init(.notYetValid, "the certificate\(place) is not valid yet")
        case AL_TLS_OTHER_NAME: self.init(.otherName, "the certificate\(place) is for another host")
        case AL_TLS_UNKNOWN_AUTHORITY:
            self.init(.unknownAuthority, "the certificate\(place) comes from an authority that is not trusted: \(text)")
        case AL_TLS_BAD_CERTIFICATE: self.init(.badCertificate, "the certificate\(place) is not valid: \(text)")
        case AL_TLS_ALERT where host == nil && Self.aboutCertificates.contains(problem.detail):
            self.init(.refusedCertificate, "the client refused the certificate: \(text)", alert: problem.detail)
        case AL_TLS_ALERT:
            let who = host.map { "'\($0)'" } ?? "the client"
            self.init(.alert, "\(who) ended TLS with the alert '\(text)'", alert: problem.detail)
        case AL_TLS_NOT_TLS:
            self.init(.notTLS, host.map { "'\($0)' does not speak TLS there" } ?? "what the client said is not TLS")
        case AL_TLS_NOTHING_IN_COMMON:
            self.init(.nothingInCommon, "TLS cannot begin\(host.map { " with '\($0)'" } ?? ""): \(text)")
        case AL_TLS_CUT:
            self.init(.cut, "\(host.map { "'\($0)'" } ?? "the client") ended the connection in the middle of TLS")
        default: self.init(.failed, "TLS failed\(host.map { " with '\($0)'" } ?? ""): \(text)")
        }
    }

    /// A stream that failed under a handshake.
    init(_ error: IOError, host: String?) {
        switch error.kind {
        case .cancelled: self.init(.cancelled, "the handshake was cancelled")
        default: self.init(.cut, "\(host.map { "'\($0)'" } ?? "the client") was lost during TLS: \(error.message)")
        }
    }
}

/// What a call of OpenSSL left behind, as Swift values.
struct TLSProblem {
    var kind: Int
    var detail: Int
    var text: String

    init(_ problem: al_tls_problem) {
        kind = Int(problem.kind)
        detail = Int(problem.detail)
        // SAFETY: the text is a field of a value of ours and ends with 0 within it.
        text = unsafe withUnsafeBytes(of: problem.text) {
            unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
    }
}
