/// A request head that stays in its reader's buffer: where its parts are, and what they say about framing.
///
/// For programs that pass messages on. It is as strict as `HTTPRequestParser` about everything that decides where a
/// message ends; the target is checked for its characters and its form, but not decoded, since it is not for this
/// program. Nothing is copied, and the memory of one index serves all requests of a connection.
package struct HTTPRequestIndex: Sendable {
    /// The methods that a relay treats differently.
    package enum Verb: Sendable { case get, head, post, put, delete, options, trace, connect, other }

    private var scanner: HTTPSectionScanner
    private var hasLine = false
    /// How long the body is.
    package private(set) var framing = HTTPFraming.none
    /// Whether the client wants to send another request on this connection.
    package private(set) var keepAlive = false
    /// Whether the client waits for `100 Continue` before it sends the body.
    package private(set) var expectsContinue = false
    /// Whether `Connection: upgrade` was sent.
    package private(set) var wantsUpgrade = false
    /// Whether `Connection` names other fields, which end here too.
    package private(set) var namesFields = false
    /// The fields.
    package private(set) var table = HTTPFieldTable()
    /// Bytes from the first one to the end of the empty line; 0 until the head is whole.
    package private(set) var length = 0
    /// The method's word.
    package private(set) var method = 0..<0
    /// The method, as far as it matters.
    package private(set) var verb = Verb.other
    /// The target as it was sent.
    package private(set) var target = 0..<0
    /// The host of a target in absolute form.
    package private(set) var authority: Range<Int>?
    /// Path and query of the target; empty for `http://host`.
    package private(set) var path = 0..<0
    /// The version that the client speaks.
    package private(set) var version = HTTPVersion.http11

    /// An index of nothing.
    package init(limits: HTTPLimits = HTTPLimits()) { scanner = .head(limits, skipsEmptyLine: true) }

    /// Makes ready for the next request.
    package mutating func reset() {
        scanner.reset()
        table.fields.removeAll(keepingCapacity: true)
        hasLine = false
        length = 0
    }

    /// The same, and gives memory back.
    package mutating func release() {
        reset()
        scanner.fields = []
        table.fields = []
    }

    /// Whether no byte of a further request has been seen.
    package var isBetweenRequests: Bool { length == 0 && scanner.isAtStart }

    /// Looks at the bytes that have come, which begin with the head's first byte.
    ///
    /// - Returns: whether the head is whole.
    /// - Throws: why this can be no request; the error's status is the answer.
    package mutating func scan(_ bytes: Span<UInt8>) throws(HTTPError) -> Bool {
        if scanner.isUntouched { try HTTPRequestLine.checkStart(bytes) }
        while true {
            switch try scanner.scan(bytes) {
            case .needMore: return false
            case .startLine(let range): try takeLine(bytes, range)
            case .done(let length):
                guard hasLine else { throw .malformed("this is not an HTTP request") }
                try finish(bytes, length)
                return true
            }
        }
    }

    private mutating func takeLine(_ bytes: Span<UInt8>, _ range: Range<Int>) throws(HTTPError) {
        let parts = try HTTPRequestLine(bytes.extracting(range))
        method = parts.method.shifted(by: range.lowerBound)
        target = parts.target.shifted(by: range.lowerBound)
        version = parts.version
        verb = Self.verb(bytes, method)
        try takeTarget(bytes)
        hasLine = true
    }

    private mutating func finish(_ bytes: Span<UInt8>, _ length: Int) throws(HTTPError) {
        let control = try HTTPControlFields(scanner.fields, of: bytes)
        guard control.hosts == 1 || (control.hosts == 0 && version == .http10) else {
            throw .malformed(control.hosts == 0 ? "the Host header is missing" : "there is more than one Host header")
        }
        guard control.validHost else { throw .malformed("the Host header is not valid") }
        framing = try control.requestFraming(version: version)
        if control.expectation == .unknown, version == .http11 {
            throw HTTPError(.unsupported, "no expectation but 100-continue is understood", status: 417)
        }
        keepAlive = !control.close && (version == .http11 || control.keepAlive)
        expectsContinue = control.expectation == .proceed && version == .http11 && framing != .none
        wantsUpgrade = control.upgrade && version == .http11
        namesFields = control.namesFields
        swap(&table.fields, &scanner.fields)
        table.end = length - 2
        self.length = length
    }

    /// Case matters in methods.
    private static func verb(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Verb {
        switch range.count {
        case 3 where exactly(bytes, range, "GET"): .get
        case 3 where exactly(bytes, range, "PUT"): .put
        case 4 where exactly(bytes, range, "HEAD"): .head
        case 4 where exactly(bytes, range, "POST"): .post
        case 5 where exactly(bytes, range, "TRACE"): .trace
        case 6 where exactly(bytes, range, "DELETE"): .delete
        case 7 where exactly(bytes, range, "OPTIONS"): .options
        case 7 where exactly(bytes, range, "CONNECT"): .connect
        default: .other
        }
    }

    private static func exactly(_ bytes: Span<UInt8>, _ range: Range<Int>, _ word: StaticString) -> Bool {
        // SAFETY: the caller has compared the counts.
        let text = unsafe UnsafeBufferPointer(start: word.utf8Start, count: word.utf8CodeUnitCount)
        for offset in 0..<range.count {
            let letter = unsafe text[offset]
            guard bytes[range.lowerBound + offset] == letter else { return false }
        }
        return true
    }

    /// The four forms of RFC 9112, 3.2; bytes above ASCII are let through, since many clients send them and servers
    /// see them as they are.
    private mutating func takeTarget(_ bytes: Span<UInt8>) throws(HTTPError) {
        for index in target where bytes[index] <= 32 || bytes[index] == 127 || bytes[index] == 35 {
            throw .malformed("the request target has a character that is not allowed")
        }
        guard !target.isEmpty else { throw .malformed("the request target is empty") }
        authority = nil
        path = target
        if verb == .connect {
            let whole = bytes.extracting(target)
            guard HTTPTarget.isAuthority(whole), HTTPTarget.hasPort(whole) else {
                throw .malformed("CONNECT needs a host and a port")
            }
            authority = target
            path = target.upperBound..<target.upperBound
            return
        }
        let first = bytes[target.lowerBound]
        if first == 47 { return }
        if first == 42, target.count == 1 {
            guard verb == .options else { throw .malformed("the target * is for OPTIONS only") }
            return
        }
        let scheme =
            HTTPText.hasPrefix(bytes, target, "http://") ? 7 : HTTPText.hasPrefix(bytes, target, "https://") ? 8 : 0
        guard scheme > 0 else { throw .malformed("the request target is neither a path nor an http URL") }
        let start = target.lowerBound + scheme
        var end = start
        while end < target.upperBound, bytes[end] != 47, bytes[end] != 63 { end += 1 }
        guard start < end, HTTPTarget.isAuthority(bytes.extracting(start..<end)) else {
            throw .malformed("the host of the request target is not valid")
        }
        authority = start..<end
        path = end..<target.upperBound
    }
}

extension Range<Int> {
    fileprivate func shifted(by offset: Int) -> Range<Int> { (lowerBound + offset)..<(upperBound + offset) }
}
