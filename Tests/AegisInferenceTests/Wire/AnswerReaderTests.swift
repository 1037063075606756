import Testing

@testable import AegisInference

@Suite struct AnswerReaderTests {
    private func outcome(_ body: String, status: Int = 200, _ headers: [(String, String)]) -> Outcome {
        read(OpenAIDecoder(turn: 0), body, status: status, headers: headers)
    }

    @Test(arguments: ["", "text/plain", "application/octet-stream", "application/x-ndjson"])
    func aStreamIsKnownByItsFirstWordsWhateverItIsCalled(_ type: String) {
        for stream in [
            OpenAIDecoderTests.stream, ": hello\n\n" + OpenAIDecoderTests.stream, "\n" + OpenAIDecoderTests.stream,
        ] {
            #expect(outcome(stream, [("content-type", type)]).reply?.stop == .toolUse)
        }
    }

    @Test(arguments: [
        (200, "", "<!doctype html>", "neither JSON"), (200, "", "hello", "neither JSON"),
        (200, "application/json", "{}", "no choice"),
        (200, "application/json", "{\"a\":1}}", "follows"),
    ])
    func whatIsNoAnswerSaysWhatItIs(_ status: Int, _ type: String, _ body: String, _ words: String) {
        let outcome = outcome(body, status: status, [("content-type", type), ("location", "http://evil\n/")])
        #expect(outcome.error?.kind == .badAnswer && outcome.error?.message.contains(words) == true, "\(outcome)")
        #expect(outcome.error?.message.contains("\n") == false)
    }

    /// What no model answers with is told by its head, costs nothing and is not asked again.
    @Test(arguments: [
        (200, "text/html", "base URL"), (302, "", "redirects"), (204, "", "status 204"),
    ])
    func anAddressThatIsNoModelsSaysWhatItIs(_ status: Int, _ type: String, _ words: String) {
        let outcome = outcome("", status: status, [("content-type", type), ("location", "http://evil\n/")])
        #expect(outcome.error?.kind == .notFound && outcome.error?.message.contains(words) == true, "\(outcome)")
        #expect(outcome.error?.message.contains("\n") == false)
    }

    @Test(arguments: ["", "{\"choices\":[", "   "])
    func anAnswerThatBreaksOffIsCut(_ body: String) {
        #expect(outcome(body, [("content-type", "application/json")]).error?.kind == .cutStream)
    }

    @Test(arguments: [
        (String(repeating: "x", count: 500), "too large"),
        (": \(String(repeating: "x", count: 500))\n", "more than 10000"),
        ("data: {}\n\n", "more than 10000"),
    ])
    func whatHasNoEndIsGivenUp(_ piece: String, _ words: String) {
        let reader = AnswerReader(OpenAIDecoder(turn: 0), maximum: 10_000, event: 1000)
        let error = #expect(throws: ModelError.self) {
            try reader.head(200, [("content-type", "text/event-stream")])
            for _ in 0..<10_000 { try reader.take(Array(piece.utf8)[...]) { _ in } }
        }
        #expect(error?.kind == .tooLarge && error?.message.contains(words) == true)
    }

    @Test(arguments: [
        ([("retry-after", "2")], Duration.seconds(2)), ([("retry-after", "0.25")], .milliseconds(250)),
        ([("retry-after-ms", "1234"), ("retry-after", "9")], .milliseconds(1234)),
        ([("retry-after", "1e300")], .seconds(86_400)),
        ([("retry-after", "-1")], nil), ([("retry-after", "soon")], nil), ([], nil),
        ([("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), ("date", "Sun, 06 Nov 1994 08:49:07 GMT")], .seconds(30)),
        ([("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), ("date", "Sun, 06 Nov 1994 08:50:07 GMT")], .zero),
        ([("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], nil),
    ])
    func theWaitThatIsAskedForIsUnderstood(_ headers: [(String, String)], _ wait: Duration?) {
        #expect(AnswerHeaders(headers).retryAfter == wait)
    }

    @Test(arguments: [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777 as Int64?), ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Tue, 29 Feb 2000 12:00:00 GMT", 951_825_600), ("Sat, 21 Nov 2026 03:00:00 GMT", 1_795_230_000),
        ("Sunday, 06-Nov-94 08:49:37 GMT", nil), ("06 Nov 1994", nil), ("Sun, 99 Nov 1994 08:49:37 GMT", nil),
    ])
    func aDateIsRead(_ text: String, _ seconds: Int64?) { #expect(HTTPDate.seconds(text) == seconds) }
}
