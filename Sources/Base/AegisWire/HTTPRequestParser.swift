/// What a parser found.
package enum HTTPParserEvent<Head: Sendable>: Sendable {
    /// More bytes are needed behind the ones that were given.
    case needMore
    /// A head.
    case head(Head)
    /// Bytes of the body, as offsets into the bytes that were given.
    case body(Range<Int>)
    /// The end of the message, with its trailers.
    case end(HTTPHeaders)
}

/// A request head with what a server needs to know to go on.
package struct HTTPRequestStart: Sendable, Equatable {
    /// The head.
    package var head: HTTPRequestHead
    /// How long the body is.
    package var framing: HTTPFraming
    /// Whether the client wants to send another request on this connection.
    package var keepAlive: Bool
    /// Whether the client waits for `100 Continue` before it sends the body.
    package var expectsContinue: Bool
    /// Whether `Connection: upgrade` was sent; the protocols stand in `Upgrade`.
    package var wantsUpgrade: Bool
}

/// Reads requests from a stream of bytes, one after the other, as strictly as RFC 9112 allows.
///
/// The parser holds no bytes: the caller keeps what is behind the cursor and gives it again, with more, after
/// `needMore`. After an error the stream has no meaning any more; the error's status is the answer.
package struct HTTPRequestParser: Sendable {
    private enum State: Sendable {
        case head
        case body
        case failed(HTTPError)
    }

    private let limits: HTTPLimits
    private var state = State.head
    private var scanner: HTTPSectionScanner
    private var line: Line?
    private var decoder: HTTPBodyDecoder

    private struct Line: Sendable {
        var method: HTTPMethod
        var target: HTTPTarget
        var version: HTTPVersion
    }

    /// A parser at the start of a stream.
    package init(limits: HTTPLimits = HTTPLimits()) {
        self.limits = limits
        scanner = .head(limits, skipsEmptyLine: true)
        decoder = HTTPBodyDecoder(.none, limits: limits)
    }

    /// Whether the stream may end here: no byte of a further request has been seen.
    package var isBetweenRequests: Bool {
        if case .head = state { scanner.isAtStart } else { false }
    }

    /// Reads on from the cursor and moves it past what was used.
    ///
    /// - Parameters:
    ///   - bytes: everything that has come and has not been passed by the cursor, from one call to the next.
    ///   - cursor: where to go on in `bytes`.
    ///   - atMost: the most bytes of a body to announce at once.
    /// - Returns: the next event.
    /// - Throws: the same error again and again once the stream is broken.
    package mutating func next(
        _ bytes: Span<UInt8>, _ cursor: inout Int, atMost: Int = .max
    ) throws(HTTPError) -> HTTPParserEvent<HTTPRequestStart> {
        do throws(HTTPError) {
            return try step(bytes, &cursor, atMost)
        } catch {
            state = .failed(error)
            throw error
        }
    }

    private mutating func step(
        _ bytes: Span<UInt8>, _ cursor: inout Int, _ atMost: Int
    ) throws(HTTPError) -> HTTPParserEvent<HTTPRequestStart> {
        switch state {
        case .failed(let error):
            throw error
        case .head:
            return try head(bytes, &cursor)
        case .body:
            switch try decoder.next(bytes, &cursor, atMost: atMost) {
            case .needMore: return .needMore
            case .data(let range): return .body(range)
            case .end(let trailers):
                state = .head
                return .end(trailers)
            }
        }
    }

    private mutating func head(
        _ bytes: Span<UInt8>, _ cursor: inout Int
    ) throws(HTTPError) -> HTTPParserEvent<HTTPRequestStart> {
        let section = bytes.extracting(cursor...)
        if scanner.isUntouched { try HTTPRequestLine.checkStart(section) }
        while true {
            switch try scanner.scan(section) {
            case .needMore:
                return .needMore
            case .startLine(let range):
                line = try requestLine(section.extracting(range))
            case .done(let length):
                guard let line else { throw .malformed("this is not an HTTP request") }
                let start = try start(line, scanner.headers(section, length: length))
                cursor += length
                scanner = .head(limits, skipsEmptyLine: true)
                self.line = nil
                decoder = HTTPBodyDecoder(start.framing, limits: limits)
                state = .body
                return .head(start)
            }
        }
    }

    /// `method SP request-target SP HTTP-version`, with exactly these two blanks.
    private func requestLine(_ line: Span<UInt8>) throws(HTTPError) -> Line {
        let parts = try HTTPRequestLine(line)
        let method = HTTPMethod(rawValue: String(copying: line.extracting(parts.method)))
        let target = try HTTPTarget(line.extracting(parts.target), method: method, limits: limits)
        return Line(method: method, target: target, version: parts.version)
    }

    private func start(_ line: Line, _ headers: HTTPHeaders) throws(HTTPError) -> HTTPRequestStart {
        let control = try HTTPControlFields(headers)
        guard control.hosts == 1 || (control.hosts == 0 && line.version == .http10) else {
            throw .malformed(control.hosts == 0 ? "the Host header is missing" : "there is more than one Host header")
        }
        guard control.validHost else { throw .malformed("the Host header is not valid") }
        let framing = try control.requestFraming(version: line.version)
        if control.expectation == .unknown, line.version == .http11 {
            throw HTTPError(.unsupported, "no expectation but 100-continue is understood", status: 417)
        }
        return HTTPRequestStart(
            head: HTTPRequestHead(line.method, line.target, version: line.version, headers: headers),
            framing: framing,
            keepAlive: !control.close && (line.version == .http11 || control.keepAlive),
            expectsContinue: control.expectation == .proceed && line.version == .http11 && framing != .none,
            wantsUpgrade: control.upgrade && line.version == .http11)
    }
}

/// Where the three parts of a request line are.
struct HTTPRequestLine {
    let method: Range<Int>
    let target: Range<Int>
    let version: HTTPVersion

    /// `method SP request-target SP HTTP-version`, with exactly these two blanks; the target is not looked into.
    init(_ line: Span<UInt8>) throws(HTTPError) {
        var methodEnd = 0
        while methodEnd < line.count, ASCII.isToken(line[methodEnd]) { methodEnd += 1 }
        guard methodEnd > 0, methodEnd <= 32, methodEnd < line.count, line[methodEnd] == ASCII.space else {
            throw .malformed("the request line does not begin with a method and a blank")
        }
        var targetEnd = methodEnd + 1
        while targetEnd < line.count, line[targetEnd] != ASCII.space { targetEnd += 1 }
        guard targetEnd < line.count else { throw .malformed("the request line has no version") }
        version = try HTTPVersion(line.extracting((targetEnd + 1)...))
        method = 0..<methodEnd
        target = (methodEnd + 1)..<targetEnd
    }

    /// Refuses what cannot become a request by its first byte, so that its sender need not be waited for.
    static func checkStart(_ bytes: Span<UInt8>) throws(HTTPError) {
        guard !bytes.isEmpty, !ASCII.isToken(bytes[0]), bytes[0] != ASCII.carriageReturn else { return }
        throw .malformed(bytes[0] == 22 ? "this port speaks HTTP, not TLS" : "this is not an HTTP request")
    }
}

extension HTTPVersion {
    /// `HTTP/1.0`, `HTTP/1.1`; a higher minor version is read as 1.1.
    init(_ bytes: Span<UInt8>) throws(HTTPError) {
        guard bytes.count == 8, ASCII.isDigit(bytes[5]), bytes[6] == 46, ASCII.isDigit(bytes[7]) else {
            throw .malformed("the version is not HTTP/1.1")
        }
        // "HTTP/", to the letter.
        guard bytes[0] == 72, bytes[1] == 84, bytes[2] == 84, bytes[3] == 80, bytes[4] == 47 else {
            throw .malformed("the version is not HTTP/1.1")
        }
        guard bytes[5] == 49 else {
            throw HTTPError(.unsupported, "no version but HTTP/1.0 and HTTP/1.1 is understood", status: 505)
        }
        self = bytes[7] == 48 ? .http10 : .http11
    }
}
