/// How long the body of a response is going to be.
enum HTTPResponseLength: Sendable, Equatable {
    /// Exactly that many bytes.
    case known(Int)
    /// Known only when it ends.
    case unknown
}

/// How the bytes of a response's body go onto the wire.
enum HTTPBodyCoding: Sendable, Equatable {
    /// As they are, exactly that many.
    case length(Int)
    /// In chunks.
    case chunked
    /// As they are; the end of the connection is the end of the body.
    case untilClose
    /// Not at all (HEAD, 204, 304).
    case none
}

/// One request and its response on a server's connection: what may still be read, sent and reused.
///
/// A pure state machine: it makes bytes and answers questions, and never waits.
struct HTTPExchange: Sendable {
    enum Response: Sendable, Equatable {
        /// Nothing was sent.
        case none
        /// The head was handed out to be sent; the body goes on.
        case started
        /// All of it was sent.
        case finished
        /// The connection speaks another protocol now.
        case upgraded
        /// Sending failed midway.
        case broken
    }

    let number: Int
    let start: HTTPRequestStart
    private(set) var response = Response.none
    /// Whether the connection can serve another request after this one.
    private(set) var keepAlive: Bool
    /// Whether the client still waits to be told that it may send the body.
    private(set) var owesContinue: Bool
    /// Whether the whole body has been taken from the connection.
    private(set) var bodyEnded: Bool
    private(set) var trailers = HTTPHeaders()
    /// Bytes of the body that somebody has read.
    private var bodyTaken = 0
    /// What was wrong with the body; it decides the status when the handler gives up because of it.
    private(set) var bodyFailure: HTTPError?

    init(number: Int, start: HTTPRequestStart) {
        self.number = number
        self.start = start
        keepAlive = start.keepAlive
        owesContinue = start.expectsContinue
        bodyEnded = start.framing == .none
    }

    // MARK: The body of the request

    /// The interim response to send before the body is read for the first time, if the client waits for one.
    mutating func takeContinue() -> [UInt8]? {
        guard owesContinue else { return nil }
        owesContinue = false
        return response == .none ? Array("HTTP/1.1 100 Continue\r\n\r\n".utf8) : nil
    }

    mutating func took(_ count: Int) { bodyTaken += count }

    mutating func endBody(_ trailers: HTTPHeaders) {
        bodyEnded = true
        self.trailers = trailers
    }

    mutating func failBody(_ error: HTTPError) {
        bodyFailure = bodyFailure ?? error
        keepAlive = false
    }

    // MARK: The response

    /// The head of the response, and how its body is to be sent.
    ///
    /// - Parameters:
    ///   - head: status and fields; the fields that frame the message are added here and must not be in it.
    ///   - length: the length of the body, if it is known.
    ///   - closing: whether the server wants the connection to end.
    ///   - drain: bytes of an unread body that the server would skip to keep the connection.
    /// - Returns: the bytes of the head, with its empty line, and the coding.
    /// - Throws: `.misuse` when this was answered already or the head cannot be sent.
    mutating func begin(
        _ head: HTTPResponseHead, _ length: HTTPResponseLength, closing: Bool, drain: Int
    ) throws(HTTPError) -> (head: [UInt8], coding: HTTPBodyCoding) {
        guard response == .none else { throw HTTPError(.misuse, "the request was answered already") }
        guard (200...599).contains(head.status) else { throw HTTPError(.misuse, "\(head.status) is no final status") }
        try Self.refuseFraming(head.headers)
        var out: [UInt8] = []
        out.reserveCapacity(256)
        try head.encodeFields(into: &out)
        let says = head.headers.contains("connection", token: "close")
        // A client that was not told to go on may send the body or not: nobody knows where the next request begins.
        if closing || says || (owesContinue && !bodyEnded) { keepAlive = false }
        if !bodyEnded, case .length(let count) = start.framing, count - bodyTaken > drain { keepAlive = false }
        owesContinue = false
        let coding = appendFraming(head.status, length, to: &out)
        if !keepAlive, !says {
            out.append(contentsOf: "Connection: close\r\n".utf8)
        } else if keepAlive, start.head.version == .http10 {
            out.append(contentsOf: "Connection: keep-alive\r\n".utf8)
        }
        out.append(ASCII.carriageReturn)
        out.append(ASCII.lineFeed)
        response = .started
        return (out, coding)
    }

    private static func refuseFraming(_ headers: HTTPHeaders) throws(HTTPError) {
        for name in ["content-length", "transfer-encoding"] where headers.contains(name) {
            throw HTTPError(.misuse, "\(name) is not for handlers to set")
        }
    }

    private mutating func appendFraming(
        _ status: Int, _ length: HTTPResponseLength, to out: inout [UInt8]
    ) -> HTTPBodyCoding {
        if status == 204 || status == 304 { return .none }
        let isHead = start.head.method == .head
        switch length {
        case .known(let count):
            out.append(contentsOf: "Content-Length: ".utf8)
            ASCII.append(decimal: count, to: &out)
            out.append(ASCII.carriageReturn)
            out.append(ASCII.lineFeed)
            return isHead ? .none : .length(count)
        case .unknown where start.head.version == .http11:
            out.append(contentsOf: "Transfer-Encoding: chunked\r\n".utf8)
            return isHead ? .none : .chunked
        case .unknown:
            if !isHead { keepAlive = false }
            return isHead ? .none : .untilClose
        }
    }

    /// The head of `101 Switching Protocols`.
    ///
    /// - Throws: `.misuse` when the client did not ask for this protocol, or its body has not been read.
    mutating func beginUpgrade(to name: String, _ headers: HTTPHeaders) throws(HTTPError) -> [UInt8] {
        guard response == .none else { throw HTTPError(.misuse, "the request was answered already") }
        guard start.wantsUpgrade, start.head.headers.contains("upgrade", token: name) else {
            throw HTTPError(.misuse, "the client did not ask for \(name)")
        }
        guard bodyEnded else { throw HTTPError(.misuse, "the body must be read before the protocol changes") }
        try Self.refuseFraming(headers)
        var all: HTTPHeaders = ["Connection": "Upgrade", "Upgrade": name]
        for (name, value) in headers { all.add(name, value) }
        var out: [UInt8] = []
        try HTTPResponseHead(101, headers: all).encodeFields(into: &out)
        out.append(ASCII.carriageReturn)
        out.append(ASCII.lineFeed)
        response = .started
        keepAlive = false
        return out
    }

    mutating func finishResponse() { if response == .started { response = .finished } }
    mutating func finishUpgrade() { if response == .started { response = .upgraded } }
    mutating func breakResponse() {
        response = .broken
        keepAlive = false
    }
}
