internal import CCurl

/// An `http` or `https` address, taken apart by the same parser that will connect to it.
///
/// Whoever decides about a host must see the one that is connected to: numbers in other bases and missing dots are brought
/// into one form here. There are no user names in such an address, and no fragment.
package struct WebURL: Sendable, Hashable, CustomStringConvertible {
    /// The whole address as it is asked for.
    package let text: String
    /// Whether TLS is spoken.
    package let isSecure: Bool
    /// A name in ASCII, an IPv4 address, or an IPv6 address without brackets.
    package let host: String
    /// The port, also when it is the usual one.
    package let port: UInt16
    /// The path, escaped as it is sent; at least "/".
    package let path: String
    /// What follows the "?", as it is sent.
    package let query: String?

    package var description: String { text }
    /// `http` or `https`.
    package var scheme: String { isSecure ? "https" : "http" }
    /// Scheme, host and port, as in `https://example.org:8443`.
    package var origin: String {
        let shown = host.contains(":") ? "[\(host)]" : host
        return port == (isSecure ? 443 : 80) ? "\(scheme)://\(shown)" : "\(scheme)://\(shown):\(port)"
    }

    /// The most bytes that an address may have.
    package static let maximumLength = 16 << 10

    /// Reads an address.
    ///
    /// - Throws: `.invalidRequest` that says what is wrong with it.
    package init(_ text: String) throws(HTTPClientError) { try self.init(text, base: nil) }

    /// The address that a text (a `Location` field, a link) means on a page of this one.
    ///
    /// - Throws: `.invalidRequest` that says what is wrong with it.
    package func resolving(_ reference: String) throws(HTTPClientError) -> WebURL { try WebURL(reference, base: text) }

    private init(_ given: String, base: String?) throws(HTTPClientError) {
        func wrong(_ why: String) -> HTTPClientError {
            HTTPClientError(.invalidRequest, "'\(given.prefix(200))' is no address of the web: \(why)")
        }
        guard !given.isEmpty, given.utf8.count <= Self.maximumLength else {
            throw wrong("it has \(given.utf8.count) bytes; 1 to \(Self.maximumLength) are possible")
        }
        guard given.utf8.allSatisfy({ $0 > 32 && $0 != 127 }) else {
            throw wrong("it has a space or a control character")
        }
        let base = base ?? ""
        let parsed = unsafe base.withCString { unsafe al_url_parse(base.isEmpty ? nil : $0, given) }
        guard let handle = unsafe parsed else { throw wrong("give http://HOST/PATH or https://HOST/PATH") }
        defer { unsafe al_url_free(handle) }
        func part(_ number: some BinaryInteger) -> String? {
            guard let raw = unsafe al_url_part(handle, Int32(number)) else { return nil }
            defer { unsafe al_url_text_free(raw) }
            return unsafe String(cString: raw)
        }
        let scheme = part(AL_URL_SCHEME) ?? ""
        guard scheme == "http" || scheme == "https" else { throw wrong("'\(scheme)' is neither http nor https") }
        guard part(AL_URL_USER) == nil, part(AL_URL_PASSWORD) == nil else {
            throw wrong("it has a user name; credentials go into headers")
        }
        guard let port = part(AL_URL_PORT).flatMap({ UInt16($0) }), port > 0 else {
            throw wrong("its port is none")
        }
        guard var host = part(AL_URL_HOST), let whole = part(AL_URL_WHOLE) else {
            throw wrong("it has no host")
        }
        guard host.utf8.allSatisfy({ $0 > 32 && $0 < 127 }) else {
            throw wrong("its host is not ASCII; write a name in another script in its form with 'xn--'")
        }
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        guard !host.isEmpty else { throw wrong("it has no host") }
        self.host = host.lowercased()
        self.port = port
        isSecure = scheme == "https"
        text = whole
        path = part(AL_URL_PATH) ?? "/"
        query = part(AL_URL_QUERY)
    }
}
