import AegisIO
package import AegisWire

/// Which fields a relay passes on (RFC 9110, 7.6.1).
package enum RelayedFields {
    /// What a field is to a relay.
    enum Role {
        /// It goes to the other end as it is.
        case endToEnd
        /// It was for this hop, or is written anew.
        case dropped
        /// Framing that is written anew; `Content-Length`.
        case length
        case te
        case host
        case upgrade
        case setCookie
    }

    /// The role by name, for requests and responses alike.
    ///
    /// - Parameters:
    ///   - bytes: the section.
    ///   - name: where the name is.
    ///   - isRequest: whether it is a request's.
    ///   - tellsClient: then what the client claims about itself (`Forwarded`, `X-Forwarded-*`, `X-Real-IP`) is dropped.
    /// - Returns: what becomes of the field.
    static func role(_ bytes: Span<UInt8>, _ name: Range<Int>, isRequest: Bool, tellsClient: Bool = false) -> Role {
        func named(_ word: StaticString) -> Bool { HTTPText.equal(bytes, name, word) }
        switch name.count {
        case 2: return named("te") ? .te : .endToEnd
        case 4: return isRequest && named("host") ? .host : .endToEnd
        // A CGI script would read it as its HTTP_PROXY.
        case 5: return isRequest && named("proxy") ? .dropped : .endToEnd
        case 7: return named("upgrade") ? .upgrade : .endToEnd
        case 9: return tellsClient && (named("forwarded") || isAddress(bytes, name)) ? .dropped : .endToEnd
        case 10:
            if named("connection") || named("keep-alive") { return .dropped }
            return !isRequest && named("set-cookie") ? .setCookie : .endToEnd
        case 14: return named("content-length") ? .length : dropped(bytes, name, tellsClient)
        case 15, 18, 19: return dropped(bytes, name, tellsClient)
        case 16:
            if isRequest, named("x-aegis-instance") { return .dropped }
            return dropped(bytes, name, tellsClient)
        case 17: return named("transfer-encoding") ? .dropped : dropped(bytes, name, tellsClient)
        default: return name.count > 12 ? dropped(bytes, name, tellsClient) : .endToEnd
        }
    }

    private static func dropped(_ bytes: Span<UInt8>, _ name: Range<Int>, _ tellsClient: Bool) -> Role {
        if tellsClient, isForwarded(bytes, name) { return .dropped }
        // WWW-Authenticate has 16 letters as well, but another beginning.
        return HTTPText.hasPrefix(bytes, name, "proxy-") ? .dropped : .endToEnd
    }

    /// Whether a field is one of `X-Forwarded-*`, with `_` for any `-`: many servers hand both on as the same variable
    /// (RFC 3875), and what we say there would be joined to, or hidden by, what the client says.
    private static func isForwarded(_ bytes: Span<UInt8>, _ name: Range<Int>) -> Bool {
        guard name.count > 12, bytes[name.lowerBound] | 32 == UInt8(ascii: "x") else { return false }
        let first = name.lowerBound
        return HTTPText.equal(bytes, (first + 2)..<(first + 11), "forwarded")
            && isHyphen(bytes[first + 1]) && isHyphen(bytes[first + 11])
    }

    /// Whether a field is `X-Real-IP`, in which many servers look for the client's address, with `_` for any `-`.
    private static func isAddress(_ bytes: Span<UInt8>, _ name: Range<Int>) -> Bool {
        let first = name.lowerBound
        guard name.count == 9, bytes[first] | 32 == UInt8(ascii: "x") else { return false }
        return HTTPText.equal(bytes, (first + 2)..<(first + 6), "real")
            && HTTPText.equal(bytes, (first + 7)..<(first + 9), "ip")
            && isHyphen(bytes[first + 1]) && isHyphen(bytes[first + 6])
    }

    private static func isOfClient(_ name: [UInt8]) -> Bool {
        isForwarded(name.span, 0..<name.count) || isAddress(name.span, 0..<name.count)
    }

    private static func isHyphen(_ byte: UInt8) -> Bool { byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_") }

    /// Whether a field is one that `Connection` names; `Host` and framing fields never count.
    static func isNamed(_ table: HTTPFieldTable, _ name: Range<Int>, in bytes: Span<UInt8>) -> Bool {
        var start = 0
        while let index = table.position(of: "connection", in: bytes, from: start) {
            if HTTPText.contains(bytes, table.value(index), element: bytes.extracting(name)) { return true }
            start = index + 1
        }
        return false
    }

    /// The trailers that may be passed on: none that frames, routes or belongs to one hop.
    ///
    /// - Parameters:
    ///   - trailers: as they came.
    ///   - set: what is set in the head: what the sender says of it there or here is dropped.
    /// - Returns: what is left of them.
    package static func trailers(_ trailers: HTTPHeaders, without set: ProxyFields? = nil) -> HTTPHeaders {
        var out = HTTPHeaders()
        for (name, value) in trailers where isTrailer(name.lowercased()) {
            if let set, set.holds(Array(name.utf8).span, 0..<name.utf8.count) { continue }
            out.add(name, value)
        }
        return out
    }

    /// Whether a field may be passed on as a trailer: none that frames, routes or belongs to one hop.
    static func isTrailer(_ name: String) -> Bool {
        switch name {
        case "content-length", "transfer-encoding", "host", "trailer", "connection", "keep-alive", "te", "upgrade",
            "expect", "authorization", "cookie", "set-cookie", "forwarded", "x-aegis-instance":
            false
        default: !name.hasPrefix("proxy-") && !isOfClient(Array(name.utf8))
        }
    }

    /// Where a server that does not know of the prefix sends a client that does.
    ///
    /// - Parameters:
    ///   - value: the server's `Location`.
    ///   - prefix: what was taken from the path of the request.
    ///   - origin: the client's name for where the prefix belongs.
    /// - Returns: the place below the prefix; nil for another origin, a relative one, and what is below it already.
    static func place(_ value: String, below prefix: String, of origin: String?) -> String? {
        var start = ""
        var path = value[...]
        if let origin, value.lowercased().hasPrefix(origin.lowercased()) {
            start = origin
            path = value.dropFirst(origin.count)
            if path.isEmpty || path.hasPrefix("?") { return "\(start)\(prefix)/\(path)" }
        }
        guard path.hasPrefix("/"), !path.hasPrefix("//") || !start.isEmpty else { return nil }
        let rest = path.dropFirst(prefix.count)
        let isBelow = path.hasPrefix(prefix) && (rest.isEmpty || "/?#".contains(rest.first ?? "/"))
        return isBelow ? nil : "\(start)\(prefix)\(path)"
    }

    /// A `Set-Cookie` value without `Domain`: the cookie stays with the host that it came from.
    static func withoutDomain(_ value: String) -> String {
        value.split(separator: ";", omittingEmptySubsequences: false).enumerated().filter { index, part in
            let name = part.prefix { $0 != "=" }
            return index == 0 || name.trimmed.lowercased() != "domain"
        }.map { String($0.element) }.joined(separator: ";")
    }
}

extension Substring {
    fileprivate var trimmed: Substring {
        var text = self.drop { $0 == " " || $0 == "\t" }
        while let last = text.last, last == " " || last == "\t" { text.removeLast() }
        return text
    }
}
