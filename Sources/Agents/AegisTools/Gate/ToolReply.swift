package import AegisCore
package import AegisJSON

/// What a call gives back to the model.
package struct ToolReply: Sendable, Hashable {
    /// The answer.
    package var value: JSONValue
    /// Whether the call failed.
    package var isError: Bool
    /// What kind of failure it is, for programs; nil where the tool said so in words of its own.
    package var kind: ErrorKind?
    /// Why the agent must not go on; nil is that it may. Set when what happened could not be recorded.
    package var halt: String?

    /// An answer.
    package init(_ value: JSONValue, isError: Bool = false, halt: String? = nil) {
        self.value = value
        self.isError = isError
        self.halt = halt
    }

    /// A failure, as the model reads it.
    ///
    /// - Parameters:
    ///   - error: what went wrong.
    ///   - details: more fields of the error, for example which grants are held.
    package init(_ error: AegisError, details: [JSONValue.Field] = []) {
        var fields = [
            JSONValue.Field("code", .string(error.code)), JSONValue.Field("message", .string(error.message)),
        ]
        if let hint = error.hint { fields.append(JSONValue.Field("hint", .string(hint))) }
        self.init(.object([JSONValue.Field("error", .object(fields + details))]), isError: true)
        kind = error.kind
    }

    /// The answer of a call that did several things: when each of them failed, so did the call.
    ///
    /// - Parameters:
    ///   - entries: the answers, in the order of the request.
    ///   - failures: how many of them are failures.
    ///   - name: what the list is called.
    /// - Returns: the answer, with the list, its length, and how many failed.
    package static func batch(_ entries: [JSONValue], failures: Int, named name: String) -> ToolReply {
        ToolReply(
            .object([
                JSONValue.Field(name, .array(entries)), JSONValue.Field("count", .number(entries.count)),
                JSONValue.Field("failed", .number(failures)),
            ]), isError: !entries.isEmpty && failures == entries.count)
    }

    /// The answer as a run saves it (decision D34).
    package var saved: JSONValue {
        var fields = [JSONValue.Field("value", value), JSONValue.Field("is_error", .bool(isError))]
        if let halt { fields.append(JSONValue.Field("halt", .string(halt))) }
        return .object(fields)
    }

    /// Reads what was saved; nil when it is no answer.
    package init?(saved: JSONValue) {
        guard let value = saved["value"], let isError = saved["is_error"]?.flag else { return nil }
        self.init(value, isError: isError, halt: saved["halt"]?.text)
    }

    /// The stable word of a failure; nil when the call succeeded, or failed in words of its own.
    package var code: String? { isError ? value["error"]?["code"]?.text : nil }

    /// The answer as text: a string as it is, anything else as JSON.
    package var text: String {
        if case .string(let text) = value { return text }
        return String(decoding: value.compact, as: UTF8.self)
    }

    /// The answer, cut to a length with a note that says so. What is cut becomes text.
    ///
    /// - Parameter limit: in bytes; the note comes on top.
    /// - Returns: the answer, and how many bytes of text it is.
    package func capped(at limit: Int) -> (reply: ToolReply, length: Int) {
        let text = text
        let length = text.utf8.count
        guard length > limit else { return (self, length) }
        var reply = self
        let note = "\n[cut: \(limit) of \(length) bytes are shown]"
        let shown = utf8Prefix(text, limit) + note
        reply.value = .string(shown)
        return (reply, shown.utf8.count)
    }
}

/// The largest number of bytes up to a limit after which no character is cut.
package func utf8Border(_ text: String, _ limit: Int) -> Int {
    var end = max(0, min(limit, text.utf8.count))
    let bytes = text.utf8
    while end > 0, end < bytes.count, bytes[bytes.index(bytes.startIndex, offsetBy: end)] & 0xc0 == 0x80 { end -= 1 }
    return end
}

/// The beginning of a text up to a number of bytes, cut where a character ends.
package func utf8Prefix(_ text: String, _ limit: Int) -> String {
    String(decoding: text.utf8.prefix(utf8Border(text, limit)), as: UTF8.self)
}
