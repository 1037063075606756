package import AegisIO
package import AegisWire

/// What a relay changes in a message besides what every relay must.
package struct ProxyEdits: Sendable {
    /// Bytes at the front of the path that end here, as `/NAME` does.
    package var pathPrefix = 0
    /// What `X-Forwarded-Prefix` tells the server then.
    package var forwardedPrefix: [UInt8]?
    /// How the client calls the origin that the prefix belongs to, as `http://HOST:PORT`; where the server sends it, comes below
    /// the prefix again.
    package var origin: String?
    /// Tell the server who asked, in `X-Forwarded-For`, `-Proto` and `-Host`, and in `X-Real-IP`; what the client said there is
    /// dropped.
    package var tellsClient = true
    /// Keep the response within its origin: no `Domain` of cookies, no `Service-Worker-Allowed`.
    package var guardsOrigin = false
    /// What is set in the request.
    package var requestFields: ProxyFields?
    /// What is set in the final response.
    package var responseFields: ProxyFields?
    /// No changes but those.
    package init() {}
}

/// Writes a request head as it goes on to the server.
package struct RelayedRequest {
    private let index: HTTPRequestIndex
    private let edits: ProxyEdits
    /// The one protocol to change to, when that may be passed on.
    private let upgrade: Int?
    private var sendsTE = false
    private var hadLength = false

    /// Whether the server is asked for another protocol.
    package var asksUpgrade: Bool { upgrade != nil }

    /// A head that lies in `bytes`.
    package init(_ index: HTTPRequestIndex, in bytes: Span<UInt8>, _ edits: ProxyEdits) {
        self.index = index
        self.edits = edits
        upgrade = Self.upgrade(index, in: bytes)
    }

    /// An upgrade is passed on when there is one field that asks for one protocol, the request has no body, and it is
    /// not HTTP/2: inside that tunnel requests would come that nobody has looked at.
    private static func upgrade(_ index: HTTPRequestIndex, in bytes: Span<UInt8>) -> Int? {
        guard index.wantsUpgrade, index.framing == .none,
            let first = index.table.position(of: "upgrade", in: bytes),
            index.table.position(of: "upgrade", in: bytes, from: first + 1) == nil
        else { return nil }
        let value = index.table.value(first)
        for at in value where bytes[at] == UInt8(ascii: ",") { return nil }
        guard !value.isEmpty, !HTTPText.hasPrefix(bytes, value, "h2") else { return nil }
        return first
    }

    /// Appends the head with its empty line.
    package mutating func append(from buffer: borrowing ByteBuffer, client: ProxyClient, to out: inout ByteBuffer) {
        out.append(index.method, of: buffer)
        out.append(" ")
        appendPath(from: buffer, to: &out)
        out.append(" HTTP/1.1\r\n")
        if let authority = index.authority {
            out.append("Host: ")
            out.append(authority, of: buffer)
            out.append("\r\n")
        }
        let host = appendFields(from: buffer, to: &out)
        if let set = edits.requestFields { out.append(set.bytes) }
        if host == nil, index.authority == nil { out.append("Host: localhost\r\n") }
        switch index.framing {
        case .none: if hadLength { out.append("Content-Length: 0\r\n") }
        case .length(let count):
            out.append("Content-Length: ")
            out.append(decimal: count)
            out.append("\r\n")
        case .chunked, .untilClose: out.append("Transfer-Encoding: chunked\r\n")
        }
        if let upgrade {
            out.append("Connection: upgrade\r\nUpgrade: ")
            out.append(index.table.value(upgrade), of: buffer)
            out.append("\r\n")
        } else if sendsTE {
            out.append("Connection: TE\r\nTE: trailers\r\n")
        }
        if edits.tellsClient { appendClient(client, host: index.authority ?? host, from: buffer, to: &out) }
        out.append("\r\n")
    }

    private func appendPath(from buffer: borrowing ByteBuffer, to out: inout ByteBuffer) {
        let rest = (index.path.lowerBound + edits.pathPrefix)..<index.path.upperBound
        // `http://host`, `http://host?a=b`, `/NAME`, `/NAME?a=b`.
        if rest.isEmpty || buffer[rest.lowerBound] == UInt8(ascii: "?") { out.append("/") }
        out.append(rest, of: buffer)
    }

    /// Copies the fields that go on, as many at once as stand together.
    ///
    /// - Returns: where the value of `Host` is.
    private mutating func appendFields(from buffer: borrowing ByteBuffer, to out: inout ByteBuffer) -> Range<Int>? {
        var host: Range<Int>?
        var start: Int?
        let bytes = buffer.readable
        for field in 0..<index.table.count {
            let name = index.table.name(field)
            let role = RelayedFields.role(bytes.span, name, isRequest: true, tellsClient: edits.tellsClient)
            var kept = role == .endToEnd
            switch role {
            case .host:
                host = index.table.value(field)
                kept = index.authority == nil
            case .length: hadLength = true
            case .te:
                if HTTPText.mentions(bytes.span, index.table.value(field), "trailers") { sendsTE = true }
            default: break
            }
            if kept, role != .host, index.namesFields, RelayedFields.isNamed(index.table, name, in: bytes.span) {
                kept = false
            }
            if kept, let set = edits.requestFields, set.holds(bytes.span, name) { kept = false }
            if kept {
                start = start ?? name.lowerBound
            } else if let from = start {
                out.append(from..<name.lowerBound, of: buffer)
                start = nil
            }
        }
        if let from = start { out.append(from..<index.table.end, of: buffer) }
        return host
    }

    private func appendClient(
        _ client: ProxyClient, host: Range<Int>?, from buffer: borrowing ByteBuffer, to out: inout ByteBuffer
    ) {
        out.append("X-Forwarded-For: ")
        out.append(utf8: client.address)
        out.append("\r\nX-Real-IP: ")
        out.append(utf8: client.address)
        out.append("\r\nX-Forwarded-Proto: http\r\n")
        if let host {
            out.append("X-Forwarded-Host: ")
            out.append(host, of: buffer)
            out.append("\r\n")
        }
        if let prefix = edits.forwardedPrefix {
            out.append("X-Forwarded-Prefix: ")
            out.append(prefix)
            out.append("\r\n")
        }
    }
}

/// Who sends the requests of a connection.
package struct ProxyClient: Sendable {
    /// The numeric address.
    package let address: String

    /// A client of plain HTTP, by its numeric address.
    package init(address: String) { self.address = address }
}
