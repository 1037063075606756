/// Takes the bytes of one body out of a stream, by its framing, in place.
package struct HTTPBodyDecoder: Sendable {
    /// What lies at the cursor.
    package enum Piece: Equatable {
        /// More bytes are needed.
        case needMore
        /// Bytes of the body, as offsets into what was given.
        case data(Range<Int>)
        /// The body has ended.
        case end(HTTPHeaders)
    }

    private enum State: Sendable {
        case length(Int)
        case untilClose
        case chunkSize
        case chunkData(Int)
        case chunkEnd
        case trailers(HTTPSectionScanner)
        case done
    }

    private var state: State
    private let limits: HTTPLimits
    /// How far the search for the end of a size line has come.
    private var scanned = 0
    /// What size lines have taken beyond what their data excuses.
    private var overhead = 0

    /// A decoder at the start of a body.
    package init(_ framing: HTTPFraming, limits: HTTPLimits) {
        self.limits = limits
        state =
            switch framing {
            case .none: .done
            case .length(let count): count == 0 ? .done : .length(count)
            case .chunked: .chunkSize
            case .untilClose: .untilClose
            }
    }

    /// Whether an end of the stream ends this body.
    package var endsWithStream: Bool { if case .untilClose = state { true } else { false } }

    /// Looks at the bytes from a cursor on and moves it past what was used.
    ///
    /// - Throws: what breaks the framing.
    package mutating func next(
        _ bytes: Span<UInt8>, _ cursor: inout Int, atMost: Int = .max
    ) throws(HTTPError) -> Piece {
        while true {
            let rest = bytes.count - cursor
            switch state {
            case .done:
                return .end([:])
            case .untilClose:
                guard rest > 0 else { return .needMore }
                return .data(take(min(rest, atMost), &cursor))
            case .length(let count):
                guard rest > 0 else { return .needMore }
                let range = take(min(rest, count, atMost), &cursor)
                state = count == range.count ? .done : .length(count - range.count)
                return .data(range)
            case .chunkSize:
                guard let size = try sizeLine(bytes, &cursor) else { return .needMore }
                state = size == 0 ? .trailers(.trailers(limits)) : .chunkData(size)
            case .chunkData(let count):
                guard rest > 0 else { return .needMore }
                let range = take(min(rest, count, atMost), &cursor)
                state = count == range.count ? .chunkEnd : .chunkData(count - range.count)
                return .data(range)
            case .chunkEnd:
                guard rest == 0 || bytes[cursor] == ASCII.carriageReturn else { throw Self.badChunk }
                guard rest < 2 || bytes[cursor + 1] == ASCII.lineFeed else { throw Self.badChunk }
                guard rest >= 2 else { return .needMore }
                cursor += 2
                state = .chunkSize
            case .trailers(var scanner):
                let section = bytes.extracting(cursor...)
                let step = try scanner.scan(section)
                state = .trailers(scanner)
                guard case .done(let length) = step else { return .needMore }
                cursor += length
                state = .done
                return .end(try Self.checked(scanner.headers(section, length: length)))
            }
        }
    }

    private func take(_ count: Int, _ cursor: inout Int) -> Range<Int> {
        defer { cursor += count }
        return cursor..<(cursor + count)
    }

    private static var badChunk: HTTPError { .malformed("a chunk does not end with CR LF") }

    /// `1*HEXDIG [ BWS ";" ... ] CRLF`; nil while the line is not whole.
    private mutating func sizeLine(_ bytes: Span<UInt8>, _ cursor: inout Int) throws(HTTPError) -> Int? {
        var end = cursor + scanned
        while end < bytes.count, bytes[end] != ASCII.lineFeed { end += 1 }
        guard end - cursor <= limits.chunkLine + 1 else { throw HTTPError(.tooLarge, "a chunk size line is too long") }
        guard end < bytes.count else {
            scanned = end - cursor
            return nil
        }
        scanned = 0
        let line = bytes.extracting(cursor..<end)
        guard line.count > 1, line[line.count - 1] == ASCII.carriageReturn else {
            throw .malformed("a chunk size line ends without CR LF")
        }
        let size = try Self.size(line.extracting(first: line.count - 1))
        // As much again as the data is fine, and a size of its own; what goes beyond adds up.
        overhead = max(0, overhead + line.count + 1 - 16 - min(size, 1 << 30) * 2)
        guard overhead <= limits.chunkOverhead else { throw HTTPError(.tooLarge, "the chunk extensions are too long") }
        cursor = end + 1
        return size
    }

    private static func size(_ line: Span<UInt8>) throws(HTTPError) -> Int {
        var size = 0
        var index = 0
        while index < line.count, let digit = ASCII.hexValue(line[index]) {
            guard size <= Int.max >> 4 else { throw .malformed("a chunk size is too large") }
            size = size << 4 | Int(digit)
            index += 1
        }
        guard index > 0 else { throw .malformed("a chunk size is not a hexadecimal number") }
        guard index < line.count else { return size }
        while index < line.count, ASCII.isBlank(line[index]) { index += 1 }
        guard index < line.count, line[index] == 59 else {
            throw .malformed("a chunk size is not a hexadecimal number")
        }
        for at in index..<line.count where !ASCII.isFieldValue(line[at]) {
            throw .malformed("a chunk extension has a control character")
        }
        return size
    }

    /// Trailers that would change how the message is read are refused.
    private static func checked(_ trailers: HTTPHeaders) throws(HTTPError) -> HTTPHeaders {
        for name in ["content-length", "transfer-encoding", "host", "trailer"] where trailers.contains(name) {
            throw .malformed("the trailer section has a \(name) field")
        }
        return trailers
    }
}
