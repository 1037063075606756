import AegisJSON
import Testing

@testable import AegisInference

@Suite struct AnthropicDecoderTests {
    /// A turn with everything in it.
    static let stream = [
        #"{"type":"message_start","message":{"model":"claude-x","usage":{"input_tokens":25,"cache_creation_input_tokens":3,"cache_read_input_tokens":4,"output_tokens":1}}}"#,
        #"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        #"{"type":"ping"}"#,
        #"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Let me"}}"#,
        #"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":" see"}}"#,
        #"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB"}}"#,
        #"{"type":"content_block_stop","index":0}"#,
        #"{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"zzz"}}"#,
        #"{"type":"content_block_stop","index":1}"#,
        #"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}"#,
        #"{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"Héllo \ud83d\ude00"}}"#,
        #"{"type":"content_block_stop","index":2}"#,
        #"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_1","name":"file_read","input":{}}}"#,
        #"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":""}}"#,
        #"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"path\": \"/a"}}"#,
        #"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"b\"}"}}"#,
        #"{"type":"content_block_stop","index":3}"#,
        #"{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"toolu_2","name":"now","input":{}}}"#,
        #"{"type":"content_block_stop","index":4}"#, #"{"type":"something_new","x":[1]}"#,
        #"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":89}}"#,
        #"{"type":"message_stop"}"#,
    ].map { "data: \($0)\n\n" }.joined().replacing(
        "data: {\"type\":\"ping\"", with: "event: ping\ndata: {\"type\":\"ping\"")

    /// A stream of one block's events between the beginning and the end.
    private func outcome(_ events: [String], stop: String? = "end_turn") -> Outcome {
        var all =
            [#"{"type":"message_start","message":{"model":"m","usage":{"input_tokens":1,"output_tokens":1}}}"#] + events
        if let stop {
            all.append(#"{"type":"message_delta","delta":{"stop_reason":"\#(stop)"},"usage":{"output_tokens":2}}"#)
        }
        return read(AnthropicDecoder(), all.map { "data: \($0)\n\n" }.joined())
    }

    @Test func aTurnIsReadWhole() {
        let outcome = read(AnthropicDecoder(), Self.stream)
        #expect(
            outcome.reply
                == ModelReply(
                    blocks: [
                        .reasoning(text: "Let me see", signature: "EqQB"),
                        .reasoning(text: "", signature: "redacted_thinking:zzz"), .text("Héllo 😀"),
                        .toolUse(ToolUse(id: "toolu_1", name: "file_read", input: ["path": "/ab"])),
                        .toolUse(ToolUse(id: "toolu_2", name: "now", input: [:])),
                    ], stop: .toolUse, usage: TokenUsage(input: 25, output: 89, cacheRead: 4, cacheWrite: 3),
                    model: "claude-x"))
        #expect(
            outcome.deltas == [
                .reasoning("Let me"), .reasoning(" see"), .text("Héllo 😀"), .toolUse(id: "toolu_1", name: "file_read"),
                .toolInput(id: "toolu_1", fragment: #"{"path": "/a"#), .toolInput(id: "toolu_1", fragment: #"b"}"#),
                .toolUse(id: "toolu_2", name: "now"),
            ])
    }

    @Test func itIsTheSameHoweverItIsCut() { expectSturdy({ AnthropicDecoder() }, Self.stream) }

    @Test func whatItSaidGoesBackAsItWas() throws {
        let turn = try #require(read(AnthropicDecoder(), Self.stream).reply?.message)
        let sent = AnthropicRequest.body(ModelRequest(model: "m", messages: [turn], maxOutputTokens: 1))
        #expect(
            json(sent["messages"] ?? .null)
                == #"[{"role":"assistant","content":[{"type":"thinking","thinking":"Let me see","signature":"EqQB"},{"type":"redacted_thinking","data":"zzz"},"#
                + #"{"type":"text","text":"Héllo 😀"},{"type":"tool_use","id":"toolu_1","name":"file_read","input":{"path":"/ab"}},"#
                + #"{"type":"tool_use","id":"toolu_2","name":"now","input":{}}]}]"#)
    }

    @Test func anAnswerInOnePieceIsTheSame() {
        let answer =
            #"{"id":"msg","type":"message","role":"assistant","model":"claude-x","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":"a"},"#
            + #"{"type":"tool_use","id":"t","name":"f","input":{"b":1.50}}],"stop_reason":"tool_use","usage":{"input_tokens":3,"output_tokens":4,"cache_read_input_tokens":null}}"#
        for type in ["application/json", "application/json; charset=utf-8", "text/plain", ""] {
            let outcome = read(AnthropicDecoder(), answer, headers: [("content-type", type)])
            #expect(
                outcome.reply
                    == ModelReply(
                        blocks: [
                            .reasoning(text: "hm", signature: "s"), .text("a"),
                            .toolUse(ToolUse(id: "t", name: "f", input: ["b": .number("1.50")])),
                        ], stop: .toolUse, usage: TokenUsage(input: 3, output: 4), model: "claude-x"))
            #expect(outcome.deltas.last == .toolInput(id: "t", fragment: #"{"b":1.50}"#))
        }
    }

    @Test(arguments: [
        ("end_turn", StopReason.endTurn), ("max_tokens", .maxTokens), ("stop_sequence", .stopSequence),
        ("tool_use", .toolUse),
        ("refusal", .refusal), ("pause_turn", .other("pause_turn")), ("model_context_window_exceeded", .maxTokens),
    ])
    func eachReasonHasItsName(_ word: String, _ reason: StopReason) {
        let outcome = outcome([], stop: word)
        #expect(outcome.reply?.stop == reason && outcome.reply?.blocks == [])
    }

    @Test(arguments: [
        // Broken, cut in the middle, cut before a word of it, and no object.
        ([#"{\"a\":"#], true, #"{"a":"#), ([#"{\"a\""#], false, #"{"a""#), ([], false, ""), (["[1]"], true, "[1]"),
    ])
    func argumentsThatAreNoneAreNeverAnEmptyObject(_ pieces: [String], _ stops: Bool, _ kept: String) {
        var events = [
            #"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#
        ]
        events += pieces.map {
            #"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"\#($0)"}}"#
        }
        if stops { events.append(#"{"type":"content_block_stop","index":0}"#) }
        let use = outcome(events, stop: "max_tokens").reply?.toolUses.first
        #expect(use?.malformed == kept && use?.input == .null)
    }

    @Test(arguments: [
        ("overloaded_error", ModelError.Kind.overloaded), ("api_error", .overloaded),
        ("rate_limit_error", .rateLimited), ("invalid_request_error", .invalidRequest),
        ("authentication_error", .auth), ("brand_new_error", .overloaded),
    ])
    func anErrorInTheMiddleIsThatError(_ type: String, _ kind: ModelError.Kind) {
        let outcome = outcome([#"{"type":"error","error":{"type":"\#(type)","message":"Over\nloaded"}}"#])
        #expect(outcome.error == ModelError(kind, "Over loaded"))
    }

    @Test(arguments: [
        "data: {\n\n", "data: [1\n\n", "data: \u{0}\n\n",
        #"data: {"type":"content_block_delta","index":0,"delta":{}}"# + "\n\n",
        #"data: {"type":"content_block_start","index":0,"content_block":{"type":"tool_use","name":"f"}}"# + "\n\n",
        #"data: {"type":"content_block_start"}"# + "\n\n",
    ])
    func whatIsNotOfTheDialectIsABadAnswer(_ stream: String) {
        #expect(read(AnthropicDecoder(), stream).error?.kind == .badAnswer)
    }

    @Test func textThatIsNotUTF8IsABadAnswer() {
        let bytes = Array(#"data: {"type":"x","y":""#.utf8) + [0xFF, 0xFE] + Array("\"}\n\n".utf8)
        #expect(read(AnthropicDecoder(), [bytes[...]]).error?.kind == .badAnswer)
    }

    @Test func aSpendLimitIsNoReasonToWait() {
        let body =
            #"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"enforced_spend_limit_reached"}}}"#
        #expect(read(AnthropicDecoder(), body, status: 429).error == ModelError(.auth, status: 429, "m"))
    }

    @Test(arguments: [
        (401, "authentication_error", "invalid x-api-key", ModelError.Kind.auth),
        (403, "permission_error", "no", .auth),
        (402, "billing_error", "pay", .auth), (404, "not_found_error", "model: x", .notFound),
        (413, "request_too_large", "big", .contextTooLong),
        (429, "rate_limit_error", "slow", .rateLimited),
        (500, "api_error", "x", .overloaded), (504, "timeout_error", "x", .timeout),
        (529, "overloaded_error", "x", .overloaded),
        (400, "invalid_request_error", "max_tokens: must be 1", .invalidRequest),
        (400, "invalid_request_error", "Your credit balance is too low to access the API. Go to Billing.", .auth),
        (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", .contextTooLong),
        (418, "teapot_error", "x", .invalidRequest), (503, "odd_error", "x", .overloaded),
    ])
    func anErrorStatusIsWhatItsTypeSays(_ status: Int, _ type: String, _ message: String, _ kind: ModelError.Kind) {
        let body = #"{"type":"error","error":{"type":"\#(type)","message":"\#(message)"},"request_id":"r"}"#
        let outcome = read(
            AnthropicDecoder(), body, status: status,
            headers: [("content-type", "application/json"), ("retry-after", "7")])
        #expect(outcome.error == ModelError(kind, status: status, retryAfter: .seconds(7), message))
        #expect(
            outcome.error?.retryAfter == ([.rateLimited, .overloaded, .timeout].contains(kind) ? .seconds(7) : nil))
    }
}
