package import AegisCore

/// Why an HTTP message, connection or exchange failed; typed, so that callers can tell the cases apart.
package struct HTTPError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The stable word for a cause.
    package struct Code: Sendable, Hashable, CustomStringConvertible {
        private enum Value: String {
            case malformed = "malformed-request"
            case tooLarge = "request-too-large"
            case unsupported = "unsupported"
            case timeout = "request-timeout"
            case closed = "connection-lost"
            case busy = "connection-busy"
            case cancelled = "cancelled"
            case misuse = "invalid-message"
        }
        private var value: Value
        /// The peer broke the protocol.
        package static let malformed = Code(value: .malformed)
        /// A bound on line, header or body was passed.
        package static let tooLarge = Code(value: .tooLarge)
        /// Well-formed, but not something this side does (a coding, a version, a method).
        package static let unsupported = Code(value: .unsupported)
        /// The peer was too slow.
        package static let timeout = Code(value: .timeout)
        /// The connection ended before the message did.
        package static let closed = Code(value: .closed)
        /// The previous exchange on this connection has not ended.
        package static let busy = Code(value: .busy)
        /// The task was cancelled.
        package static let cancelled = Code(value: .cancelled)
        /// Our own code asked for a message that must not be sent.
        package static let misuse = Code(value: .misuse)
        package var description: String { value.rawValue }
    }

    /// The cause.
    package var code: Code
    /// What was wrong, in one sentence without a full stop.
    package var message: String
    /// The status that a server answers with (400 to 599).
    package var status: Int

    /// Makes an error; the status defaults to the usual one of its code.
    package init(_ code: Code, _ message: String, status: Int? = nil) {
        self.code = code
        self.message = message
        self.status = status ?? Self.status(of: code)
    }

    private static func status(of code: Code) -> Int {
        switch code {
        case .malformed: 400
        case .tooLarge: 413
        case .unsupported: 501
        case .timeout: 408
        default: 500
        }
    }

    static func malformed(_ message: String) -> HTTPError { HTTPError(.malformed, message) }

    /// The same failure in the shape of the rest of Aegis.
    package var aegisError: AegisError {
        let kind: ErrorKind =
            switch code {
            case .malformed, .unsupported: .usage
            case .tooLarge: .tooLarge
            case .timeout: .timeout
            case .closed: .unavailable
            default: .failed
            }
        return AegisError(kind, code.description, message)
    }

    package var description: String { "\(message) (\(code))" }
}
