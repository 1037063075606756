internal import AegisCore
internal import AegisSandboxTypes
package import AegisWire
internal import FoundationEssentials

/// JSON bodies in and out, with errors that name the field at fault.
package enum JSONBody {
    /// The most bytes of a JSON request body.
    package static let limit = 1 << 20
    package static let headers: HTTPHeaders = ["Content-Type": "application/json"]

    /// Encodes an answer; keys are sorted so that the same value is always the same text.
    package static func encode(_ value: some Encodable) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(value)) + [10]
    }

    /// Reads and decodes the body of a request.
    ///
    /// - Throws: `invalid-json`, `invalid-field` naming its path, `unknown-field`, or a limit's error.
    package static func decode<Value: Decodable & Sendable>(_ type: Value.Type, from context: RequestContext)
        async throws -> Value
    {
        let bytes = try await context.request.body.collect(upTo: limit)
        return try decode(type, bytes)
    }

    /// Decodes bytes; an empty body counts as `{}`.
    package static func decode<Value: Decodable>(_ type: Value.Type, _ bytes: [UInt8]) throws -> Value {
        do {
            return try JSONDecoder().decode(type, from: Data(bytes.isEmpty ? Array("{}".utf8) : bytes))
        } catch let error as AegisError {
            throw error
        } catch let error as DecodingError {
            throw explain(error)
        }
    }

    /// A text as a JSON string, quotes included.
    static func quoted(_ text: String) -> String {
        (try? JSONEncoder().encode(text)).map { String(decoding: $0, as: UTF8.self) } ?? "\"\""
    }

    private static func explain(_ error: DecodingError) -> AegisError {
        func path(_ context: DecodingError.Context, _ last: (any CodingKey)? = nil) -> String {
            (context.codingPath + (last.map { [$0] } ?? [])).map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }
                .joined(separator: ".")
        }
        func field(_ path: String, _ text: String) -> AegisError {
            AegisError(
                .usage, "invalid-field", path.isEmpty ? text : "field '\(path)': \(text)",
                hint: "see the API's documentation")
        }
        switch error {
        case .keyNotFound(let key, let context): return field(path(context, key), "is missing")
        case .typeMismatch(let type, let context): return field(path(context), "is not a \(typeName(type))")
        case .valueNotFound(let type, let context): return field(path(context), "is null, expected a \(typeName(type))")
        case .dataCorrupted(let context):
            if let inner = context.underlyingError as? AegisError { return inner }
            return context.codingPath.isEmpty
                ? AegisError(.usage, "invalid-json", "the body is not valid JSON", hint: "send one JSON object")
                : field(path(context), context.debugDescription)
        @unknown default: return field("", "\(error)")
        }
    }

    private static func typeName(_ type: Any.Type) -> String {
        switch type {
        case is String.Type: "string"
        case is Bool.Type: "true or false"
        case is Int.Type, is UInt16.Type, is UInt64.Type, is Double.Type: "number"
        default: String(describing: type).hasPrefix("Array") ? "list" : "\(type)"
        }
    }
}
