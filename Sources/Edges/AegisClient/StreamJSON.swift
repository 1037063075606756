package import AegisCore
package import AegisJSON

/// JSON on streams.
package enum StreamJSON {
    /// The error of an error frame or a failed answer: `{"error":{code, message, hint}}`; anything else is quoted.
    package static func error(_ text: String, kind: ErrorKind = .failed) -> AegisError {
        if let json = try? JSONValue(parsing: text.utf8), let inner = json["error"] { return error(inner, kind: kind) }
        let shown = String(text.prefix(200))
        return AegisError(
            kind, "unreadable-answer",
            shown.isEmpty ? "the daemon failed without saying why" : "the daemon said: \(shown)")
    }

    /// The error of a `{code, message, hint}` object.
    package static func error(_ json: JSONValue, kind: ErrorKind = .failed) -> AegisError {
        AegisError(
            json["kind"]?.text.flatMap(ErrorKind.init(rawValue:)) ?? kind, json["code"]?.text ?? "failed",
            json["message"]?.text ?? "the daemon failed without saying why", hint: json["hint"]?.text)
    }
}
