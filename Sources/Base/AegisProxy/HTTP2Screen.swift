package import AegisCore

/// Decides about the requests of one HTTP/2 connection. On the proxy's loop only.
package protocol HTTP2Policy: AnyObject, Sendable {
    /// Decides about a request whose header section is whole.
    func admit(_ request: HTTP2Fields) -> HTTP2Verdict
    /// Hears of a request that breaks the protocol's rules and is reset: the fields in front of the fault.
    func malformed(_ request: HTTP2Fields)
    /// Hears why a request that was admitted got no answer of the server's.
    func failed(_ error: AegisError)
}

/// What becomes of a request.
package enum HTTP2Verdict {
    /// It goes on as this section; a screen looks at everything else of it.
    case pass(HTTP2Fields, (any HTTP2Screen)?)
    /// It goes nowhere.
    case refuse(AegisError, status: Int)
}

/// Looks at what goes through in one stream, and may change it byte for byte. On the proxy's loop only.
package protocol HTTP2Screen: AnyObject, Sendable {
    /// Takes the next bytes of the request's body, and appends those that may go on now.
    ///
    /// - Throws: why nothing more of the request may.
    func upload(_ bytes: [UInt8], into out: inout [UInt8]) throws(AegisError)
    /// The request's body is over: appends what was held back, and says which trailers go on.
    ///
    /// - Throws: why the request may not be ended like this.
    func uploadEnd(_ trailers: HTTP2Fields, into out: inout [UInt8]) throws(AegisError) -> HTTP2Fields
    /// Bytes of the request's body that are held back.
    var heldUp: Int { get }
    /// What the client is told of an interim response.
    func interim(_ response: HTTP2Fields) -> HTTP2Fields
    /// What the client is told of a final response's header section.
    ///
    /// - Throws: why it gets another answer.
    func response(_ response: HTTP2Fields, ends: Bool) throws(AegisError) -> HTTP2Fields
    /// Takes the next bytes of the response's body, and appends those that may go on now.
    func download(_ bytes: [UInt8], into out: inout [UInt8])
    /// The response's body is over: appends what was held back, and says which trailers go on.
    func downloadEnd(_ trailers: HTTP2Fields, into out: inout [UInt8]) -> HTTP2Fields
    /// Bytes of the response's body that are held back.
    var heldDown: Int { get }
}
