/// What family a failure belongs to: the one place that decides HTTP status and CLI exit code.
package enum ErrorKind: String, Sendable, Codable, CaseIterable {
    case usage, denied, notFound, conflict, tooLarge, unavailable, timeout, failed, daemonNotRunning

    /// The HTTP status that carries an error of this kind.
    package var httpStatus: Int {
        switch self {
        case .usage: 400
        case .denied: 403
        case .notFound: 404
        case .conflict: 409
        case .tooLarge: 413
        case .failed: 500
        case .unavailable, .daemonNotRunning: 503
        case .timeout: 504
        }
    }

    /// The exit code of a CLI command that failed with an error of this kind.
    package var exitCode: Int32 {
        switch self {
        case .usage: 2
        case .daemonNotRunning: 3
        case .notFound: 4
        case .conflict: 5
        case .denied: 6
        case .tooLarge, .failed, .unavailable, .timeout: 1
        }
    }

    /// The kind that a client assumes for an HTTP status.
    package init(httpStatus: Int) {
        self =
            switch httpStatus {
            case 400, 405, 422: .usage
            case 401, 403: .denied
            case 404: .notFound
            case 409: .conflict
            case 413: .tooLarge
            case 503: .unavailable
            case 504: .timeout
            default: .failed
            }
    }
}

/// The one error shape of Aegis, the same on the CLI, in REST answers and on streams.
package struct AegisError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The family, which decides status and exit code.
    package var kind: ErrorKind
    /// A stable kebab-case word that scripts may test.
    package var code: String
    /// What happened, with the value at fault.
    package var message: String
    /// What to do about it.
    package var hint: String?

    /// Makes an error of a kind, with its stable code.
    package init(_ kind: ErrorKind, _ code: String, _ message: String, hint: String? = nil) {
        self.kind = kind
        self.code = code
        self.message = message
        self.hint = hint
    }

    package var description: String { hint.map { "\(message) (\(code))\n  hint: \($0)" } ?? "\(message) (\(code))" }
}

extension AegisError {
    /// A value that the caller gave is malformed (exit 2, status 400).
    package static func usage(_ message: String, hint: String? = nil) -> AegisError {
        AegisError(.usage, "invalid-argument", message, hint: hint)
    }
    /// Something inside Aegis or below it failed (exit 1, status 500).
    package static func failed(_ code: String, _ message: String, hint: String? = nil) -> AegisError {
        AegisError(.failed, code, message, hint: hint)
    }
    /// The named thing does not exist (exit 4, status 404).
    package static func notFound(_ code: String, _ message: String, hint: String? = nil) -> AegisError {
        AegisError(.notFound, code, message, hint: hint)
    }
    /// The thing is in a state that excludes the request (exit 5, status 409).
    package static func conflict(_ code: String, _ message: String, hint: String? = nil) -> AegisError {
        AegisError(.conflict, code, message, hint: hint)
    }
}

extension AegisError: Codable {
    private enum Keys: String, CodingKey { case error }
    private enum Fields: String, CodingKey { case code, message, hint }

    /// Writes `{"error":{"code","message","hint"}}`, the body of every failed answer.
    package func encode(to encoder: any Encoder) throws {
        var outer = encoder.container(keyedBy: Keys.self)
        var inner = outer.nestedContainer(keyedBy: Fields.self, forKey: .error)
        try inner.encode(code, forKey: .code)
        try inner.encode(message, forKey: .message)
        try inner.encodeIfPresent(hint, forKey: .hint)
    }

    /// Reads the body of a failed answer; the kind is set from the status by the caller.
    package init(from decoder: any Decoder) throws {
        let outer = try decoder.container(keyedBy: Keys.self)
        let inner = try outer.nestedContainer(keyedBy: Fields.self, forKey: .error)
        self.init(
            .failed, try inner.decode(String.self, forKey: .code), try inner.decode(String.self, forKey: .message),
            hint: try inner.decodeIfPresent(String.self, forKey: .hint))
    }
}
