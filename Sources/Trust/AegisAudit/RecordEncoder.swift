internal import AegisCore
internal import AegisJSON

/// Writes records as text: one JSON object a line, always in the same order, so that the bytes are what is hashed.
enum RecordEncoder {
    /// The form of records.
    static let version = 1
    /// Bytes of a record's fields that are written in full.
    static let fieldLimit = 32 << 10
    /// Bytes of one text when the fields are longer.
    static let textLimit = 512

    /// Replaces `out` by the line of a record, with its newline.
    ///
    /// - Returns: its hash.
    static func encode(
        _ event: AuditEvent, seq: UInt64, time: [UInt8], prev: AuditHash, into out: inout [UInt8]
    ) -> AuditHash {
        out.removeAll(keepingCapacity: true)
        put("{\"v\":1,\"seq\":", &out)
        put(seq, &out)
        put(",\"time\":\"", &out)
        out.append(contentsOf: time)
        put("\",\"kind\":\"", &out)
        out.append(contentsOf: event.kind.description.utf8)
        out.append(quote)
        text(",\"agent\":", event.agent, &out)
        text(",\"parent\":", event.parent, &out)
        text(",\"trace\":", event.trace, &out)
        if let step = event.step {
            put(",\"step\":", &out)
            out.append(contentsOf: String(step).utf8)
        }
        if !event.fields.isEmpty { fields(event.fields, &out) }
        put(",\"prev\":\"", &out)
        prev.append(to: &out)
        out.append(quote)
        let hash = AuditHash(of: out.span)
        put(",\"hash\":\"", &out)
        hash.append(to: &out)
        put("\"}\n", &out)
        return hash
    }

    private static let quote = UInt8(ascii: "\"")

    private static func put(_ text: StaticString, _ out: inout [UInt8]) {
        text.withUTF8Buffer { unsafe out.append(contentsOf: $0) }
    }

    private static func put(_ number: UInt64, _ out: inout [UInt8]) {
        let start = out.count
        var rest = number
        repeat {
            out.append(UInt8(48 + rest % 10))
            rest /= 10
        } while rest > 0
        out[start...].reverse()
    }

    /// An id is what somebody else chose: it is kept short.
    private static func text(_ name: StaticString, _ value: String?, _ out: inout [UInt8]) {
        guard let value else { return }
        put(name, &out)
        JSONValue.appendQuoted(value.utf8.count > textLimit ? cut(value) : value, to: &out)
    }

    private static func fields(_ fields: [JSONValue.Field], _ out: inout [UInt8]) {
        put(",\"fields\":", &out)
        let start = out.count
        JSONValue.object(fields).append(to: &out)
        let length = out.count - start
        guard length > fieldLimit else { return }
        // Who makes records long must not be able to fill the ledger with few of them; what is left out can be checked still.
        let whole = AuditHash(of: out.span.extracting(droppingFirst: start))
        let note: [JSONValue.Field] = [
            .init("cut_from_bytes", .number(length)), .init("cut_hash", .string(whole.description)),
        ]
        out.removeLast(length)
        JSONValue.object(shortened(.object(fields)).fields.map { $0 + note } ?? note).append(to: &out)
        guard out.count - start > fieldLimit else { return }
        out.removeLast(out.count - start)
        JSONValue.object(note).append(to: &out)
    }

    private static func shortened(_ value: JSONValue) -> JSONValue {
        switch value {
        case .string(let text): text.utf8.count > textLimit ? .string(cut(text)) : value
        case .array(let elements): .array(elements.map(shortened))
        case .object(let fields): .object(fields.map { .init($0.name, shortened($0.value)) })
        case .null, .bool, .number: value
        }
    }

    private static func cut(_ text: String) -> String {
        String(decoding: Array(text.utf8.prefix(textLimit)), as: UTF8.self) + "…"
    }
}
