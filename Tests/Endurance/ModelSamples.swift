import AegisAgents
import AegisJSON
import AegisTestSupport

@testable import AegisInference

/// Steps of sessions with answers of models in them.
enum ToolUseText {
    static func use(_ id: String, _ name: String) -> ToolUse {
        ToolUse(id: id, name: name, input: ["message": .string(id)])
    }
    static func replied(_ uses: [ToolUse]) -> SessionStep {
        .replied(
            [.reasoning(text: "hm", signature: "s"), .text("so")] + uses.map { .toolUse($0) },
            uses.isEmpty ? .endTurn : .toolUse, TokenUsage(input: 3, output: 4))
    }
    static func outcome(_ id: String) -> SessionStep { .outcome(ToolOutput(id: id, text: "done", isError: false)) }

    /// The calls and the answers in a message, by their ids.
    static func pairs(_ message: ModelMessage) -> (uses: [String], results: [String]) {
        (
            message.blocks.compactMap { if case .toolUse(let use) = $0 { use.id } else { nil } },
            message.blocks.compactMap { if case .toolResult(let output) = $0 { output.id } else { nil } }
        )
    }
}

/// Answers of providers: streams that are cut, mixed and too large.
extension FuzzTests {
    static let messages: [[UInt8]] = [
        """
        event: message_start
        data: {"type":"message_start","message":{"id":"m","role":"assistant","model":"m-1","content":[],"usage":{"input_tokens":7,"output_tokens":1}}}

        event: content_block_start
        data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}

        event: content_block_delta
        data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}

        event: content_block_delta
        data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"sig"}}

        event: content_block_stop
        data: {"type":"content_block_stop","index":0}

        """,
        """
        event: content_block_start
        data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_1","name":"echo","input":{}}}

        event: ping
        data: {"type": "ping"}

        event: content_block_delta
        data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\\"message\\": \\"hi"}}

        event: content_block_delta
        data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"\\"}"}}

        event: content_block_stop
        data: {"type":"content_block_stop","index":1}

        event: message_delta
        data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":99999999999999999999}}

        event: message_stop
        data: {"type":"message_stop"}

        """,
        """
        {"id":"m","type":"message","role":"assistant","model":"m","stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":2},
        "content":[{"type":"text","text":"whole"},{"type":"tool_use","id":"t","name":"n","input":{"a":[1,2]}},{"type":"redacted_thinking","data":"x"}]}
        """,
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n",
        "event: x\ndata: \(String(repeating: "long ", count: 1000))\n\n",
    ].map { Array($0.utf8) }.joinedOnce

    static let completions: [[UInt8]] = [
        """
        data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

        data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"reasoning_content":"hm"},"finish_reason":null}]}

        data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"so"},"finish_reason":null}]}

        : keep-alive

        """,
        """
        data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"echo","arguments":""}}]}}]}

        data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"message\\":"}},{"index":1,"id":"call_2","function":{"name":"grep","arguments":"{}"}}]}}]}

        data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\\"x\\"}"}}]}}]}

        data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}

        data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}}}

        data: [DONE]

        """,
        """
        {"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":[{"type":"text","text":"whole"}],"tool_calls":[{"id":"a","function":{"name":"n","arguments":{"b":1}}}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":1.0,"completion_tokens":-3}}
        """,
        "data: {\"error\":{\"message\":\"busy\",\"code\":\"overloaded\"}}\n\n",
        "data: \(String(repeating: "long ", count: 1000))\n\n",
    ].map { Array($0.utf8) }.joinedOnce
}

extension [[UInt8]] {
    /// These, and the first two in one, which is what a whole answer is.
    fileprivate var joinedOnce: [[UInt8]] { [prefix(2).flatMap(\.self)] + self }
}

extension Transcript {
    static func messages(_ pieces: [[UInt8]]) -> (Transcript, ModelReply?) { reply(pieces, AnthropicDecoder()) }
    static func completions(_ pieces: [[UInt8]]) -> (Transcript, ModelReply?) { reply(pieces, OpenAIDecoder(turn: 3)) }

    private static func reply(_ pieces: [[UInt8]], _ decoder: some ReplyDecoder) -> (Transcript, ModelReply?) {
        var transcript = Transcript()
        var reply: ModelReply?
        // Without a type: it is told by its first bytes.
        let reader = AnswerReader(decoder, maximum: 1 << 20, event: 4000)
        do throws(ModelError) {
            try reader.head(200, [])
            for piece in pieces { try reader.take(piece[...]) { transcript.say("\($0)") } }
            let whole = try reader.finish { transcript.say("\($0)") }
            transcript.say("\(whole)")
            reply = whole
        } catch {
            // How much was there when nonsense was recognised depends on the cut.
            transcript.fail(saying: "\(error.kind)")
        }
        return (transcript, reply)
    }
}

extension FuzzTarget {
    /// Answers of a provider: however they are cut they say the same, and what they say can be gone on with.
    static func reply(
        _ name: String, _ samples: [[UInt8]],
        _ read: @escaping @Sendable ([[UInt8]]) -> (Transcript, ModelReply?)
    ) -> FuzzTarget {
        FuzzTarget(name: name, samples: samples) { input, mutator in
            let (whole, reply) = read([input])
            let (cut, _) = read(mutator.pieces(of: input))
            if whole != cut { return "in one piece: \(whole)\nin several: \(cut)" }
            guard let reply else { return nil }
            return problem(in: reply)
        } accepts: {
            read([$0]).1 != nil
        }
    }

    private static func problem(in reply: ModelReply) -> String? {
        let usage = reply.usage
        if usage.total < 0 || usage.input < 0 || usage.output < 0 { return "it has used \(usage)" }
        var session = Session([.began(trace: "t", text: "go", from: nil), .replied(reply.blocks, reply.stop, usage)])
        if case .call(let uses) = session.next(TurnLimits()) {
            for use in uses { session.apply(.outcome(ToolOutput(id: use.id, text: "x", isError: false))) }
            if case .call = session.next(TurnLimits()) { return "calls stay open: \(uses)" }
        }
        session.apply(.ended(.complete, nil))
        for message in session.messages {
            for case .toolUse(let use) in message.blocks where use.name.isEmpty || use.id.isEmpty {
                return "a tool is asked for without name or id"
            }
        }
        return nil
    }
}
