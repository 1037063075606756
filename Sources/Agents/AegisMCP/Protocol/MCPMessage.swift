package import AegisJSON

/// An error that a server answered with, as JSON-RPC has it.
package struct MCPRemoteError: Error, Sendable, Hashable {
    /// The number.
    package var code: Int64
    /// What the server says; text of others.
    package var message: String
    /// What it says beside that.
    package var data: JSONValue?

    /// Describes an answer.
    package init(code: Int64, message: String, data: JSONValue? = nil) {
        self.code = code
        self.message = message
        self.data = data
    }

    /// The server does not speak the revision that was asked for; `data` lists those that it does.
    static let unsupportedRevision: Int64 = -32022
    /// Codes that only servers of the stateless revisions answer with.
    static let modern: ClosedRange<Int64> = -32022 ... -32020
}

/// What a server answered.
package enum MCPAnswer: Sendable, Hashable {
    case result(JSONValue)
    case failure(MCPRemoteError)
}

/// A message of a server.
package enum MCPIncoming: Sendable, Hashable {
    case answer(id: Int64, MCPAnswer)
    /// An answer to nothing that was asked: its id is missing or not one of ours.
    case strayAnswer(MCPAnswer)
    /// The server asks something of this client.
    case request(id: JSONValue, method: String)
    case notification(method: String, params: JSONValue)

    /// Reads one text of JSON-RPC, which earlier revisions let be several in an array.
    ///
    /// - Parameter bytes: one line, one body or one event.
    /// - Returns: the messages.
    /// - Throws: `MCPMalformed`, when it is not JSON or not JSON-RPC.
    package static func parse(_ bytes: some Collection<UInt8>) throws(MCPMalformed) -> [MCPIncoming] {
        let value: JSONValue
        do { value = try JSONValue(parsing: bytes, duplicates: .refuse) } catch {
            throw MCPMalformed(why: "\(error)")
        }
        guard let batch = value.elements else { return [try message(value)] }
        guard (1...mostInBatch).contains(batch.count) else {
            throw MCPMalformed(why: "a batch of \(batch.count) messages")
        }
        var messages: [MCPIncoming] = []
        for element in batch { messages.append(try message(element)) }
        return messages
    }

    /// Messages that one text may hold.
    private static let mostInBatch = 1000

    private static func message(_ value: JSONValue) throws(MCPMalformed) -> MCPIncoming {
        guard value.fields != nil, value["jsonrpc"]?.text == "2.0" else {
            throw MCPMalformed(why: "not a message of JSON-RPC 2.0")
        }
        if let method = value["method"]?.text {
            guard let id = value["id"], id != .null else {
                return .notification(method: method, params: value["params"] ?? .object([]))
            }
            guard id.text != nil || id.integer != nil else { throw MCPMalformed(why: "an id that is no id") }
            return .request(id: id, method: method)
        }
        let answer: MCPAnswer
        switch (value["result"], value["error"]) {
        case (let result?, nil): answer = .result(result)
        case (nil, let error?):
            guard let code = error["code"]?.integer else { throw MCPMalformed(why: "an error without a code") }
            answer = .failure(
                MCPRemoteError(code: code, message: error["message"]?.text ?? "", data: error["data"]))
        default: throw MCPMalformed(why: "neither a method nor a result nor an error")
        }
        guard let id = value["id"]?.integer else { return .strayAnswer(answer) }
        return .answer(id: id, answer)
    }
}

/// Why a text is no message.
package struct MCPMalformed: Error, Sendable, Hashable {
    package var why: String
}

/// Messages of this client.
enum MCPOutgoing {
    static func request(_ id: Int64, _ method: String, _ params: JSONValue) -> JSONValue {
        ["jsonrpc": "2.0", "id": .number(id), "method": .string(method), "params": params]
    }

    static func notification(_ method: String, _ params: JSONValue?) -> JSONValue {
        var fields: [JSONValue.Field] = [.init("jsonrpc", "2.0"), .init("method", .string(method))]
        if let params { fields.append(.init("params", params)) }
        return .object(fields)
    }

    /// The answer to what a server asks: it may find out whether this client is there, and nothing else is offered to it.
    static func answer(_ id: JSONValue, _ method: String) -> JSONValue {
        guard method != "ping" else { return ["jsonrpc": "2.0", "id": id, "result": .object([])] }
        return [
            "jsonrpc": "2.0", "id": id,
            "error": ["code": -32601, "message": .string("this client does not offer '\(method.prefix(80))'")],
        ]
    }

    static func cancelled(_ id: Int64, _ why: String) -> JSONValue {
        notification("notifications/cancelled", ["requestId": .number(id), "reason": .string(why)])
    }
}
