import AegisTestSupport
import AegisWire
import Testing

@Suite struct EventStreamParserTests {
    /// Everything that comes out, the rest at the end included.
    private static func events(_ pieces: [ArraySlice<UInt8>], maximum: Int = 1 << 20) throws -> [StreamedEvent] {
        var parser = EventStreamParser(maximum: maximum)
        var found: [StreamedEvent] = []
        for piece in pieces { try parser.feed(piece) { found.append($0) } }
        if let last = parser.finish() { found.append(last) }
        return found
    }
    private static func events(_ text: String) throws -> [StreamedEvent] { try events([Array(text.utf8)[...]]) }

    @Test(arguments: [
        ("data: a\n\n", [StreamedEvent(data: [97])]), ("data:a\r\n\r\n", [StreamedEvent(data: [97])]),
        ("data:  a\r\r", [StreamedEvent(data: [32, 97])]),
        ("event: x\ndata: a\ndata: b\n\n", [StreamedEvent(name: "x", data: [97, 10, 98])]),
        ("data\n\n", [StreamedEvent(data: [])]), ("data:\ndata\n\n", [StreamedEvent(data: [10])]),
        (": comment\n\nevent: x\n\ndata: a\n\n", [StreamedEvent(data: [97])]),
        ("id: 7\ndata: a\n\ndata: b\n\n", [StreamedEvent(data: [97], id: "7"), StreamedEvent(data: [98], id: "7")]),
        ("id: a\u{0}b\ndata: a\n\n", [StreamedEvent(data: [97])]), ("\u{FEFF}data: a\n\n", [StreamedEvent(data: [97])]),
        ("retry: 5\nother: x\ndatax: y\ndata: a\n\n", [StreamedEvent(data: [97])]),
        // Not closed: the reader sees by the data whether it is whole.
        ("data: a", [StreamedEvent(data: [97])]), ("data: a\ndata", [StreamedEvent(data: [97, 10])]), ("", []),
    ])
    func aStreamIsItsEvents(_ text: String, _ expected: [StreamedEvent]) throws {
        #expect(try Self.events(text) == expected)
    }

    /// Where a stream can be gone on with is known also after events without data.
    @Test(arguments: [
        ("retry: 50\nid: 7\n\n", "7", 50), ("id: 7\ndata:\n\nretry: x\n", "7", nil), ("retry: -1\n", "", nil),
        ("retry: 1\nretry: 20\n", "", 20), ("retry: 12345678901234567890\n", "", nil), ("retry:\n", "", nil),
        // An event that was cut off has not come: whoever goes on wants it once more.
        ("id: 6\ndata: a\n\nid: 7\ndata: {", "6", nil), ("id: 1\n\nid: 12\n", "1", nil),
    ])
    func itsPlaceIsKnown(_ text: String, _ id: String, _ retry: Int?) throws {
        var parser = EventStreamParser()
        try parser.feed(Array(text.utf8)[...]) { _ in }
        _ = parser.finish()
        #expect(parser.id == id && parser.retry == retry)
    }

    @Test func whateverThePiecesTheEventsAreTheSame() throws {
        let text =
            "\u{FEFF}: hi\r\nevent: é\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\ndata: x\n\ndata: y\r\rid: 5\ndata: z\r\n\r\n"
        let bytes = Array(text.utf8)
        let whole = try Self.events([bytes[...]])
        #expect(whole.map { String(decoding: $0.data, as: UTF8.self) } == ["{\"a\":\n1}", "x", "y", "z"])
        for cut in 0...bytes.count {
            for other in cut...bytes.count {
                #expect(try Self.events([bytes[..<cut], bytes[cut..<other], bytes[other...]]) == whole)
            }
        }
        #expect(try Self.events(bytes.map { [$0] }) == whole)
    }

    @Test(arguments: [[UInt8](repeating: 97, count: 200), Array(String(repeating: "data: aaaa\n", count: 50).utf8)])
    func whatIsTooLargeIsNotKept(_ bytes: [UInt8]) {
        #expect(throws: EventStreamError.tooLarge(100)) { try Self.events([bytes[...]], maximum: 100) }
        #expect(throws: EventStreamError.tooLarge(100)) { try Self.events(bytes.map { [$0] }, maximum: 100) }
    }

    @Test func damageIsNoTrap() {
        var mutator = Mutator(seed: 7)
        let seed = Array("event: a\r\ndata: {\"x\":1}\r\n\r\nid: 4\ndata: b\n\n".utf8)
        for _ in 0..<2000 {
            _ = try? Self.events(mutator.pieces(of: mutator.mutate(seed)).map { $0[...] }, maximum: 40)
        }
    }
}
