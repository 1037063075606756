import AegisWire
import Testing

/// Requests that two readers could understand differently, or that are broken: each is refused, and refused the
/// same way wherever the network cuts it.
@Suite struct HTTPSmugglingTests {
    private static func post(_ fields: String, _ body: String = "") -> String {
        "POST / HTTP/1.1¬Host: a¬\(fields)¬¬\(body)"
    }
    private static func chunks(_ body: String) -> String { post("Transfer-Encoding: chunked", body) }

    static let framing: [(String, Int)] = [
        (post("Content-Length: 6¬Transfer-Encoding: chunked", "0¬¬G"), 400),
        (post("Transfer-Encoding: chunked¬Content-Length: 6", "0¬¬G"), 400),
        (post("Content-Length: 0¬Transfer-Encoding: chunked", "0¬¬"), 400),
        (post("Content-Length: 5¬Content-Length: 6", "hello"), 400),
        (post("Content-Length: 5, 6", "hello"), 400),
        (post("Content-Length: 5,", "hello"), 400),
        (post("Content-Length: ", "hello"), 400),
        (post("Content-Length: +5", "hello"), 400),
        (post("Content-Length: -5", "hello"), 400),
        (post("Content-Length: 0x5", "hello"), 400),
        (post("Content-Length: 5 5", "hello"), 400),
        (post("Content-Length: 5;", "hello"), 400),
        (post("Content-Length: 5.0", "hello"), 400),
        (post("Content-Length: ٥", "hello"), 400),
        (post("Content-Length: 9223372036854775808"), 400),
        (post("Content-Length: 18446744073709551621", "hello"), 400),
        (post("Transfer-Encoding: gzip, chunked", "0¬¬"), 501),
        (post("Transfer-Encoding: xchunked", "0¬¬"), 400),
        (post("Transfer-Encoding: chunked, gzip", "0¬¬"), 400),
        (post("Transfer-Encoding: chunked, chunked", "0¬¬"), 400),
        (post("Transfer-Encoding: chunked¬Transfer-Encoding: chunked", "0¬¬"), 400),
        (post("Transfer-Encoding: chunked¬Transfer-Encoding: identity", "0¬¬"), 400),
        (post("Transfer-Encoding: identity¬Transfer-Encoding: chunked", "0¬¬"), 501),
        (post("Transfer-Encoding: identity", "0¬¬"), 400),
        (post("Transfer-Encoding:", "0¬¬"), 400),
        (post("Transfer-Encoding: ,", "0¬¬"), 400),
        (post("Transfer-Encoding: \"chunked\"", "0¬¬"), 400),
        (post("Transfer-Encoding: chunked;q=1", "0¬¬"), 400),
        (post("Transfer-Encoding: chunked\u{b}", "0¬¬"), 400),
        (post("Transfer-Encoding: \u{c}chunked", "0¬¬"), 400),
        (post("Transfer-Encoding : chunked", "0¬¬"), 400),
        (post("Transfer-Encoding\t: chunked", "0¬¬"), 400),
        (post("Transfer-Encoding¬ : chunked", "0¬¬"), 400),
        (post("X: y¬ Transfer-Encoding: chunked", "0¬¬"), 400),
        (post("X: y¬\tz", "0¬¬"), 400),
        (post("X: y\nTransfer-Encoding: chunked", "0¬¬"), 400),
        (post("X: y\rTransfer-Encoding: chunked", "0¬¬"), 400),
        ("POST / HTTP/1.0¬Transfer-Encoding: chunked¬¬0¬¬", 400),
    ]

    static let syntax: [(String, Int)] = [
        ("GET / HTTP/1.1¬¬", 400),
        ("GET / HTTP/1.1¬Host: a¬Host: a¬¬", 400),
        ("GET / HTTP/1.1¬Host: a¬Host: b¬¬", 400),
        ("GET / HTTP/1.0¬Host: a¬Host: b¬¬", 400),
        ("GET / HTTP/1.1¬Host: a b¬¬", 400),
        ("GET / HTTP/1.1¬Host: a, b¬¬", 400),
        ("GET / HTTP/1.1¬Host: a/b¬¬", 400),
        ("GET / HTTP/1.1¬Host: u@a¬¬", 400),
        ("GET / HTTP/1.1¬Host: a:b¬¬", 400),
        ("GET / HTTP/1.1¬Host: a:65536¬¬", 400),
        ("GET / HTTP/1.1¬Host: [::1¬¬", 400),
        ("GET / HTTP/1.1¬Host: [::1]x¬¬", 400),
        ("GET http://b/ HTTP/1.1¬¬", 400),
        ("GET http:/// HTTP/1.1¬Host: a¬¬", 400),
        ("GET http://u@b/ HTTP/1.1¬Host: a¬¬", 400),
        ("GET ftp://b/ HTTP/1.1¬Host: a¬¬", 400),
        ("GET * HTTP/1.1¬Host: a¬¬", 400),
        ("GET a HTTP/1.1¬Host: a¬¬", 400),
        ("CONNECT / HTTP/1.1¬Host: a¬¬", 400),
        ("CONNECT a HTTP/1.1¬Host: a¬¬", 400),
        ("CONNECT a: HTTP/1.1¬Host: a¬¬", 400),
        ("GET /#f HTTP/1.1¬Host: a¬¬", 400),
        ("GET /ü HTTP/1.1¬Host: a¬¬", 400),
        ("GET /\u{7f} HTTP/1.1¬Host: a¬¬", 400),
        ("GET /%zz HTTP/1.1¬Host: a¬¬", 400),
        ("GET /%4 HTTP/1.1¬Host: a¬¬", 400),
        ("GET /%00 HTTP/1.1¬Host: a¬¬", 400),
        ("GET /%ff HTTP/1.1¬Host: a¬¬", 400),
        ("GET /../x HTTP/1.1¬Host: a¬¬", 400),
        ("GET /%2e%2E/x HTTP/1.1¬Host: a¬¬", 400),
        ("GET /?a=%0 HTTP/1.1¬Host: a¬¬", 400),
        ("GET  / HTTP/1.1¬Host: a¬¬", 400),
        ("GET /  HTTP/1.1¬Host: a¬¬", 400),
        ("GET / HTTP/1.1 ¬Host: a¬¬", 400),
        (" GET / HTTP/1.1¬Host: a¬¬", 400),
        ("GET\t/ HTTP/1.1¬Host: a¬¬", 400),
        ("GET /¬Host: a¬¬", 400),
        ("GET¬¬", 400),
        ("G(T / HTTP/1.1¬Host: a¬¬", 400),
        ("GET / http/1.1¬Host: a¬¬", 400),
        ("GET / HTTP/11¬Host: a¬¬", 400),
        ("GET / HTTP/1.10¬Host: a¬¬", 400),
        ("GET / HTTP/2.0¬Host: a¬¬", 505),
        ("GET / HTTP/0.9¬Host: a¬¬", 505),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1¬Host: a\n¬", 400),
        ("GET / HTTP/1.1¬Host: a¬\n", 400),
        ("GET / HTTP/1.1\rHost: a¬¬", 400),
        ("GET / HTTP/1.1¬Host: a\r\r\n¬", 400),
        ("GET / HTTP/1.1¬Host: a¬X: \0¬¬", 400),
        ("GET / HTTP/1.1¬Host: a¬X: a\rb¬¬", 400),
        ("GET / HTTP/1.1¬Host: a¬X: \u{1}¬¬", 400),
        ("GET / HTTP/1.1¬Host: a¬X\0: b¬¬", 400),
        ("GET / HTTP/1.1¬Host: a¬X Y: b¬¬", 400),
        ("GET / HTTP/1.1¬Host: a¬: b¬¬", 400),
        ("GET / HTTP/1.1¬Host: a¬novalue¬¬", 400),
        ("GET / HTTP/1.1¬ Host: a¬¬", 400),
        ("GET / HTTP/1.1¬Host : a¬¬", 400),
        ("¬¬GET / HTTP/1.1¬Host: a¬¬", 400),
        ("\nGET / HTTP/1.1¬Host: a¬¬", 400),
        ("\u{16}\u{3}\u{1}", 400),
        ("\0", 400),
        ("GET / HTTP/1.1¬Host: a¬Expect: something¬Content-Length: 1¬¬x", 417),
    ]

    static let chunking: [(String, Int)] = [
        (chunks("x¬"), 400),
        (chunks("¬"), 400),
        (chunks("-1¬"), 400),
        (chunks("+1¬a"), 400),
        (chunks("0x1¬a¬0¬¬"), 400),
        (chunks(" 1¬a¬0¬¬"), 400),
        (chunks("1 ¬a¬0¬¬"), 400),
        (chunks("1,¬a¬0¬¬"), 400),
        (chunks("1\na¬0¬¬"), 400),
        (chunks("1;a\nb¬x¬0¬¬"), 400),
        (chunks("1;a\rb¬x¬0¬¬"), 400),
        (chunks("1;\0¬x¬0¬¬"), 400),
        (chunks("8000000000000000¬"), 400),
        (chunks("FFFFFFFFFFFFFFFF¬"), 400),
        (chunks("10000000000000001¬a"), 400),
        (chunks("1¬ab¬0¬¬"), 400),
        (chunks("1¬a\n0¬¬"), 400),
        (chunks("1¬a\r0¬¬"), 400),
        (chunks("2¬a¬0¬¬"), 400),
        (chunks("0¬ A: b¬¬"), 400),
        (chunks("0¬A b: c¬¬"), 400),
        (chunks("0¬A: b\n¬"), 400),
        (chunks("0¬Content-Length: 5¬¬"), 400),
        (chunks("0¬Transfer-Encoding: chunked¬¬"), 400),
        (chunks("0¬Host: b¬¬"), 400),
    ]

    @Test(arguments: framing + syntax + chunking)
    func isRefusedTheSameHoweverItIsSplit(_ text: String, _ status: Int) throws {
        let bytes = wire(text)
        let whole = requests([bytes])
        let error = try #require(whole.error, "accepted: \(whole)")
        #expect(error.status == status, "\(whole)")
        #expect(!whole.events.contains { $0.hasPrefix("end") })
        for pieces in splits(bytes) {
            let split = requests(pieces)
            #expect(split.error == error && split.events == whole.events, "\(split) in \(pieces.map(\.count))")
        }
    }

    @Test func aRefusedRequestNeverLetsTheNextOneThrough() {
        let smuggled = Self.post("Content-Length: 4¬Transfer-Encoding: chunked", "5c¬GET /admin HTTP/1.1¬Host: a¬¬")
        #expect(requests([wire(smuggled)]).events == [])
        let afterBadChunk = Self.chunks("z¬GET /admin HTTP/1.1¬Host: a¬¬")
        #expect(requests([wire(afterBadChunk)]).events.count == 1)
    }

    /// Random damage to good and bad requests: whatever is found, it is the same in one piece and in many.
    @Test(arguments: 1...8 as ClosedRange<UInt64>) func damagedRequestsAreReadTheSameHoweverTheyAreSplit(_ seed: UInt64)
    {
        var random = SplitMix(state: seed)
        let seeds = (HTTPRequestParserTests.valid.map(\.0) + (Self.framing + Self.syntax + Self.chunking).map(\.0)).map(
            wire)
        let special: [UInt8] = [0, 9, 10, 13, 32, 44, 48, 58, 59, 127, 255]
        for _ in 0..<120 {
            var bytes = seeds[Int.random(in: 0..<seeds.count, using: &random)]
            bytes += seeds[Int.random(in: 0..<seeds.count, using: &random)]
            for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes[place] = special[Int.random(in: 0..<special.count, using: &random)]
                case 2: bytes.insert(special[Int.random(in: 0..<special.count, using: &random)], at: place)
                default: bytes.remove(at: place)
                }
            }
            let whole = requests([bytes])
            let pieces = stride(from: 0, to: bytes.count, by: 3).map { Array(bytes[$0..<min($0 + 3, bytes.count)]) }
            #expect(requests(bytes.map { [$0] }) == whole, "\(bytes)")
            #expect(requests(pieces) == whole, "\(bytes)")
        }
    }
}

/// A small generator with a known seed, so that a failure comes back.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
