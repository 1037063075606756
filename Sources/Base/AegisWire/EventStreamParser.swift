/// One event of a stream of `text/event-stream`.
package struct StreamedEvent: Sendable, Equatable {
    /// Its name; empty when the server gave none.
    package var name: String
    /// Its data, lines joined by newlines; whether it is UTF-8 is for the reader of the data to find out.
    package var data: [UInt8]
    /// The last id that the server gave; empty when there was none.
    package var id: String

    /// Makes an event.
    package init(name: String = "", data: [UInt8], id: String = "") {
        self.name = name
        self.data = data
        self.id = id
    }
}

/// Why a stream of events cannot be read on.
package enum EventStreamError: Error, Sendable, Equatable {
    /// An event, or a line, has more bytes than are kept.
    case tooLarge(Int)
}

/// Takes a stream of server-sent events apart (the HTML standard, 9.2), whatever the pieces are in which it comes. Pure.
///
/// What it holds is bounded by one event.
package struct EventStreamParser: Sendable {
    private let maximum: Int
    private var line: [UInt8] = []
    private var data: [UInt8] = []
    private var hasData = false
    private var name = ""
    /// The last id that the server gave, also within an event that is not whole so far.
    private var given = ""
    /// That of the last event that is whole, which is where a reader may go on (HTML standard, 9.2.6: it is set when the event is
    /// dispatched); empty when there was none.
    package private(set) var id = ""
    /// How long the server wants a reader to wait before it asks for what follows, in milliseconds; nil when it said nothing of it.
    package private(set) var retry: Int?
    /// A line feed that comes now belongs to the carriage return before it.
    private var afterReturn = false
    private var isAtStart = true

    /// A parser at the start of a stream.
    ///
    /// - Parameter maximum: the most bytes of an event, and of a line.
    package init(maximum: Int = 4 << 20) { self.maximum = maximum }

    /// Takes the next bytes.
    ///
    /// - Parameters:
    ///   - bytes: as many or as few as there are.
    ///   - body: gets each event that has become whole.
    /// - Throws: `.tooLarge`; then the stream cannot be read on.
    package mutating func feed(
        _ bytes: ArraySlice<UInt8>, _ body: (StreamedEvent) throws -> Void
    ) throws {
        var rest = bytes
        if afterReturn, let first = rest.first {
            afterReturn = false
            if first == 10 { rest = rest.dropFirst() }
        }
        while let end = rest.firstIndex(where: { $0 == 10 || $0 == 13 }) {
            try keep(rest[..<end])
            let isReturn = rest[end] == 13
            rest = rest[(end + 1)...]
            if isReturn {
                if rest.first == 10 { rest = rest.dropFirst() } else { afterReturn = rest.isEmpty }
            }
            if let event = try endLine() { try body(event) }
        }
        try keep(rest)
    }

    /// The stream has ended.
    ///
    /// - Returns: the event that was not closed by an empty line, as far as it came: many servers end their last one so, and its
    ///   reader can tell by its data whether it is whole.
    package mutating func finish() -> StreamedEvent? {
        if !line.isEmpty { _ = try? endLine() }
        return takeEvent()
    }

    private mutating func keep(_ bytes: ArraySlice<UInt8>) throws {
        guard bytes.count <= maximum - line.count else { throw EventStreamError.tooLarge(maximum) }
        line.append(contentsOf: bytes)
    }

    private mutating func endLine() throws -> StreamedEvent? {
        defer { line.removeAll(keepingCapacity: true) }
        var text = line[...]
        if isAtStart {
            isAtStart = false
            if text.starts(with: [0xEF, 0xBB, 0xBF]) { text = text.dropFirst(3) }
        }
        if text.isEmpty {
            id = given
            return takeEvent()
        }
        let colon = text.firstIndex(of: 58) ?? text.endIndex
        var value = text[min(colon + 1, text.endIndex)...]
        if value.first == 32 { value = value.dropFirst() }
        let field = text[..<colon]
        if field.elementsEqual("data".utf8) {
            guard value.count < maximum - data.count else { throw EventStreamError.tooLarge(maximum) }
            if hasData { data.append(10) }
            data.append(contentsOf: value)
            hasData = true
        } else if field.elementsEqual("event".utf8) {
            name = String(decoding: value, as: UTF8.self)
        } else if field.elementsEqual("id".utf8), !value.contains(0) {
            given = String(decoding: value, as: UTF8.self)
        } else if field.elementsEqual("retry".utf8), (1...9).contains(value.count),
            value.allSatisfy({ (0x30...0x39).contains($0) })
        {
            retry = Int(String(decoding: value, as: UTF8.self))
        }
        // A comment (no name before the colon), or a field that nobody knows.
        return nil
    }

    private mutating func takeEvent() -> StreamedEvent? {
        defer {
            data = []
            hasData = false
            name = ""
        }
        return hasData ? StreamedEvent(name: name, data: data, id: given) : nil
    }
}
