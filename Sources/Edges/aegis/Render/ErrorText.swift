internal import AegisClient
package import AegisCore
internal import AegisJSON

/// Errors as they stand on stderr.
package enum ErrorText {
    /// `aegis: MESSAGE (CODE)` with the hint below, or the API's error object.
    package static func text(_ error: AegisError, _ format: OutputFormat) -> String {
        switch format {
        case .text:
            let hint = error.hint.map { "\n  hint: \(lines($0))" } ?? ""
            return "aegis: \(lines(error.message)) (\(error.code))\(hint)\n"
        case .json: return object(error).pretty + "\n"
        case .yaml: return object(error).yaml
        }
    }

    /// Escapes what would act on a terminal, but keeps the line ends of a list of problems.
    private static func lines(_ text: String) -> String {
        text.split(separator: "\n", omittingEmptySubsequences: false).map { Plain.text(String($0)) }
            .joined(separator: "\n  ")
    }

    private static func object(_ error: AegisError) -> JSONValue {
        var fields = [
            JSONValue.Field("code", .string(error.code)), JSONValue.Field("message", .string(error.message)),
        ]
        if let hint = error.hint { fields.append(JSONValue.Field("hint", .string(hint))) }
        return ["error": .object(fields)]
    }
}
