import AegisWire
import Testing

@Suite struct HTTPRequestParserTests {
    static let valid: [(String, [String])] = [
        ("GET / HTTP/1.1¬Host: a¬¬", ["GET / http11 none [Host=a]", "end"]),
        ("GET /x?y=z HTTP/1.1¬hOsT:a:80¬Accept: \t*/* \t¬¬", ["GET /x?y=z http11 none [hOsT=a:80|Accept=*/*]", "end"]),
        ("GET / HTTP/1.1¬Host:¬¬", ["GET / http11 none [Host=]", "end"]),
        ("GET / HTTP/1.1¬Host: [::1]:8080¬¬", ["GET / http11 none [Host=[::1]:8080]", "end"]),
        ("GET / HTTP/1.7¬Host: a¬¬", ["GET / http11 none [Host=a]", "end"]),
        ("GET / HTTP/1.0¬¬", ["GET / http10 none close", "end"]),
        (
            "GET / HTTP/1.0¬Connection: keep-alive¬¬",
            ["GET / http10 none [Connection=keep-alive]", "end"]
        ),
        (
            "GET / HTTP/1.1¬Host: a¬Connection: x, Close¬¬",
            ["GET / http11 none close [Host=a|Connection=x, Close]", "end"]
        ),
        ("¬GET / HTTP/1.1¬Host: a¬¬", ["GET / http11 none [Host=a]", "end"]),
        (
            "POST / HTTP/1.1¬Host: a¬Content-Length: 5¬¬hello",
            ["POST / http11 length(5) [Host=a|Content-Length=5]", "body hello", "end"]
        ),
        (
            "POST / HTTP/1.1¬Host: a¬Content-Length: 2, 2¬Content-Length: 02¬¬hi",
            ["POST / http11 length(2) [Host=a|Content-Length=2, 2|Content-Length=02]", "body hi", "end"]
        ),
        (
            "POST / HTTP/1.1¬Host: a¬Content-Length: 0¬¬",
            ["POST / http11 none [Host=a|Content-Length=0]", "end"]
        ),
        (
            "POST / HTTP/1.0¬Content-Length: 2¬¬hi",
            ["POST / http10 length(2) close [Content-Length=2]", "body hi", "end"]
        ),
        (
            "POST / HTTP/1.1¬Host: a¬Transfer-Encoding: Chunked¬¬5¬hello¬00a; x=\"y z\"¬0123456789¬0¬¬",
            [
                "POST / http11 chunked [Host=a|Transfer-Encoding=Chunked]", "body hello0123456789", "end",
            ]
        ),
        (
            "POST / HTTP/1.1¬Host: a¬Transfer-Encoding: chunked¬¬1 \t;a¬x¬0;last¬Sum: 1¬B: 2¬¬",
            [
                "POST / http11 chunked [Host=a|Transfer-Encoding=chunked]", "body x", "end [Sum=1|B=2]",
            ]
        ),
        (
            "PUT / HTTP/1.1¬Host: a¬Expect: 100-Continue¬Content-Length: 1¬¬z",
            [
                "PUT / http11 length(1) expects [Host=a|Expect=100-Continue|Content-Length=1]", "body z", "end",
            ]
        ),
        (
            "GET / HTTP/1.1¬Host: a¬Expect: 100-continue¬¬",
            ["GET / http11 none [Host=a|Expect=100-continue]", "end"]
        ),
        (
            "PUT / HTTP/1.0¬Expect: what¬Content-Length: 1¬¬z",
            ["PUT / http10 length(1) close [Expect=what|Content-Length=1]", "body z", "end"]
        ),
        (
            "GET / HTTP/1.1¬Host: a¬Connection: Upgrade¬Upgrade: aegis-stream/1¬¬",
            ["GET / http11 none upgrade [Host=a|Connection=Upgrade|Upgrade=aegis-stream/1]", "end"]
        ),
        (
            "GET http://b:1/p?q HTTP/1.1¬Host: a¬¬",
            ["GET http://b:1/p?q http11 none [Host=a]", "end"]
        ),
        ("OPTIONS * HTTP/1.1¬Host: a¬¬", ["OPTIONS * http11 none [Host=a]", "end"]),
        ("CONNECT a:443 HTTP/1.1¬Host: a¬¬", ["CONNECT a:443 http11 none [Host=a]", "end"]),
        (
            "GET /1 HTTP/1.1¬Host: a¬¬POST /2 HTTP/1.1¬Host: a¬Content-Length: 3¬¬abcGET /3 HTTP/1.1¬Host: a¬¬",
            [
                "GET /1 http11 none [Host=a]", "end", "POST /2 http11 length(3) [Host=a|Content-Length=3]", "body abc",
                "end", "GET /3 http11 none [Host=a]", "end",
            ]
        ),
    ]

    @Test(arguments: valid) func validRequestIsReadTheSameHoweverItIsSplit(_ text: String, _ events: [String]) {
        let bytes = wire(text)
        let whole = requests([bytes])
        #expect(whole == Transcript(events: events, error: nil))
        for pieces in splits(bytes) { #expect(requests(pieces) == whole, "\(pieces)") }
    }

    @Test func bytesThatHaveNotEndedARequestAreNotAnEnd() {
        var parser = HTTPRequestParser()
        var cursor = 0
        #expect(parser.isBetweenRequests)
        _ = try? parser.next(wire("¬").span, &cursor)
        #expect(parser.isBetweenRequests)
        cursor = 0
        _ = try? parser.next(wire("¬GET").span, &cursor)
        #expect(!parser.isBetweenRequests)
    }

    @Test func bodyIsAnnouncedInPortionsOfTheAskedSize() throws {
        var parser = HTTPRequestParser()
        let bytes = wire("POST / HTTP/1.1¬Host: a¬Content-Length: 10¬¬0123456789")
        var cursor = 0
        var sizes: [Int] = []
        reading: while true {
            switch try parser.next(bytes.span, &cursor, atMost: 4) {
            case .body(let range): sizes.append(range.count)
            case .end: break reading
            default: continue
            }
        }
        #expect(sizes == [4, 4, 2])
    }

    @Test func anErrorStays() {
        var parser = HTTPRequestParser()
        var cursor = 0
        let bad = wire("GET / HTTP/1.1¬¬")
        #expect(throws: HTTPError.self) { try parser.next(bad.span, &cursor) }
        let good = wire("GET / HTTP/1.1¬Host: a¬¬")
        cursor = 0
        #expect(throws: HTTPError.self) { try parser.next(good.span, &cursor) }
        #expect(!parser.isBetweenRequests)
    }

    @Test func limitsHoldAtTheirExactValues() {
        var limits = HTTPLimits()
        limits.startLine = 40
        limits.headerSection = 60
        limits.fields = 3
        func line(_ count: Int) -> String { "GET /" + String(repeating: "a", count: count - 14) + " HTTP/1.1" }
        #expect(requests([wire(line(40) + "¬Host: a¬¬")], limits: limits).error == nil)
        #expect(requests([wire(line(41) + "¬Host: a¬¬")], limits: limits).error?.status == 414)
        #expect(requests([wire(line(42))], limits: limits).error?.status == 414)
        #expect(requests([wire(line(41))], limits: limits).error == nil)  // its CR could be the last byte
        func fields(_ count: Int) -> String { "Host: a¬X: " + String(repeating: "x", count: count - 16) + "¬¬" }
        #expect(requests([wire("GET / HTTP/1.1¬" + fields(60))], limits: limits).error == nil)
        #expect(requests([wire("GET / HTTP/1.1¬" + fields(61))], limits: limits).error?.status == 431)
        #expect(
            requests([wire("GET / HTTP/1.1¬" + String(repeating: "x", count: 61))], limits: limits).error?.status == 431
        )
        #expect(requests([wire("GET / HTTP/1.1¬Host: a¬B: c¬D: e¬¬")], limits: limits).error == nil)
        #expect(requests([wire("GET / HTTP/1.1¬Host: a¬B: c¬D: e¬F: g¬¬")], limits: limits).error?.status == 431)
    }

    @Test func chunkExtensionsAndTrailersAreBounded() {
        var limits = HTTPLimits()
        limits.chunkLine = 20
        limits.chunkOverhead = 100
        limits.trailerSection = 30
        limits.trailerFields = 2
        let head = "POST / HTTP/1.1¬Host: a¬Transfer-Encoding: chunked¬¬"
        func status(_ body: String) -> Int? { requests([wire(head + body)], limits: limits).error?.status }
        #expect(status("1;" + String(repeating: "e", count: 18) + "¬x¬0¬¬") == nil)
        #expect(status("1;" + String(repeating: "e", count: 19) + "¬x¬0¬¬") == 413)
        #expect(status(String(repeating: "0", count: 30)) == 413)
        let padded = "1;eeeeeeeeeeeeeeeeee¬x¬"
        #expect(status(String(repeating: padded, count: 25) + "0¬¬") == nil)
        #expect(status(String(repeating: padded, count: 26) + "0¬¬") == 413)
        #expect(status("0¬A: b¬C: d¬¬") == nil)
        #expect(status("0¬A: b¬C: d¬E: f¬¬") == 431)
        #expect(status("0¬A: " + String(repeating: "b", count: 30) + "¬¬") == 431)
    }
}
