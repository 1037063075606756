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
        let hasRoom = ByteSink.append(to: &out) { head(of: event, seq: seq, time: time, into: &$0) }
        if !hasRoom { longHead(of: event, seq: seq, time: time, into: &out) }
        if !event.fields.isEmpty { fields(event.fields, &out) }
        let hasPrevious = ByteSink.append(to: &out) { sink in
            sink.put(",\"prev\":\"" as StaticString)
            prev.put(to: &sink)
            sink.put(quote)
        }
        let hash = AuditHash(of: out.span)
        let hasHash = ByteSink.append(to: &out) { sink in
            sink.put(",\"hash\":\"" as StaticString)
            hash.put(to: &sink)
            sink.put("\"}\n" as StaticString)
        }
        precondition(hasPrevious && hasHash, "two hashes are short")
        return hash
    }

    private static func head(of event: AuditEvent, seq: UInt64, time: [UInt8], into sink: inout ByteSink) {
        start(of: event, seq: seq, time: time, into: &sink)
        text(",\"agent\":", event.agent, &sink)
        if let owner = event.owner {
            sink.put(",\"owner\":" as StaticString)
            put(UInt64(owner), &sink)
        }
        text(",\"parent\":", event.parent, &sink)
        text(",\"trace\":", event.trace, &sink)
        end(of: event, into: &sink)
    }

    private static func start(of event: AuditEvent, seq: UInt64, time: [UInt8], into sink: inout ByteSink) {
        sink.put("{\"v\":1,\"seq\":" as StaticString)
        put(seq, &sink)
        sink.put(",\"time\":\"" as StaticString)
        for byte in time { sink.put(byte) }
        sink.put("\",\"kind\":\"" as StaticString)
        sink.put(event.kind.description)
        sink.put(quote)
    }

    private static func end(of event: AuditEvent, into sink: inout ByteSink) {
        if let step = event.step {
            sink.put(",\"step\":" as StaticString)
            if step < 0 { sink.put(UInt8(ascii: "-")) }
            put(UInt64(step.magnitude), &sink)
        }
        if !event.fields.isEmpty { sink.put(",\"fields\":" as StaticString) }
    }

    /// The same of one whose ids are long.
    private static func longHead(of event: AuditEvent, seq: UInt64, time: [UInt8], into out: inout [UInt8]) {
        let hasStart = ByteSink.append(to: &out) { start(of: event, seq: seq, time: time, into: &$0) }
        let ids: [(StaticString, String?)] = [
            (",\"agent\":", event.agent), (",\"parent\":", event.parent), (",\"trace\":", event.trace),
        ]
        for (name, value) in ids {
            guard let value else { continue }
            name.withUTF8Buffer { unsafe out.append(contentsOf: $0) }
            JSONValue.appendQuoted(short(value), to: &out)
        }
        if let owner = event.owner { out += Array(",\"owner\":\(owner)".utf8) }
        let hasEnd = ByteSink.append(to: &out) { end(of: event, into: &$0) }
        precondition(hasStart && hasEnd, "a kind, a time and two numbers are short")
    }

    private static let quote = UInt8(ascii: "\"")

    private static func put(_ number: UInt64, _ sink: inout ByteSink) {
        // From the highest digit down.
        var unit: UInt64 = 1
        while number / unit > 9 { unit *= 10 }
        while unit > 0 {
            sink.put(UInt8(48 + number / unit % 10))
            unit /= 10
        }
    }

    /// An id is what somebody else chose: it is kept short.
    private static func short(_ value: String) -> String { value.utf8.count > textLimit ? cut(value) : value }

    private static func text(_ name: StaticString, _ value: String?, _ sink: inout ByteSink) {
        guard let value else { return }
        sink.put(name)
        sink.quote(short(value))
    }

    private static func fields(_ fields: [JSONValue.Field], _ out: inout [UInt8]) {
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
