/// Finds and checks the lines of a head or trailer section as their bytes arrive, each byte once.
///
/// The bytes stay where they are until the section is whole; all offsets are relative to its first byte. Every line
/// ends with CR LF: a lone LF or CR is refused, since two readers could see different lines.
struct HTTPSectionScanner: Sendable {
    enum Step: Equatable {
        /// The section goes on behind the bytes that are there.
        case needMore
        /// The start line lies at these offsets; scan on for the fields.
        case startLine(Range<Int>)
        /// The section is whole and takes that many bytes.
        case done(length: Int)
    }

    private var scanned = 0
    private var lineStart = 0
    private var fieldsStart: Int?
    private var skippedEmptyLine = false
    var fields: [HTTPHeaders.Field] = []
    private let startLineLimit: Int
    private let sectionLimit: Int
    private let fieldLimit: Int
    private let leadingEmptyLine: Bool

    /// A scanner for a head; a server skips one empty line before a request (RFC 9112, 2.2).
    static func head(_ limits: HTTPLimits, skipsEmptyLine: Bool) -> HTTPSectionScanner {
        HTTPSectionScanner(
            startLineLimit: limits.startLine, sectionLimit: limits.headerSection, fieldLimit: limits.fields,
            fieldsStart: nil, leadingEmptyLine: skipsEmptyLine)
    }

    /// A scanner for a trailer section, which has no start line.
    static func trailers(_ limits: HTTPLimits) -> HTTPSectionScanner {
        HTTPSectionScanner(
            startLineLimit: 0, sectionLimit: limits.trailerSection, fieldLimit: limits.trailerFields, fieldsStart: 0,
            leadingEmptyLine: false)
    }

    private init(
        startLineLimit: Int, sectionLimit: Int, fieldLimit: Int, fieldsStart: Int?, leadingEmptyLine: Bool
    ) {
        self.startLineLimit = startLineLimit
        self.sectionLimit = sectionLimit
        self.fieldLimit = fieldLimit
        self.fieldsStart = fieldsStart
        self.leadingEmptyLine = leadingEmptyLine
    }

    /// Starts on the next section of the same kind; memory is kept.
    mutating func reset() {
        scanned = 0
        lineStart = 0
        fieldsStart = nil
        skippedEmptyLine = false
        fields.removeAll(keepingCapacity: true)
    }

    /// Whether no byte of the section has been seen.
    var isUntouched: Bool { scanned == 0 }
    /// Whether nothing but a skipped empty line has been seen: an end of the stream here is a clean one.
    var isAtStart: Bool { fieldsStart == nil && scanned == lineStart }

    /// Looks at bytes that begin with the section's first byte.
    mutating func scan(_ bytes: Span<UInt8>) throws(HTTPError) -> Step {
        while let end = ASCII.firstLineFeed(bytes, from: scanned) {
            scanned = end + 1
            guard end > lineStart, bytes[end - 1] == ASCII.carriageReturn else {
                throw .malformed("a line ends without CR LF")
            }
            let line = lineStart..<(end - 1)
            lineStart = scanned
            if let step = try finish(line, of: bytes) { return step }
        }
        scanned = bytes.count
        try checkPending(bytes.count)
        return .needMore
    }

    private mutating func finish(_ line: Range<Int>, of bytes: Span<UInt8>) throws(HTTPError) -> Step? {
        guard let fieldsStart else {
            if line.isEmpty, leadingEmptyLine, !skippedEmptyLine {
                skippedEmptyLine = true
                return nil
            }
            guard line.count <= startLineLimit else { throw startLineTooLong }
            fieldsStart = lineStart
            return .startLine(line)
        }
        guard lineStart - fieldsStart <= sectionLimit else { throw sectionTooLong }
        if line.isEmpty { return .done(length: lineStart) }
        guard fields.count < fieldLimit else {
            throw HTTPError(.tooLarge, "more than \(fieldLimit) header fields", status: 431)
        }
        if fields.capacity == 0 { fields.reserveCapacity(12) }
        fields.append(try Self.field(line, of: bytes))
        return nil
    }

    private func checkPending(_ count: Int) throws(HTTPError) {
        if let fieldsStart {
            guard count - fieldsStart <= sectionLimit else { throw sectionTooLong }
        } else {
            guard count - lineStart <= startLineLimit + 1 else { throw startLineTooLong }
        }
    }

    private var startLineTooLong: HTTPError {
        HTTPError(.tooLarge, "the start line is longer than \(startLineLimit) bytes", status: 414)
    }
    private var sectionTooLong: HTTPError {
        HTTPError(.tooLarge, "the header fields take more than \(sectionLimit) bytes", status: 431)
    }

    /// `field-name ":" OWS field-value OWS`, nothing else.
    private static func field(_ line: Range<Int>, of bytes: Span<UInt8>) throws(HTTPError) -> HTTPHeaders.Field {
        guard !ASCII.isBlank(bytes[line.lowerBound]) else { throw .malformed("a header line is folded") }
        var colon = line.lowerBound
        while colon < line.upperBound, ASCII.isToken(bytes[colon]) { colon += 1 }
        guard colon < line.upperBound else { throw .malformed("a header line has no colon") }
        guard bytes[colon] == ASCII.colon, colon > line.lowerBound else {
            throw .malformed(
                ASCII.isBlank(bytes[colon]) ? "white space before the colon of a header" : "a header name is not valid")
        }
        var lower = colon + 1
        var upper = line.upperBound
        while lower < upper, ASCII.isBlank(bytes[lower]) { lower += 1 }
        while lower < upper, ASCII.isBlank(bytes[upper - 1]) { upper -= 1 }
        guard ASCII.isFieldValue(bytes, lower..<upper) else {
            throw .malformed("a header value has a control character")
        }
        return HTTPHeaders.Field(
            nameStart: UInt32(truncatingIfNeeded: line.lowerBound),
            nameCount: UInt32(truncatingIfNeeded: colon - line.lowerBound),
            valueStart: UInt32(truncatingIfNeeded: lower), valueCount: UInt32(truncatingIfNeeded: upper - lower))
    }

    /// The fields with the bytes they stand in, copied once.
    func headers(_ bytes: Span<UInt8>, length: Int) -> HTTPHeaders {
        guard !fields.isEmpty else { return HTTPHeaders() }
        let section = bytes.extracting(first: length)
        let copy = unsafe section.withUnsafeBufferPointer { unsafe [UInt8]($0) }
        return HTTPHeaders(bytes: copy, fields: fields)
    }
}
