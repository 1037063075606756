package import AegisCore
package import AegisJSON

/// A request for approval as it is kept, from being asked to being answered.
package struct ApprovalRecord: Sendable, Hashable {
    /// How it stands.
    package enum State: String, Sendable, Codable {
        case open, granted, denied, expired, withdrawn
    }

    /// `ap-` and 16 hexadecimal digits.
    package var id: String
    package var request: ApprovalRequest
    package var state: State
    package var requestedAt: Timestamp
    /// When it is refused if nobody answers.
    package var expiresAt: Timestamp
    package var answeredAt: Timestamp?
    package var approver: Approver?
    /// What the approver said, or why it was withdrawn.
    package var reason: String?

    /// The longest preview that is shown, in characters.
    package static let longestPreview = 64 << 10

    /// The request as it is shown: what could act on a terminal or disguise a word is escaped.
    package var json: JSONValue {
        var fields: [JSONValue.Field] = [
            .init("id", .string(id)), .init("state", .string(state.rawValue)),
            .init("agent_id", .string(request.agent)), .init("agent_name", .string(request.agentName)),
            .init("tool", .string(request.tool)), .init("input", Self.escaped(request.input)),
            .init("input_hash", .string(request.inputHash)),
            .init("preview", .string(Escaped.block(request.preview.text, atMost: Self.longestPreview))),
            .init("resource", request.preview.resource.map { .string(Escaped.line($0, atMost: 4096)) } ?? .null),
            .init("grant", .string(request.grant)), .init("trace_id", .string(request.trace)),
            .init("step", .number(request.step)), .init("call_id", .string(request.callID)),
            .init("door", .string(request.door)), .init("requested_at", .string("\(requestedAt)")),
            .init("expires_at", .string("\(expiresAt)")),
        ]
        if let answeredAt { fields.append(.init("answered_at", .string("\(answeredAt)"))) }
        if let approver {
            fields.append(.init("approver", ["uid": .number(approver.uid), "door": .string(approver.door)]))
        }
        if let reason { fields.append(.init("reason", .string(Escaped.line(reason, atMost: 1000)))) }
        return .object(fields)
    }

    /// The same value with every text in it escaped.
    private static func escaped(_ value: JSONValue) -> JSONValue {
        switch value {
        case .string(let text): .string(Escaped.block(text, atMost: longestPreview))
        case .array(let elements): .array(elements.map(escaped))
        case .object(let fields):
            .object(fields.map { JSONValue.Field(Escaped.line($0.name, atMost: 256), escaped($0.value)) })
        case .null, .bool, .number: value
        }
    }
}
