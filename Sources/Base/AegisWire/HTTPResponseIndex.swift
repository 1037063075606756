/// A response head that stays in its reader's buffer; see `HTTPRequestIndex`.
package struct HTTPResponseIndex: Sendable {
    private var scanner: HTTPSectionScanner
    /// 100 to 599.
    package private(set) var status = 0
    /// The words after the status.
    package private(set) var reason = 0..<0
    /// The version that the server speaks.
    package private(set) var version = HTTPVersion.http11
    /// How long the body is; nothing for interim responses.
    package private(set) var framing = HTTPFraming.none
    /// Whether another request may follow on this connection.
    package private(set) var keepAlive = false
    /// Whether `Connection` names other fields, which end here too.
    package private(set) var namesFields = false
    /// The length that was announced, also where there is no body (HEAD, 304).
    package private(set) var announcedLength: Int?
    /// The fields.
    package private(set) var table = HTTPFieldTable()
    /// Bytes from the first one to the end of the empty line; 0 until the head is whole.
    package private(set) var length = 0

    /// An index of nothing.
    package init(limits: HTTPLimits = HTTPLimits()) { scanner = .head(limits, skipsEmptyLine: false) }

    /// Makes ready for the next response.
    package mutating func reset() {
        scanner.reset()
        table.fields.removeAll(keepingCapacity: true)
        status = 0
        length = 0
    }

    /// Looks at the bytes that have come, which begin with the head's first byte.
    ///
    /// - Parameters:
    ///   - bytes: everything since that byte.
    ///   - isHead: whether the request was a HEAD.
    /// - Returns: whether the head is whole.
    /// - Throws: why this can be no response.
    package mutating func scan(_ bytes: Span<UInt8>, isHead: Bool) throws(HTTPError) -> Bool {
        while true {
            switch try scanner.scan(bytes) {
            case .needMore: return false
            case .startLine(let range):
                let parts = try HTTPStatusLine(bytes.extracting(range))
                status = parts.status
                reason = (parts.reason.lowerBound + range.lowerBound)..<(parts.reason.upperBound + range.lowerBound)
                version = parts.version
            case .done(let length):
                guard status > 0 else { throw .malformed("this is not an HTTP response") }
                let control = try HTTPControlFields(scanner.fields, of: bytes)
                framing = try control.responseFraming(status: status, version: version, isHead: isHead)
                keepAlive = !control.close && framing != .untilClose && (version == .http11 || control.keepAlive)
                namesFields = control.namesFields
                announcedLength = control.length
                swap(&table.fields, &scanner.fields)
                table.end = length - 2
                self.length = length
                return true
            }
        }
    }
}
