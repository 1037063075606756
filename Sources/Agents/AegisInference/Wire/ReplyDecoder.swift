internal import AegisJSON

/// Makes a reply from what a provider sends, piece by piece or whole. Pure: it reads nothing itself.
protocol ReplyDecoder {
    /// Everything that belongs to the reply has come.
    var isDone: Bool { get }
    /// Takes one event of a stream.
    ///
    /// - Parameters:
    ///   - name: the event's name; empty where the dialect has none.
    ///   - data: its data.
    ///   - emit: gets the pieces in it.
    /// - Throws: the provider's error, or `.badAnswer`.
    mutating func event(_ name: String, _ data: [UInt8], _ emit: (ModelDelta) -> Void) throws(ModelError)
    /// The stream has ended.
    ///
    /// - Returns: the reply.
    /// - Throws: `.cutStream` when it is not whole.
    mutating func finish() throws(ModelError) -> ModelReply
    /// Takes an answer that came in one piece; `emit` gets its parts.
    func whole(_ answer: JSONValue, _ emit: (ModelDelta) -> Void) throws(ModelError) -> ModelReply
    /// What an answer with an error status means.
    func failure(_ status: Int, _ headers: AnswerHeaders, _ body: [UInt8]) -> ModelError
}

/// What may be kept of one reply.
enum ReplyLimits {
    /// Bytes of a whole answer, streamed or not.
    static let bytes = 64 << 20
    /// Bytes of one event of a stream.
    static let event = 8 << 20
    /// Blocks of a reply.
    static let blocks = 4096
    /// Bytes of an error's body that are looked at.
    static let errorBody = 64 << 10
}

extension ModelError {
    /// What came is not of the dialect.
    static func bad(_ what: String) -> ModelError { ModelError(.badAnswer, "the answer cannot be read: \(what)") }
    /// What came is more than is kept of an answer.
    static func large(_ what: String) -> ModelError { ModelError(.tooLarge, "the answer is too long: \(what)") }
    /// The stream ended too early.
    static let cut = ModelError(.cutStream, "the stream ended before the answer was whole")

    /// Data of an event or a body as JSON.
    static func parse(_ data: some Collection<UInt8>) throws(ModelError) -> JSONValue {
        do throws(JSONError) { return try JSONValue(parsing: data) } catch { throw .bad("\(error)") }
    }
}

extension JSONValue {
    /// A count of something: whole, not negative, and no larger than what a sum of many can hold. Some servers write 12.0.
    var count: Int? {
        if let whole = integer { return Int(exactly: whole).map { Swift.max(0, Swift.min($0, 1 << 48)) } }
        return double.map { Int(Swift.max(0, Swift.min($0, 281_474_976_710_656))) }
    }
}

/// The header fields of an answer, by names in lower case.
struct AnswerHeaders: Sendable {
    private let fields: [(String, String)]

    init(_ fields: [(String, String)]) { self.fields = fields }

    /// The first field of that name, in lower case.
    subscript(_ name: String) -> String? { fields.first { $0.0 == name }?.1 }

    /// The media type without its parameters, in lower case; empty when there is none.
    var mediaType: String {
        let all = self["content-type"] ?? ""
        let type = all.prefix { $0 != ";" }.lowercased()
        return String(type.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }

    /// How long the server asks to wait: a day at most.
    var retryAfter: Duration? {
        if let milliseconds = self["retry-after-ms"].flatMap(Double.init), milliseconds.isFinite, milliseconds >= 0 {
            return .milliseconds(Int64(min(milliseconds, 86_400_000)))
        }
        guard let text = self["retry-after"] else { return nil }
        if let seconds = Double(text), seconds.isFinite, seconds >= 0 {
            return .milliseconds(Int64(min(seconds, 86_400) * 1000))
        }
        // A date counts from the server's own clock: ours may be another.
        guard let until = HTTPDate.seconds(text), let now = self["date"].flatMap(HTTPDate.seconds) else { return nil }
        return .seconds(max(0, min(until - now, 86_400)))
    }
}

/// Dates as HTTP writes them (RFC 9110, 5.6.7), the preferred form only: `Sun, 06 Nov 1994 08:49:37 GMT`.
enum HTTPDate {
    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

    /// Seconds since 1970.
    static func seconds(_ text: String) -> Int64? {
        let words = text.split(separator: " ")
        guard words.count == 6, words[5] == "GMT", let day = Int64(words[1]), (1...31).contains(day),
            let month = months.firstIndex(of: String(words[2])), let year = Int64(words[3]),
            (1970...9999).contains(year)
        else { return nil }
        let time = words[4].split(separator: ":").compactMap { Int64($0) }
        guard time.count == 3, (0..<24).contains(time[0]), (0..<60).contains(time[1]), (0...60).contains(time[2]) else {
            return nil
        }
        // Days since the first of March of the year 0, whose leap day comes last.
        let shifted = Int64(month + 10) % 12
        let march = year - (month < 2 ? 1 : 0)
        let days = 365 * march + march / 4 - march / 100 + march / 400 + (153 * shifted + 2) / 5 + day - 1 - 719_468
        return days * 86_400 + time[0] * 3600 + time[1] * 60 + time[2]
    }
}
