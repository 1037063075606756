/// A response head with what a client needs to know to go on.
package struct HTTPResponseStart: Sendable, Equatable {
    /// The head.
    package var head: HTTPResponseHead
    /// How long the body is.
    package var framing: HTTPFraming
    /// Whether another request may be sent on this connection after the body.
    package var keepAlive: Bool
    /// Whether this is `101`: what follows is the new protocol, not HTTP.
    package var isUpgrade: Bool
}

/// Reads the responses to requests that the caller announces, as strictly as a request parser.
///
/// As with requests the caller keeps the bytes behind the cursor. Interim responses (100, 103) come as heads with
/// no body and no `end`; the head of the final response follows.
package struct HTTPResponseParser: Sendable {
    private enum State: Sendable {
        case idle
        case head(HTTPMethod)
        case body
        case upgraded
        case failed(HTTPError)
    }

    private let limits: HTTPLimits
    private var state = State.idle
    private var scanner: HTTPSectionScanner
    private var head: HTTPResponseHead?
    private var decoder: HTTPBodyDecoder
    private var interim = 0

    /// A parser at the start of a stream.
    package init(limits: HTTPLimits = HTTPLimits()) {
        self.limits = limits
        scanner = .head(limits, skipsEmptyLine: false)
        decoder = HTTPBodyDecoder(.none, limits: limits)
    }

    /// Says that a request was sent: its method decides whether the response has a body.
    package mutating func expect(_ method: HTTPMethod) {
        interim = 0
        state = .head(method)
    }

    /// Reads on from the cursor and moves it past what was used; see `HTTPRequestParser.next`.
    package mutating func next(
        _ bytes: Span<UInt8>, _ cursor: inout Int, atMost: Int = .max
    ) throws(HTTPError) -> HTTPParserEvent<HTTPResponseStart> {
        do throws(HTTPError) {
            return try step(bytes, &cursor, atMost)
        } catch {
            state = .failed(error)
            throw error
        }
    }

    /// Says that the stream has ended.
    ///
    /// - Returns: whether that is the end of the body; else the message is not whole.
    package mutating func streamEnded() -> Bool {
        guard case .body = state, decoder.endsWithStream else { return false }
        state = .idle
        return true
    }

    private mutating func step(
        _ bytes: Span<UInt8>, _ cursor: inout Int, _ atMost: Int
    ) throws(HTTPError) -> HTTPParserEvent<HTTPResponseStart> {
        switch state {
        case .failed(let error):
            throw error
        case .idle:
            guard cursor == bytes.count else { throw .malformed("the server sent what nobody asked for") }
            return .needMore
        case .upgraded:
            return .needMore
        case .head(let method):
            return try head(bytes, &cursor, method)
        case .body:
            switch try decoder.next(bytes, &cursor, atMost: atMost) {
            case .needMore: return .needMore
            case .data(let range): return .body(range)
            case .end(let trailers):
                state = .idle
                return .end(trailers)
            }
        }
    }

    private mutating func head(
        _ bytes: Span<UInt8>, _ cursor: inout Int, _ method: HTTPMethod
    ) throws(HTTPError) -> HTTPParserEvent<HTTPResponseStart> {
        let section = bytes.extracting(cursor...)
        while true {
            switch try scanner.scan(section) {
            case .needMore:
                return .needMore
            case .startLine(let range):
                head = try statusLine(section.extracting(range))
            case .done(let length):
                guard var head else { throw .malformed("this is not an HTTP response") }
                head.headers = scanner.headers(section, length: length)
                cursor += length
                scanner = .head(limits, skipsEmptyLine: false)
                self.head = nil
                return .head(try start(head, method))
            }
        }
    }

    private mutating func start(_ head: HTTPResponseHead, _ method: HTTPMethod) throws(HTTPError) -> HTTPResponseStart {
        let control = try HTTPControlFields(head.headers)
        let framing = try control.responseFraming(status: head.status, version: head.version, method: method)
        var start = HTTPResponseStart(
            head: head, framing: framing,
            keepAlive: !control.close && framing != .untilClose && (head.version == .http11 || control.keepAlive),
            isUpgrade: false)
        if head.status == 101 {
            start.isUpgrade = true
            state = .upgraded
        } else if head.status < 200 {
            interim += 1
            guard interim <= 16 else { throw .malformed("the server sent more than 16 interim responses") }
        } else {
            decoder = HTTPBodyDecoder(framing, limits: limits)
            state = .body
        }
        return start
    }

    private func statusLine(_ line: Span<UInt8>) throws(HTTPError) -> HTTPResponseHead {
        let parts = try HTTPStatusLine(line)
        return HTTPResponseHead(
            parts.status, reason: String(copying: line.extracting(parts.reason)), version: parts.version)
    }
}

/// The parts of a status line.
struct HTTPStatusLine {
    let version: HTTPVersion
    let status: Int
    let reason: Range<Int>

    /// `HTTP-version SP status-code [ SP reason ]`.
    init(_ line: Span<UInt8>) throws(HTTPError) {
        guard line.count >= 12, line[8] == ASCII.space else { throw .malformed("the status line is not valid") }
        version = try HTTPVersion(line.extracting(first: 8))
        var status = 0
        for index in 9..<12 {
            guard ASCII.isDigit(line[index]) else { throw .malformed("the status is not a number") }
            status = status * 10 + Int(line[index] - 48)
        }
        guard (100...599).contains(status), line.count == 12 || line[12] == ASCII.space else {
            throw .malformed("the status line is not valid")
        }
        self.status = status
        reason = min(13, line.count)..<line.count
        for index in reason where !ASCII.isFieldValue(line[index]) {
            throw .malformed("the status line has a control character")
        }
    }
}
