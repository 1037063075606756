import AegisWire
import Testing

@Suite struct HTTPResponseParserTests {
    static let bodies: [(String, HTTPMethod, [String])] = [
        (
            "HTTP/1.1 200 OK¬Content-Length: 2¬¬ok", .get,
            ["200 OK http11 length(2) [Content-Length=2]", "body ok", "end"]
        ),
        ("HTTP/1.1 200 OK¬Content-Length: 2¬¬", .head, ["200 OK http11 none [Content-Length=2]", "end"]),
        (
            "HTTP/1.1 200 OK¬Transfer-Encoding: chunked¬¬", .head,
            ["200 OK http11 none [Transfer-Encoding=chunked]", "end"]
        ),
        (
            "HTTP/1.1 204 No Content¬Content-Length: 9¬¬", .get,
            ["204 No Content http11 none [Content-Length=9]", "end"]
        ),
        ("HTTP/1.1 304 ¬Content-Length: 9¬¬", .get, ["304  http11 none [Content-Length=9]", "end"]),
        ("HTTP/1.1 200¬Content-Length: 0¬¬", .get, ["200  http11 none [Content-Length=0]", "end"]),
        (
            "HTTP/1.1 100 Continue¬¬HTTP/1.1 103 Hints¬Link: x¬¬HTTP/1.1 201 Created¬Content-Length: 1¬¬z", .put,
            [
                "100 Continue http11 none", "103 Hints http11 none [Link=x]",
                "201 Created http11 length(1) [Content-Length=1]", "body z", "end",
            ]
        ),
        (
            "HTTP/1.1 200 OK¬Transfer-Encoding: chunked¬¬3¬abc¬0¬T: u¬¬", .get,
            ["200 OK http11 chunked [Transfer-Encoding=chunked]", "body abc", "end [T=u]"]
        ),
        (
            "HTTP/1.1 101 Switching Protocols¬Upgrade: aegis-stream/1¬¬", .post,
            ["101 Switching Protocols http11 none upgraded [Upgrade=aegis-stream/1]"]
        ),
    ]

    @Test(arguments: bodies)
    func bodyFollowsTheRulesHoweverItIsSplit(_ text: String, _ method: HTTPMethod, _ events: [String]) {
        let whole = responses([wire(text)], to: [method])
        #expect(whole == Transcript(events: events, error: nil))
        for pieces in splits(wire(text)) { #expect(responses(pieces, to: [method]) == whole, "\(pieces)") }
    }

    @Test func withoutLengthTheBodyEndsWithTheStream() {
        let text = "HTTP/1.0 200 OK¬¬all of it"
        #expect(
            responses([wire(text)], closes: true).events
                == ["200 OK http10 untilClose close", "body all of it", "closed"])
        let cut = "HTTP/1.1 200 OK¬Content-Length: 9¬¬half"
        #expect(responses([wire(cut)], closes: true).events.last == "cut")
    }

    @Test func responsesToPipelinedRequestsKeepTheirOrder() {
        let text = "HTTP/1.1 200 A¬Content-Length: 5¬¬HTTP/1.1 200 B¬Content-Length: 1¬¬x"
        let found = responses([wire(text)], to: [.head, .get]).events
        #expect(
            found == [
                "200 A http11 none [Content-Length=5]", "end", "200 B http11 length(1) [Content-Length=1]", "body x",
                "end",
            ])
    }

    static let refused: [String] = [
        "HTTP/1.1 200 OK¬Content-Length: 1¬Transfer-Encoding: chunked¬¬",
        "HTTP/1.1 200 OK¬Content-Length: 1¬Content-Length: 2¬¬",
        "HTTP/1.1 200 OK¬Transfer-Encoding: gzip¬¬",
        "HTTP/1.1 200 OK¬Transfer-Encoding: gzip, chunked¬¬",
        "HTTP/1.0 200 OK¬Transfer-Encoding: chunked¬¬",
        "HTTP/1.1 20 OK¬¬", "HTTP/1.1 2000 OK¬¬", "HTTP/1.1 099 OK¬¬", "HTTP/1.1 600 OK¬¬", "HTTP/2.0 200 OK¬¬",
        "HTTP/1.1  200 OK¬¬", "http/1.1 200 OK¬¬", "HTTP/1.1 200 O\0K¬¬", "ICY 200 OK¬¬", "¬HTTP/1.1 200 OK¬¬",
        "HTTP/1.1 200 OK¬A: b¬ c¬¬", "HTTP/1.1 200 OK\nA: b\n\n",
        "HTTP/1.1 200 OK¬Content-Length: 1¬¬xy",
    ]

    @Test(arguments: refused) func brokenResponseIsRefused(_ text: String) {
        #expect(responses([wire(text)]).error != nil)
        #expect(responses(wire(text).map { [$0] }).error == responses([wire(text)]).error)
    }

    @Test func endlessInterimResponsesAreRefused() {
        let text = String(repeating: "HTTP/1.1 100 Continue¬¬", count: 17)
        #expect(responses([wire(text)]).error?.message.contains("interim") == true)
    }
}
