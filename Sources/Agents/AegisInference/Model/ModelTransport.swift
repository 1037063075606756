/// What a provider on the network needs of HTTP: one POST whose answer is read while it arrives.
package protocol ModelTransport: Sendable {
    /// Sends a body and hands out the answer.
    ///
    /// Redirects are not followed: a key must not travel to another host. Cancelling the task closes the connection.
    ///
    /// - Parameters:
    ///   - url: an absolute `http` or `https` address.
    ///   - headers: sent in this order; `Content-Length` is added.
    ///   - body: what is sent.
    ///   - timeouts: how long each phase may take.
    ///   - onHead: called once, with the status and the headers (names in lower case), before any body.
    ///   - onBody: called for each piece of the body; no more is read until it returns. What it throws ends the exchange.
    /// - Throws: why the exchange did not end well. A status of 400 or more is no failure of the transport.
    func post(
        _ url: String, headers: [(String, String)], body: [UInt8], timeouts: TransportTimeouts,
        onHead: (_ status: Int, _ headers: [(String, String)]) throws -> Void,
        onBody: (ArraySlice<UInt8>) async throws -> Void
    ) async throws(TransportError)
}

/// How long an exchange may take.
package struct TransportTimeouts: Sendable, Hashable {
    /// Until the connection (TLS included) stands.
    package var connect: Duration
    /// From the request's last byte to the answer's head.
    package var firstByte: Duration
    /// Between two pieces of the body.
    package var idle: Duration
    /// From the beginning to the end.
    package var total: Duration

    /// Makes limits. A model may think for minutes before it says a word: `firstByte` is long.
    package init(
        connect: Duration = .seconds(10), firstByte: Duration = .seconds(120), idle: Duration = .seconds(60),
        total: Duration = .seconds(600)
    ) {
        self.connect = connect
        self.firstByte = firstByte
        self.idle = idle
        self.total = total
    }
}

/// Why an exchange failed below HTTP.
package struct TransportError: Error, Sendable, Hashable, CustomStringConvertible {
    /// Where it failed.
    package enum Kind: Sendable, Hashable {
        /// The address is none that can be asked.
        case badAddress
        /// The name has no address.
        case name
        /// Nobody answers there.
        case connect
        /// The peer's certificate or handshake was not accepted.
        case tls
        /// A limit of `TransportTimeouts` was reached.
        case timeout(Phase)
        /// The connection ended before the answer did.
        case closed
        /// What came is not HTTP.
        case badAnswer
        /// What came is larger than is read.
        case tooLarge
        /// The task was cancelled.
        case cancelled
        /// `onHead` or `onBody` threw; who threw knows why.
        case stopped
    }
    /// Which limit was reached.
    package enum Phase: String, Sendable, Hashable { case connect, firstByte, idle, total }

    /// Where it failed.
    package var kind: Kind
    /// What happened; never a header's value.
    package var message: String

    /// Makes a failure.
    package init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }
    package var description: String { message }
}
