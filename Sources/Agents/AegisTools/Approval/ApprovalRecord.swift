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

    /// The longest preview, and the longest text among the arguments, in a list, in characters.
    package static let longestPreview = 64 << 10
    /// The same where one request is asked for: more than any tool takes for a file.
    package static let longestWhole = 4 << 20

    /// The request as it is shown in a list.
    package var json: JSONValue { json(atMost: Self.longestPreview) }

    /// The request as it is shown: what could act on a terminal or disguise a word is escaped.
    ///
    /// - Parameter longest: of longer texts the beginning and the end are shown, below a line that says so.
    /// - Returns: an object.
    package func json(atMost longest: Int) -> JSONValue {
        var fields: [JSONValue.Field] = [
            .init("id", .string(id)), .init("state", .string(state.rawValue)),
            .init("agent_id", .string(request.agent)), .init("agent_name", .string(request.agentName)),
            .init("tool", .string(request.tool)), .init("input", Self.escaped(request.input, atMost: longest)),
            .init("input_hash", .string(request.inputHash)),
            .init("preview", .string(Self.shown(request.preview.text, atMost: longest))),
            .init("resource", request.preview.resource.map { .string(Escaped.line($0, atMost: 4096)) } ?? .null),
            .init("grant", .string(request.grant)), .init("trace_id", .string(request.trace)),
            .init("step", .number(request.step)), .init("call_id", .string(request.callID)),
            .init("door", .string(request.door)), .init("requested_at", .string("\(requestedAt)")),
            .init("expires_at", .string("\(expiresAt)")),
            // What clients of the original's `approval.list` read.
            .init("description", .string(summary)), .init("timestamp", .string("\(requestedAt)")),
        ]
        if let answeredAt { fields.append(.init("answered_at", .string("\(answeredAt)"))) }
        if let approver {
            fields.append(.init("approver", ["uid": .number(approver.uid), "door": .string(approver.door)]))
        }
        if let reason { fields.append(.init("reason", .string(Escaped.line(reason, atMost: 1000)))) }
        return .object(fields)
    }

    /// The request in a line.
    private var summary: String {
        let first = request.preview.text.split(separator: "\n", maxSplits: 1).first.map(String.init) ?? ""
        return "\(request.tool): \(Escaped.line(request.preview.resource ?? first, atMost: 200))"
    }

    /// A text as a person sees it. Where not all of it is shown that is said first, and its end is: what somebody agrees to must not
    /// be able to stand where nobody looks.
    private static func shown(_ text: String, atMost longest: Int) -> String {
        let scalars = text.unicodeScalars
        let count = scalars.count
        guard count > longest else { return Escaped.block(text, atMost: longest) }
        let half = longest / 2
        let (head, tail) = (String(scalars.prefix(half)), String(scalars.suffix(half)))
        return """
            (\(2 * half) of \(count) characters are shown: the first and the last \(half); 'aegis approval show' shows all of them, \
            the SHA-256 of which is \(Fingerprint.hex(of: Array(text.utf8))))
            \(Escaped.block(head, atMost: half))
            (\(count - 2 * half) characters are not shown here)
            \(Escaped.block(tail, atMost: half))
            """
    }

    /// The same value with every text in it escaped.
    private static func escaped(_ value: JSONValue, atMost longest: Int) -> JSONValue {
        switch value {
        case .string(let text): .string(shown(text, atMost: longest))
        case .array(let elements): .array(elements.map { escaped($0, atMost: longest) })
        case .object(let fields):
            .object(
                fields.map { JSONValue.Field(Escaped.line($0.name, atMost: 256), escaped($0.value, atMost: longest)) })
        case .null, .bool, .number: value
        }
    }
}
