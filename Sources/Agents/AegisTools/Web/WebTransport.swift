/// One request of a tool to the web.
package struct WebRequest: Sendable {
    /// Whether an address that the host's name was resolved to may be connected to. Asked before each connection, of exactly the
    /// address that is then used, so that no second lookup can lead elsewhere.
    package typealias AddressRule = @Sendable (_ address: String, _ port: UInt16) -> Bool

    /// Absolute, `http` or `https`, without a fragment.
    package var url: String
    package var headers: [(name: String, value: String)]
    package var admits: AddressRule
    /// How much of the body is read, in bytes.
    package var mostBytes: Int
    /// The same for a page of HTML, of which less is shown than is read; nil is no difference.
    package var mostPageBytes: Int?
    /// How long all of it may take.
    package var timeLimit: Duration
}

/// An answer of the web.
package struct WebAnswer: Sendable {
    package var status: Int
    package var headers: [(name: String, value: String)]
    /// The body, as much of it as was to be read.
    package var body: [UInt8]
    /// Whether there is more.
    package var isTruncated: Bool

    /// An answer.
    package init(status: Int, headers: [(name: String, value: String)], body: [UInt8], isTruncated: Bool) {
        self.status = status
        self.headers = headers
        self.body = body
        self.isTruncated = isTruncated
    }

    /// The first header of a name.
    func header(_ name: String) -> String? {
        headers.first { $0.name.lowercased() == name }?.value
    }
}

/// Why there is no answer.
package struct WebFailure: Error, Sendable, Equatable {
    /// The kinds.
    package enum Kind: String, Sendable {
        /// The name is not known.
        case unresolved
        /// `admits` said no to every address.
        case refusedAddress
        /// The server could not be reached, or broke off.
        case connection
        /// The server's certificate is not good for the name.
        case certificate
        case timeout
    }
    package var kind: Kind
    package var message: String

    /// A failure.
    package init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }
}

/// What tools need of HTTP: one GET. Redirects are not followed, cookies are not kept, no proxy is used.
package protocol WebTransport: Sendable {
    /// Gets a resource. Cancelling closes the connection.
    ///
    /// - Throws: `WebFailure`, `CancellationError`.
    func get(_ request: WebRequest) async throws -> WebAnswer
}

/// What makes readable text of a page.
package protocol PageReader: Sendable {
    /// The text of an HTML page.
    ///
    /// - Parameters:
    ///   - html: the page.
    ///   - address: where it came from, for its links.
    ///   - limit: bytes of the text.
    /// - Returns: the title, the text and whether it was cut.
    /// - Throws: when the page cannot be read.
    func read(_ html: String, at address: String, limit: Int) async throws -> (
        title: String, text: String, isTruncated: Bool
    )
}
