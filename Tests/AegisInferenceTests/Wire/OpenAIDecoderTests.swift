import AegisJSON
import Testing

@testable import AegisInference

@Suite struct OpenAIDecoderTests {
    /// A turn with everything in it, as OpenAI and DeepSeek send it.
    static let stream =
        [
            #"{"id":"c","model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":"Let me"}}],"usage":null}"#,
            #"{"choices":[{"index":0,"delta":{"reasoning_content":" see"}}]}"#,
            #"{"choices":[{"index":0,"delta":{"content":"Héllo"}}]}"#,
            #"{"choices":[{"index":0,"delta":{"content":" 😀"}}]}"#,
            #"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_a","function":{"name":"file_read","arguments":""}}]}}]}"#,
            #"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"path\":"}}]}}]}"#,
            #"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_b","function":{"name":"now","arguments":""}}]}}]}"#,
            #"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"/ab\"}"}}]}}]}"#,
            #"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
            #"{"choices":[],"usage":{"prompt_tokens":30,"completion_tokens":12,"total_tokens":42,"prompt_tokens_details":{"cached_tokens":10},"completion_tokens_details":{"reasoning_tokens":5}}}"#,
        ].map { "data: \($0)\n\n" }.joined() + "data: [DONE]\n\n"

    private func decoder() -> OpenAIDecoder { OpenAIDecoder(turn: 3) }
    /// A stream of chunks with these deltas.
    private func outcome(_ deltas: [String], finish: String? = "stop", more: [String] = [], done: Bool = true)
        -> Outcome
    {
        var all = deltas.map { #"{"choices":[{"index":0,"delta":\#($0),"finish_reason":null}]}"# }
        if let finish { all.append(#"{"choices":[{"index":0,"delta":{},"finish_reason":"\#(finish)"}]}"#) }
        return read(decoder(), (all + more + (done ? ["[DONE]"] : [])).map { "data: \($0)\n\n" }.joined())
    }

    @Test func aTurnIsReadWhole() {
        let outcome = read(decoder(), Self.stream)
        #expect(
            outcome.reply
                == ModelReply(
                    blocks: [
                        .reasoning(text: "Let me see", signature: nil), .text("Héllo 😀"),
                        .toolUse(ToolUse(id: "call_a", name: "file_read", input: ["path": "/ab"])),
                        .toolUse(ToolUse(id: "call_b", name: "now", input: [:])),
                    ], stop: .toolUse, usage: TokenUsage(input: 20, output: 12, cacheRead: 10), model: "gpt-x"))
        #expect(
            outcome.deltas == [
                .reasoning("Let me"), .reasoning(" see"), .text("Héllo"), .text(" 😀"),
                .toolUse(id: "call_a", name: "file_read"), .toolInput(id: "call_a", fragment: #"{"path":"#),
                .toolUse(id: "call_b", name: "now"), .toolInput(id: "call_a", fragment: #""/ab"}"#),
            ])
    }

    @Test func itIsTheSameHoweverItIsCut() { expectSturdy({ OpenAIDecoder(turn: 3) }, Self.stream) }

    @Test func theEndMayBeMissingOnceTheReasonIsThere() {
        #expect(outcome([#"{"content":"a"}"#], done: false).reply?.blocks == [.text("a")])
        #expect(outcome([#"{"content":"a"}"#], finish: nil, done: false).error?.kind == .cutStream)
        #expect(outcome([#"{"content":"a"}"#], finish: nil).reply?.stop == .endTurn)
        #expect(outcome([], finish: nil, done: false).error?.kind == .cutStream)
    }

    @Test(arguments: [
        ("", true), (#"{"choices":[],"usage":null}"#, true),
        (
            #"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":5}}"#,
            false
        ),
        (#"{"choices":[],"usage":{"prompt_tokens":9.0,"completion_tokens":2}}"#, false),
    ])
    func whatTheServerDoesNotCountIsEstimated(_ last: String, _ isEstimated: Bool) throws {
        let usage = try #require(
            outcome([#"{"content":"12345678"}"#], more: last.isEmpty ? [] : [last]).reply?.usage)
        #expect(usage.isEstimated == isEstimated && usage.output == 2)
        #expect(usage.totalInput == (isEstimated ? 0 : 9))
    }

    @Test(arguments: [
        ("stop", StopReason.endTurn), ("length", .maxTokens), ("content_filter", .refusal), ("tool_calls", .toolUse),
        ("function_call", .toolUse), ("eos", .endTurn), ("brand_new", .other("brand_new")),
    ])
    func eachReasonHasItsName(_ word: String, _ reason: StopReason) {
        #expect(outcome([#"{"content":"a"}"#], finish: word).reply?.stop == reason)
    }

    @Test func callsCountMoreThanTheReasonThatIsGiven() {
        let call = #"{"tool_calls":[{"index":0,"id":"x","function":{"name":"f","arguments":"{}"}}]}"#
        #expect(outcome([call], finish: "stop").reply?.stop == .toolUse)
        #expect(outcome([call], finish: "length").reply?.stop == .maxTokens)
        #expect(outcome([call], finish: "insufficient_system_resource").error?.kind == .overloaded)
    }

    @Test func aRefusalIsTextAndAReason() {
        let reply = outcome([#"{"refusal":"I can"}"#, #"{"refusal":"not"}"#]).reply
        #expect(reply?.stop == .refusal && reply?.text == "I cannot")
    }

    @Test(arguments: [
        // The same number for each, no number, no id, an object for arguments, the same id twice.
        (
            [
                #"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#,
                #"{"index":0,"id":"b","function":{"name":"g","arguments":"{}"}}"#,
            ], ["a f {}", "b g {}"]
        ),
        (
            [
                #"{"id":"a","function":{"name":"f","arguments":"{\"x\""}}"#, #"{"function":{"arguments":":1}"}}"#,
                #"{"id":"b","function":{"name":"g","arguments":"{}"}}"#,
            ], [#"a f {"x":1}"#, "b g {}"]
        ),
        (
            [
                #"{"index":0,"function":{"name":"f","arguments":"{}"}}"#,
                #"{"index":1,"function":{"name":"f","arguments":"{}"}}"#,
            ], ["call_3_0 f {}", "call_3_1 f {}"]
        ),
        (
            [#"{"function":{"name":"f","arguments":{"x":1}}}"#, #"{"function":{"name":"f","arguments":{"x":2}}}"#],
            [#"call_3_0 f {"x":1}"#, #"call_3_1 f {"x":2}"#]
        ),
        (
            [#"{"index":0,"id":"a","function":{"name":"f"}}"#, #"{"index":1,"id":"a","function":{"name":"f"}}"#],
            ["a f {}", "a_1 f {}"]
        ),
        (
            [
                #"{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}"#,
                #"{"index":0,"id":"zz","function":{"arguments":"}"}}"#,
            ], ["a f {}"]
        ),
    ])
    func callsAreToldApart(_ pieces: [String], _ expected: [String]) {
        let reply = outcome(pieces.map { #"{"tool_calls":[\#($0)]}"# }, finish: "tool_calls").reply
        #expect(reply?.toolUses.map { "\($0.id) \($0.name) \(json($0.input))" } == expected)
    }

    @Test(arguments: [("{oops", "tool_calls", "{oops"), ("[1]", "stop", "[1]"), ("", "length", "")])
    func argumentsThatAreNoneAreNeverAnEmptyObject(_ said: String, _ finish: String, _ kept: String) {
        let call = #"{"tool_calls":[{"index":0,"id":"x","function":{"name":"f","arguments":"\#(said)"}}]}"#
        let use = outcome([call], finish: finish).reply?.toolUses.first
        #expect(use?.malformed == kept && use?.input == .null)
    }

    @Test(arguments: [
        #"{"message":{"role":"assistant","content":"a","reasoning":"hm","tool_calls":[{"id":"x","type":"function","function":{"name":"f","arguments":"{\"b\":1}"}}]},"finish_reason":"tool_calls"}"#,
        #"{"message":{"content":[{"type":"thinking"},{"type":"text","text":"a"}],"reasoning_content":"hm","reasoning":"hm","tool_calls":[{"id":"x","function":{"name":"f","arguments":{"b":1}}}]},"finish_reason":"stop"}"#,
    ])
    func anAnswerInOnePieceIsTheSame(_ choice: String) {
        let answer = #"{"model":"m","choices":[\#(choice)],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#
        let outcome = read(decoder(), answer, headers: [("content-type", "application/json")])
        #expect(
            outcome.reply
                == ModelReply(
                    blocks: [
                        .reasoning(text: "hm", signature: nil), .text("a"),
                        .toolUse(ToolUse(id: "x", name: "f", input: ["b": 1])),
                    ], stop: .toolUse, usage: TokenUsage(input: 3, output: 4), model: "m"))
    }

    @Test(arguments: [
        (#"{"error":{"message":"Overloaded","type":"server_error","code":null}}"#, ModelError.Kind.overloaded),
        (#"{"error":{"message":"slow down","code":429}}"#, .rateLimited),
        (#"{"error":"boom"}"#, .overloaded),
        (#"{"error":{"message":"This model's maximum context length is 10 tokens"}}"#, .contextTooLong),
    ])
    func anErrorInTheMiddleIsThatError(_ chunk: String, _ kind: ModelError.Kind) {
        #expect(outcome([#"{"content":"a"}"#], finish: nil, more: [chunk]).error?.kind == kind)
    }

    @Test(arguments: [
        (
            401, #"{"error":{"message":"Incorrect API key","type":"invalid_request_error","code":"invalid_api_key"}}"#,
            ModelError.Kind.auth, "Incorrect API key"
        ),
        (
            429, #"{"error":{"message":"quota","type":"insufficient_quota","code":"insufficient_quota"}}"#, .auth,
            "quota"
        ),
        (
            429, #"{"error":{"message":"slow","type":"tokens","code":"rate_limit_exceeded"}}"#,
            .rateLimited, "slow"
        ),
        (
            429, #"{"error":{"message":"too many tokens per minute"}}"#, .rateLimited,
            "too many tokens per minute"
        ),
        (400, #"{"error":{"message":"x","code":"context_length_exceeded"}}"#, .contextTooLong, "x"),
        (
            400, #"{"error":{"message":"x","code":"string_above_max_length","param":"messages[1].content"}}"#,
            .contextTooLong, "x"
        ),
        (
            400, #"{"error":{"message":"x","code":"string_above_max_length","param":"messages[1].tool_calls[0].id"}}"#,
            .invalidRequest, "x"
        ),
        (
            400, #"{"object":"error","message":"maximum context length is 8","type":"BadRequestError","code":400}"#,
            .contextTooLong, "maximum context length is 8"
        ),
        (404, #"{"error":{"message":"model 'x' not found","type":"api_error"}}"#, .notFound, "model 'x' not found"),
        (404, #"{"detail":"Not Found"}"#, .notFound, "Not Found"),
        (
            422, #"{"detail":[{"loc":["body","messages",0],"msg":"Field required"}]}"#, .invalidRequest,
            "body.messages.0: Field required"
        ),
        (400, #"[{"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT"}}]"#, .invalidRequest, "bad"),
        (503, #"{"error":{"message":"busy","type":"x"}}"#, .overloaded, "busy"),
        (502, "", .overloaded, "the server gives no reason"),
        (402, #"{"error":{"message":"Insufficient Balance"}}"#, .auth, "Insufficient Balance"),
        (
            500, "<html><head><TITLE>502 Bad\n Gateway</TITLE>", .overloaded,
            "the server answers with a web page: 502 Bad Gateway"
        ),
        (400, "plain\u{1B}[31m words\u{202E}", .invalidRequest, "plain [31m words"), (504, "x", .timeout, "x"),
        (408, "x", .timeout, "x"),
    ])
    func anErrorStatusIsWhatItsBodySays(_ status: Int, _ body: String, _ kind: ModelError.Kind, _ words: String) {
        let outcome = read(
            decoder(), body, status: status, headers: [("retry-after-ms", "1500"), ("retry-after", "9")])
        #expect(outcome.error == ModelError(kind, status: status, retryAfter: .milliseconds(1500), words))
    }

    @Test func anErrorsBodyIsReadOnlyAsFarAsItHelps() {
        let outcome = read(decoder(), String(repeating: "x", count: 1 << 20), status: 500)
        #expect(outcome.error?.kind == .overloaded && (outcome.error?.message.count ?? 0) < 600)
    }
}
