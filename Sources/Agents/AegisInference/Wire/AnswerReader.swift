internal import AegisJSON
internal import AegisWire

/// Reads one answer of a provider: its status decides whether it is an error, its type and first bytes how it is read.
final class AnswerReader<Decoder: ReplyDecoder> {
    private enum Form { case unknown, stream, whole, error }

    private var decoder: Decoder
    private var parser: EventStreamParser
    private let maximum: Int
    private var form = Form.unknown
    private var status = 0
    private var headers = AnswerHeaders([])
    private var body: [UInt8] = []
    private var received = 0
    /// The reply is there: what follows need not be read.
    private(set) var isDone = false

    /// A reader at the start of an answer.
    ///
    /// - Parameters:
    ///   - decoder: knows the dialect.
    ///   - maximum: the most bytes of an answer.
    ///   - event: the most bytes of one event of it.
    init(_ decoder: Decoder, maximum: Int = ReplyLimits.bytes, event: Int = ReplyLimits.event) {
        self.decoder = decoder
        self.maximum = maximum
        parser = EventStreamParser(maximum: event)
    }

    /// Takes the head.
    ///
    /// - Throws: `.notFound` for what no model answers with: another address is needed, and asking again is of no use.
    func head(_ status: Int, _ fields: [(String, String)]) throws(ModelError) {
        self.status = status
        headers = AnswerHeaders(fields)
        if status >= 400 {
            form = .error
        } else if (300..<400).contains(status) {
            let place = headers["location"].map { " to \(Self.shown(Array($0.utf8)))" } ?? ""
            throw ModelError(
                .notFound, status: status,
                "the server redirects\(place); a key is not sent there: correct the base URL")
        } else if status != 200 && status != 201 && status != 202 {
            throw ModelError(.notFound, status: status, "the server answers with status \(status)")
        } else if headers.mediaType == "text/event-stream" {
            form = .stream
        } else if headers.mediaType == "text/html" {
            throw ModelError(
                .notFound, status: status, "the server answers with a web page: the base URL is not that of an API")
        }
    }

    /// Takes the next bytes of the body; `emit` gets the pieces of the reply in them.
    ///
    /// - Throws: what is wrong with them.
    func take(_ bytes: ArraySlice<UInt8>, _ emit: (ModelDelta) -> Void) throws(ModelError) {
        if isDone { return }
        received += bytes.count
        guard received <= maximum else { throw .large("it has more than \(maximum) bytes") }
        switch form {
        case .error:
            body.append(contentsOf: bytes.prefix(ReplyLimits.errorBody - body.count))
            isDone = body.count == ReplyLimits.errorBody
        case .whole: body.append(contentsOf: bytes)
        case .stream: try events(bytes, emit)
        case .unknown:
            body.append(contentsOf: bytes)
            try recognise(emit)
        }
    }

    /// The body has ended.
    ///
    /// - Returns: the reply.
    /// - Throws: why there is none.
    func finish(_ emit: (ModelDelta) -> Void) throws(ModelError) -> ModelReply {
        switch form {
        case .error, .unknown, .whole: return try decoder.whole(try value(), emit)
        case .stream:
            // A piece that is not whole says nothing: the stream was cut, and the decoder knows what is missing.
            if !isDone, let last = parser.finish(),
                last.data.elementsEqual("[DONE]".utf8) || (try? JSONValue(parsing: last.data)) != nil
            {
                try decoder.event(last.name, last.data, emit)
            }
            return try decoder.finish()
        }
    }

    /// The body has ended, and was one JSON value.
    ///
    /// - Throws: why it was not.
    func value() throws(ModelError) -> JSONValue {
        switch form {
        case .error: throw decoder.failure(status, headers, body)
        case .unknown: throw .cut
        case .stream: throw .bad("it is a stream of events")
        case .whole: break
        }
        do throws(JSONError) { return try JSONValue(parsing: body) } catch {
            // An answer that breaks off in the middle was cut, whatever its framing said.
            throw error.offset >= body.count ? .cut : .bad("\(error)")
        }
    }

    private func events(_ bytes: ArraySlice<UInt8>, _ emit: (ModelDelta) -> Void) throws(ModelError) {
        do {
            try parser.feed(bytes) { event in
                // Some servers go on talking after the end.
                if decoder.isDone { return }
                try decoder.event(event.name, event.data, emit)
            }
        } catch let error as ModelError {
            throw error
        } catch {
            throw .large("an event of it is too large")
        }
        isDone = decoder.isDone
    }

    /// A type that says nothing, or the wrong thing: JSON begins with a brace, a stream with a field or a comment.
    private func recognise(_ emit: (ModelDelta) -> Void) throws(ModelError) {
        guard let first = body.first(where: { ![9, 10, 13, 32, 0xEF, 0xBB, 0xBF].contains($0) }) else { return }
        switch first {
        case UInt8(ascii: "{"): form = .whole
        case UInt8(ascii: "d"), UInt8(ascii: "e"), UInt8(ascii: "i"), UInt8(ascii: "r"), UInt8(ascii: ":"):
            form = .stream
            let bytes = body
            body = []
            try events(bytes[...], emit)
        default:
            throw .bad("it is neither JSON nor a stream of events: \(Self.shown(body))")
        }
    }

    /// The beginning of what a server said, for people.
    static func shown(_ bytes: some Collection<UInt8>) -> String {
        let text = String(decoding: bytes.prefix(200), as: UTF8.self)
        return "'" + String(text.map { $0.isNewline || $0.asciiValue.map { $0 < 32 || $0 == 127 } ?? false ? " " : $0 })
            + "'"
    }
}
