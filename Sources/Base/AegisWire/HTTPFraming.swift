/// How long a message's body is, by the rules of RFC 9112, section 6.3.
package enum HTTPFraming: Sendable, Equatable {
    /// There is no body.
    case none
    /// That many bytes (never negative).
    case length(Int)
    /// Chunks until the last one.
    case chunked
    /// All bytes until the peer closes (responses only).
    case untilClose
}

/// The fields that decide about framing and the connection, gathered in one pass over a head.
struct HTTPControlFields {
    private(set) var hosts = 0
    private(set) var length: Int?
    private(set) var codings: Codings?
    private(set) var close = false
    private(set) var keepAlive = false
    private(set) var upgrade = false
    private(set) var expectation: Expectation?
    private(set) var validHost = true
    /// `Connection` names fields that are for the next hop only.
    private(set) var namesFields = false

    enum Codings { case chunked, otherThenChunked, malformed }
    enum Expectation { case proceed, unknown }

    init(_ headers: HTTPHeaders) throws(HTTPError) {
        try headers.forEachField { (name: Span<UInt8>, value: Span<UInt8>) throws(HTTPError) in
            try add(name, value)
        }
    }

    /// Looks at the fields of a section that lies in `bytes`.
    init(_ fields: [HTTPHeaders.Field], of bytes: Span<UInt8>) throws(HTTPError) {
        for field in fields { try add(bytes.extracting(field.name), bytes.extracting(field.value)) }
    }

    private mutating func add(_ name: Span<UInt8>, _ value: Span<UInt8>) throws(HTTPError) {
        switch name.count {
        case 4 where ASCII.equal(name, "host"):
            hosts += 1
            validHost = validHost && HTTPTarget.isAuthority(value)
        case 6 where ASCII.equal(name, "expect"):
            let known = ASCII.equal(value, "100-continue")
            expectation = known && expectation != .unknown ? .proceed : .unknown
        case 10 where ASCII.equal(name, "connection"):
            Self.elements(value) { element in
                if ASCII.equal(element, "close") {
                    close = true
                } else if ASCII.equal(element, "keep-alive") {
                    keepAlive = true
                } else if ASCII.equal(element, "upgrade") {
                    upgrade = true
                } else {
                    namesFields = true
                }
            }
        case 14 where ASCII.equal(name, "content-length"):
            try addLength(value)
        case 17 where ASCII.equal(name, "transfer-encoding"):
            addCodings(value)
        default: break
        }
    }

    /// One or more equal numbers; anything else could be read in two ways.
    private mutating func addLength(_ value: Span<UInt8>) throws(HTTPError) {
        let bad = HTTPError.malformed("the Content-Length is not a number or differs from another one")
        var start = 0
        for at in 0...value.count where at == value.count || value[at] == 44 {
            var lower = start
            var upper = at
            start = at + 1
            while lower < upper, ASCII.isBlank(value[lower]) { lower += 1 }
            while lower < upper, ASCII.isBlank(value[upper - 1]) { upper -= 1 }
            guard lower < upper else { throw bad }
            var number = 0
            for index in lower..<upper {
                guard ASCII.isDigit(value[index]) else { throw bad }
                let (tens, overflow) = number.multipliedReportingOverflow(by: 10)
                let (sum, carry) = tens.addingReportingOverflow(Int(value[index] - 48))
                guard !overflow, !carry else { throw bad }
                number = sum
            }
            guard length == nil || length == number else { throw bad }
            length = number
        }
    }

    private mutating func addCodings(_ value: Span<UInt8>) {
        var isEmpty = true
        Self.elements(value) { element in
            isEmpty = false
            let chunked = ASCII.equal(element, "chunked")
            switch codings {
            case nil: codings = chunked ? .chunked : .otherThenChunked
            case .chunked, .malformed: codings = .malformed
            case .otherThenChunked: break
            }
            endsChunked = chunked
        }
        if isEmpty { codings = .malformed }
    }

    /// Whether the last coding so far is `chunked`.
    private var endsChunked = false

    /// What the codings say in the end.
    var transferCoding: Codings? { codings == .otherThenChunked && !endsChunked ? .malformed : codings }

    static func elements(_ value: Span<UInt8>, _ body: (Span<UInt8>) -> Void) {
        var start = 0
        for at in 0...value.count where at == value.count || value[at] == 44 {
            var lower = start
            var upper = at
            start = at + 1
            while lower < upper, ASCII.isBlank(value[lower]) { lower += 1 }
            while lower < upper, ASCII.isBlank(value[upper - 1]) { upper -= 1 }
            if lower < upper { body(value.extracting(lower..<upper)) }
        }
    }

    /// The framing of a request.
    ///
    /// - Throws: whatever leaves room for a second reading of where the message ends.
    func requestFraming(version: HTTPVersion) throws(HTTPError) -> HTTPFraming {
        guard let coding = transferCoding else { return length.map { $0 == 0 ? .none : .length($0) } ?? .none }
        guard length == nil else { throw .malformed("both Content-Length and Transfer-Encoding are given") }
        guard version == .http11 else { throw .malformed("HTTP/1.0 has no Transfer-Encoding") }
        switch coding {
        case .chunked: return .chunked
        case .otherThenChunked: throw HTTPError(.unsupported, "no transfer coding but chunked is understood")
        case .malformed: throw .malformed("the Transfer-Encoding does not end with one chunked")
        }
    }

    /// The framing of a response to a request with that method.
    func responseFraming(status: Int, version: HTTPVersion, method: HTTPMethod) throws(HTTPError) -> HTTPFraming {
        try responseFraming(status: status, version: version, isHead: method == .head)
    }

    /// The framing of a response, to a HEAD request or another one.
    func responseFraming(status: Int, version: HTTPVersion, isHead: Bool) throws(HTTPError) -> HTTPFraming {
        if isHead || status < 200 || status == 204 || status == 304 { return .none }
        guard let coding = transferCoding else { return length.map { $0 == 0 ? .none : .length($0) } ?? .untilClose }
        guard length == nil else { throw .malformed("both Content-Length and Transfer-Encoding are given") }
        guard version == .http11 else { throw .malformed("HTTP/1.0 has no Transfer-Encoding") }
        switch coding {
        case .chunked: return .chunked
        case .otherThenChunked: throw HTTPError(.unsupported, "no transfer coding but chunked is understood")
        case .malformed: throw .malformed("the Transfer-Encoding does not end with one chunked")
        }
    }
}
