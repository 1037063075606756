internal import AegisCore
package import AegisJSON

/// The error of a JSON-RPC answer: a number of the standard or of ours, and the stable word that scripts test.
package struct JSONRPCFault: Error, Sendable, Equatable {
    /// -32700 to -32600 as JSON-RPC 2.0 says; -32099 to -32000 for errors of the application.
    package var number: Int
    /// What happened, with the value at fault.
    package var message: String
    /// The stable kebab-case word, `data.code`.
    package var code: String
    /// What to do about it, `data.hint`.
    package var hint: String?

    /// Makes a fault from its parts.
    package init(_ number: Int, _ code: String, _ message: String, hint: String? = nil) {
        (self.number, self.code, self.message, self.hint) = (number, code, message, hint)
    }

    /// The text is not JSON.
    package static func parse(_ message: String) -> JSONRPCFault {
        JSONRPCFault(-32700, "parse-error", message, hint: "send one JSON text in UTF-8 per line")
    }
    /// The JSON is no request object.
    package static func invalidRequest(_ message: String, hint: String? = nil) -> JSONRPCFault {
        JSONRPCFault(-32600, "invalid-request", message, hint: hint)
    }
    /// No method has that name.
    package static func unknownMethod(_ name: String, known: some Sequence<String>) -> JSONRPCFault {
        JSONRPCFault(
            -32601, "unknown-method", "there is no method '\(name.prefix(100))'",
            hint: nearest(name, in: known).map { "did you mean '\($0)'?" })
    }

    /// The fault for whatever a method threw: the only place that gives errors of ours a number.
    ///
    /// The last digits of an application's number are those of the HTTP status of the same kind.
    package init(_ error: any Error) {
        guard let error = error as? AegisError else {
            self =
                error is CancellationError
                ? JSONRPCFault(-32053, "cancelled", "the call was cancelled before it had a result")
                : JSONRPCFault(-32603, "internal-error", "the method failed: \(error)")
            return
        }
        let number =
            switch error.kind {
            case .usage: -32602
            case .denied: -32003
            case .notFound: -32004
            case .conflict: -32009
            case .tooLarge: -32013
            case .failed: -32050
            case .unavailable, .daemonNotRunning: -32053
            case .timeout: -32054
            }
        self.init(number, error.code, error.message, hint: error.hint)
    }

    /// `{"code", "message", "data": {"code", "hint"}}`
    package var json: JSONValue {
        var data = [JSONValue.Field("code", .string(code))]
        if let hint { data.append(JSONValue.Field("hint", .string(hint))) }
        return ["code": .number(number), "message": .string(message), "data": .object(data)]
    }
}
