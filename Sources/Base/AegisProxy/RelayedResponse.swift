package import AegisIO
package import AegisWire

/// Writes a response head as it goes back to the client.
package struct RelayedResponse {
    /// How the client is told where the body ends.
    package enum Framing: Sendable { case none, length(Int), chunked, untilClose }

    let index: HTTPResponseIndex
    let edits: ProxyEdits
    let version: HTTPVersion
    let isHead: Bool

    /// The response whose head was read.
    ///
    /// - Parameters:
    ///   - index: its head.
    ///   - edits: what changes on the way.
    ///   - version: what the client speaks.
    ///   - isHead: whether it asked by HEAD.
    package init(index: HTTPResponseIndex, edits: ProxyEdits, version: HTTPVersion, isHead: Bool) {
        self.index = index
        self.edits = edits
        self.version = version
        self.isHead = isHead
    }

    /// How the body, if any, is framed for a client of that version.
    package var framing: Framing {
        switch index.framing {
        case .none: .none
        case .length(let count): .length(count)
        case .chunked, .untilClose: version == .http11 ? .chunked : .untilClose
        }
    }

    /// Whether the connection can serve another request after this response.
    package var allowsNext: Bool { if case .untilClose = framing { false } else { true } }

    /// Appends the head with its empty line.
    ///
    /// - Parameters:
    ///   - buffer: where the head lies.
    ///   - keepAlive: whether the client may send another request.
    ///   - out: where it goes.
    package func append(from buffer: borrowing ByteBuffer, keepAlive: Bool, to out: inout ByteBuffer) {
        appendLine(from: buffer, to: &out)
        let set = index.status >= 200 ? edits.responseFields : nil
        let upgrade = appendFields(from: buffer, without: set, to: &out)
        if let set { out.append(set.bytes) }
        if index.status >= 200 { appendFraming(&out) }
        if index.status == 101 {
            out.append("Connection: upgrade\r\n")
            if let upgrade {
                out.append("Upgrade: ")
                out.append(upgrade, of: buffer)
                out.append("\r\n")
            }
        } else if index.status >= 200, !keepAlive {
            out.append("Connection: close\r\n")
        } else if index.status >= 200, version == .http10 {
            out.append("Connection: keep-alive\r\n")
        }
        out.append("\r\n")
    }

    private func appendLine(from buffer: borrowing ByteBuffer, to out: inout ByteBuffer) {
        out.append("HTTP/1.1 ")
        out.append(decimal: index.status)
        out.append(" ")
        out.append(index.reason, of: buffer)
        out.append("\r\n")
    }

    private func appendFraming(_ out: inout ByteBuffer) {
        switch framing {
        case .length(let count): append(length: count, to: &out)
        case .chunked: out.append("Transfer-Encoding: chunked\r\n")
        case .untilClose: break
        case .none:
            // What a GET would have told; otherwise an empty body says so.
            if isHead || index.status == 304 {
                if let count = index.announcedLength { append(length: count, to: &out) }
            } else if index.status != 204 {
                append(length: 0, to: &out)
            }
        }
    }

    private func append(length: Int, to out: inout ByteBuffer) {
        out.append("Content-Length: ")
        out.append(decimal: length)
        out.append("\r\n")
    }

    /// - Returns: where the value of `Upgrade` is.
    private func appendFields(
        from buffer: borrowing ByteBuffer, without set: ProxyFields?, to out: inout ByteBuffer
    ) -> Range<Int>? {
        var upgrade: Range<Int>?
        var start: Int?
        let bytes = buffer.readable
        for field in 0..<index.table.count {
            let name = index.table.name(field)
            let role = RelayedFields.role(bytes.span, name, isRequest: false)
            var kept = role == .endToEnd || role == .setCookie
            if role == .upgrade {
                upgrade = index.table.value(field)
                // What the server would accept; only 426 has to say it.
                kept = index.status == 426
            }
            if kept, index.namesFields, role != .upgrade {
                kept = !RelayedFields.isNamed(index.table, name, in: bytes.span)
            }
            if kept, let set, set.holds(bytes.span, name) { kept = false }
            if kept, edits.guardsOrigin, leavesOrigin(role, name, field, in: bytes.span) {
                kept = false
                if role == .setCookie {
                    if let from = start { out.append(from..<name.lowerBound, of: buffer) }
                    start = nil
                    let value = HTTPText.string(bytes.span, index.table.value(field))
                    out.append(utf8: "Set-Cookie: \(RelayedFields.withoutDomain(value))\r\n")
                }
            }
            if kept, let place = movedPlace(name, field, in: bytes.span) {
                kept = false
                if let from = start { out.append(from..<name.lowerBound, of: buffer) }
                start = nil
                out.append(utf8: "Location: \(place)\r\n")
            }
            if kept {
                start = start ?? name.lowerBound
            } else if let from = start {
                out.append(from..<name.lowerBound, of: buffer)
                start = nil
            }
        }
        if let from = start { out.append(from..<index.table.end, of: buffer) }
        return upgrade
    }

    /// What `Location` has to say to a client that asked below a prefix; nil where it is right as it is.
    private func movedPlace(_ name: Range<Int>, _ field: Int, in bytes: Span<UInt8>) -> String? {
        guard let prefix = edits.forwardedPrefix, HTTPText.equal(bytes, name, "location") else { return nil }
        return RelayedFields.place(
            HTTPText.string(bytes, index.table.value(field)), below: String(decoding: prefix, as: UTF8.self),
            of: edits.origin)
    }

    /// Whether a field would reach beyond the host that it came from.
    private func leavesOrigin(
        _ role: RelayedFields.Role, _ name: Range<Int>, _ field: Int, in bytes: Span<UInt8>
    ) -> Bool {
        if role == .setCookie { return HTTPText.mentions(bytes, index.table.value(field), "domain") }
        return HTTPText.equal(bytes, name, "service-worker-allowed")
    }
}
