package import AegisWire
internal import LinuxSys

/// How long the parts of an exchange may take; each must be above zero.
package struct ClientTimeouts: Sendable, Equatable {
    /// Looking the name up, connecting and TLS; also waiting for a free connection.
    package var connect: Duration
    /// From then until the head of the answer.
    package var firstByte: Duration
    /// Between two pieces of the body, not counting the time in which the caller does not read.
    package var idle: Duration
    /// All of it, the time in which the caller does not read included.
    package var total: Duration

    /// Limits for ordinary requests unless told.
    package init(
        connect: Duration = .seconds(10), firstByte: Duration = .seconds(60), idle: Duration = .seconds(60),
        total: Duration = .seconds(300)
    ) {
        self.connect = connect
        self.firstByte = firstByte
        self.idle = idle
        self.total = total
    }
}

/// One request. Redirects are answers like others: whoever follows one makes a new request, and checks it again.
package struct ClientRequest: Sendable {
    /// Says whether the client may talk to a numeric address and port; asked before connecting, and again for the address that
    /// a connection, new or kept, really has. With a proxy that is the proxy's address.
    package typealias AddressRule = @Sendable (_ address: String, _ port: UInt16) -> Bool

    /// What to do.
    package var method: HTTPMethod
    /// What to do it to.
    package var url: WebURL
    /// Fields of the request; what frames the message is not for callers to set.
    package var headers: HTTPHeaders
    /// The body; nil sends none.
    package var body: [UInt8]?
    /// How long it may take.
    package var timeouts = ClientTimeouts()
    /// The most bytes of the answer's body.
    package var maximumBody = 64 << 20
    /// The addresses to connect to, tried in turn, instead of what the name resolves to; the name still counts for TLS.
    package var addresses: [String]?
    /// Which addresses may be talked to; nil admits all.
    package var admits: AddressRule?
    /// Whether the proxy counts that `http_proxy`, `https_proxy` and `no_proxy` name.
    package var usesEnvironmentProxy = false
    /// Whether a kept connection may be used, and this one be kept. A request on a kept connection that turns out to be dead
    /// is sent again on a new one; for requests that must never arrive twice set this to false.
    package var reusesConnection = true
    /// Whether the answer may come compressed; it is read as plain bytes.
    package var acceptsCompression = false

    /// Makes a request with the usual limits.
    package init(_ method: HTTPMethod, _ url: WebURL, headers: HTTPHeaders = [:], body: [UInt8]? = nil) {
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
    }

    /// The most bytes of all header fields.
    static let maximumFields = 64 << 10

    /// Refuses what cannot be sent, or would be read by the server as something else.
    ///
    /// - Throws: `.invalidRequest`.
    func check() throws(HTTPClientError) {
        func wrong(_ why: String) -> HTTPClientError { HTTPClientError(.invalidRequest, why) }
        let name = method.rawValue.utf8
        guard !name.isEmpty, name.count <= 32, name.allSatisfy({ (65...90).contains($0) || $0 == 45 }) else {
            throw wrong("'\(method.rawValue.prefix(40))' is not a method")
        }
        if method == .connect { throw wrong("CONNECT is not for requests") }
        if method == .head, body != nil { throw wrong("a HEAD request has no body") }
        if let field = headers.invalidField { throw wrong("the header '\(field.prefix(80))' cannot be sent") }
        for field in [
            "content-length", "transfer-encoding", "connection", "upgrade", "host", "expect", "te", "trailer",
        ]
        where headers.contains(field) {
            throw wrong("the header '\(field)' is not for callers to set")
        }
        let fieldBytes = headers.reduce(0) { $0 + $1.name.utf8.count + $1.value.utf8.count + 4 }
        guard fieldBytes <= Self.maximumFields else {
            throw wrong("the headers have more than \(Self.maximumFields) bytes")
        }
        for limit in [timeouts.connect, timeouts.firstByte, timeouts.idle, timeouts.total] where limit <= .zero {
            throw wrong("a time limit must be above zero")
        }
        if let addresses {
            guard !addresses.isEmpty else { throw wrong("there is no address to connect to") }
            if usesEnvironmentProxy { throw wrong("an address cannot be given through a proxy") }
            for address in addresses where SocketAddress(ip: address, port: 1) == nil {
                throw wrong("'\(address.prefix(80))' is not a numeric address")
            }
        }
    }
}
