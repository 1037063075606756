internal import AegisInstances
internal import AegisJSON
internal import AegisWire

/// A method of JSON-RPC whose parameters are read strictly.
func rpcMethod(
    _ name: String, _ params: String, known: [String], positional: Int = 0,
    _ call: @escaping @Sendable (RPCParameters, Caller) async throws -> JSONValue
) -> JSONRPCMethod {
    JSONRPCMethod(name, params: params) { params, context in
        let parameters = try RPCParameters(params, known: known, positional: positional)
        return try await call(parameters, Caller(uid: context.caller.user, gid: context.caller.group))
    }
}

extension RequestContext {
    /// The query of a request as parameters of a call: REST and JSON-RPC read them alike.
    ///
    /// - Throws: `invalid-params` for a number that is none.
    func parameters(_ known: [String], numbers: [String] = []) throws -> RPCParameters {
        let fields = query.sorted { $0.key < $1.key }.map { name, value in
            guard numbers.contains(name), let number = Int(value) else { return JSONValue.Field(name, .string(value)) }
            return JSONValue.Field(name, .number(number))
        }
        return try RPCParameters(.object(fields), known: known)
    }
}
