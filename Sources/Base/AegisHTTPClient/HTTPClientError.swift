/// Why a request has no answer, or not all of one.
package struct HTTPClientError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Which limit of time was passed.
    package enum Limit: String, Sendable, Equatable {
        /// Looking the name up, connecting and TLS.
        case connect
        /// From then until the answer's head.
        case firstByte
        /// Between two pieces of the body.
        case idle
        /// All of it.
        case total
    }

    /// The families that callers tell apart.
    package enum Kind: Sendable, Equatable {
        /// The request cannot be sent as it is.
        case invalidRequest
        /// The host's name is not known, or nobody could be asked.
        case resolve
        /// Nobody answers at the address.
        case connect
        /// The address is one that the caller does not admit.
        case refusedAddress
        /// The server's certificate is not good for the host, or the two sides do not come to terms.
        case tls
        /// A limit of time was passed.
        case timeout(Limit)
        /// The connection ended before the answer did. An answer of HTTP/1 that says nothing of its length cannot be told from a
        /// shorter one.
        case cut
        /// The answer is longer than the caller takes.
        case tooLarge
        /// What came is not HTTP.
        case badAnswer
        /// The task was cancelled.
        case cancelled
        /// More requests at once than the client takes.
        case busy
        /// The client was closed.
        case closed
    }

    /// The family.
    package var kind: Kind
    /// One phrase with what was at fault; says nothing of headers and bodies.
    package var message: String

    /// Makes an error.
    package init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }

    package var description: String { message }

    /// Whether the server may have got the request and acted on it; false only when that is certain.
    package var mayHaveArrived: Bool {
        switch kind {
        case .invalidRequest, .resolve, .connect, .refusedAddress, .tls, .timeout(.connect), .busy: false
        case .timeout, .cut, .tooLarge, .badAnswer, .cancelled, .closed: true
        }
    }

    /// The task was cancelled.
    package static let cancelled = HTTPClientError(.cancelled, "the request was cancelled")
    /// The client was closed.
    package static let closed = HTTPClientError(.closed, "the HTTP client is closed")
}
