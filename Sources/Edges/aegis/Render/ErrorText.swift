internal import AegisClient
package import AegisCore

/// Errors as they stand on stderr.
package enum ErrorText {
    /// `aegis: MESSAGE (CODE)` with the hint below, or the API's error object.
    package static func text(_ error: AegisError, _ format: OutputFormat) -> String {
        switch format {
        case .text:
            let hint = error.hint.map { "\n  hint: \(Plain.text($0))" } ?? ""
            return "aegis: \(Plain.text(error.message)) (\(error.code))\(hint)\n"
        case .json: return object(error).pretty + "\n"
        case .yaml: return object(error).yaml
        }
    }

    private static func object(_ error: AegisError) -> JSONValue {
        var fields = [
            JSONValue.Field("code", .string(error.code)), JSONValue.Field("message", .string(error.message)),
        ]
        if let hint = error.hint { fields.append(JSONValue.Field("hint", .string(hint))) }
        return ["error": .object(fields)]
    }
}
