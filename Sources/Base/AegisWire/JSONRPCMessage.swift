internal import AegisCore
package import AegisJSON

/// One call of a method, as it came.
package struct JSONRPCRequest: Sendable, Equatable {
    /// What the answer repeats: a string, a number as it was spelled, or null; nil for a notification, which has none.
    package var id: JSONValue?
    /// The name of the method.
    package var method: String
    /// An object or an array; null where there were none.
    package var params: JSONValue
}

/// One element of a line: a request, or what is answered at once.
enum JSONRPCElement: Sendable, Equatable {
    case request(JSONRPCRequest)
    case refused(id: JSONValue, JSONRPCFault)
}

/// One line of the wire.
enum JSONRPCMessage: Sendable, Equatable {
    case single(JSONRPCElement)
    case batch([JSONRPCElement])

    /// Reads a line; whatever is wrong with it becomes an element that is refused.
    init(line: ArraySlice<UInt8>, batchLimit: Int) {
        let value: JSONValue
        do throws(JSONError) {
            // Two readers of a field that comes twice could take different ones.
            value = try JSONValue(parsing: line, duplicates: .refuse)
        } catch {
            self = .refusal(.parse("\(error)"))
            return
        }
        guard let elements = value.elements else {
            self = .single(JSONRPCElement(value))
            return
        }
        guard !elements.isEmpty else {
            self = .refusal(.invalidRequest("the batch is empty", hint: "put at least one request into the array"))
            return
        }
        guard elements.count <= batchLimit else {
            self = .refusal(
                .invalidRequest(
                    "the batch has \(elements.count) elements", hint: "send at most \(batchLimit) in one batch"))
            return
        }
        self = .batch(elements.map(JSONRPCElement.init))
    }

    /// An answer to what had no id that could be read.
    static func refusal(_ fault: JSONRPCFault) -> JSONRPCMessage { .single(.refused(id: .null, fault)) }
}

extension JSONRPCElement {
    private static let members = ["jsonrpc", "id", "method", "params"]

    init(_ value: JSONValue) {
        let id = value["id"]
        do throws(JSONRPCFault) {
            self = .request(try Self.request(value, id: id))
        } catch {
            self = .refused(id: id.flatMap { Self.isIdentity($0) ? $0 : nil } ?? .null, error)
        }
    }

    private static func isIdentity(_ value: JSONValue) -> Bool {
        switch value {
        case .string, .number, .null: true
        case .bool, .array, .object: false
        }
    }

    private static func request(_ value: JSONValue, id: JSONValue?) throws(JSONRPCFault) -> JSONRPCRequest {
        guard let fields = value.fields else {
            throw .invalidRequest(
                "a request is an object", hint: #"for example {"jsonrpc":"2.0","id":1,"method":"agent.list"}"#)
        }
        if let id, !isIdentity(id) {
            throw .invalidRequest("'id' is neither a string nor a number nor null")
        }
        guard value["jsonrpc"] == "2.0" else {
            throw .invalidRequest(#"'jsonrpc' is not "2.0""#, hint: #"add "jsonrpc":"2.0" to the request"#)
        }
        for field in fields where !members.contains(field.name) {
            throw .invalidRequest(
                "a request has no member '\(field.name.prefix(100))'",
                hint: nearest(field.name, in: members).map { "did you mean '\($0)'?" }
                    ?? "its members are \(members.joined(separator: ", "))")
        }
        guard let method = value["method"]?.text else {
            throw .invalidRequest(value["method"] == nil ? "'method' is missing" : "'method' is not a string")
        }
        let params = value["params"] ?? .null
        switch params {
        case .object, .array: break
        case .null where value["params"] == nil: break
        default: throw .invalidRequest("'params' is neither an object nor an array")
        }
        return JSONRPCRequest(id: id, method: method, params: params)
    }
}
