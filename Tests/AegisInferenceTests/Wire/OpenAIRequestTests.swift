import AegisJSON
import Testing

@testable import AegisInference

@Suite struct OpenAIRequestTests {
    private func body(_ request: ModelRequest, _ options: OpenAIOptions = OpenAIOptions()) -> String {
        json(OpenAIRequest.body(request, options))
    }
    private func messages(_ messages: [ModelMessage], _ options: OpenAIOptions = OpenAIOptions()) -> String {
        json(
            OpenAIRequest.body(ModelRequest(model: "m", messages: messages, maxOutputTokens: 1), options)["messages"]
                ?? .null)
    }

    @Test func aQuestionHasWhatWasAsked() {
        let request = ModelRequest(
            model: "m", system: "be short", messages: [.user("hi")],
            tools: [ModelTool(name: "f", description: "d", schema: ["type": "object"])], maxOutputTokens: 7,
            temperature: 0.5,
            stopSequences: ["END"])
        #expect(
            body(request)
                == #"{"model":"m","messages":[{"role":"system","content":"be short"},{"role":"user","content":"hi"}],"stream":true,"#
                + #""stream_options":{"include_usage":true},"max_tokens":7,"#
                + #""tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}],"#
                + #""temperature":0.5,"stop":["END"]}"#)
        #expect(
            body(
                ModelRequest(model: "m", messages: [], maxOutputTokens: 7),
                OpenAIOptions(limitField: .maxCompletionTokens, asksForUsage: false))
                == #"{"model":"m","messages":[],"stream":true,"max_completion_tokens":7}"#)
    }

    @Test(arguments: [
        ("api.openai.com", OpenAIOptions(limitField: .maxCompletionTokens, longestID: 40)),
        ("x.openai.azure.com", OpenAIOptions(limitField: .maxCompletionTokens, longestID: 40)),
        ("api.deepseek.com", OpenAIOptions(returnsReasoning: true)), ("localhost", OpenAIOptions()),
        ("evilopenai.com", OpenAIOptions()),
    ])
    func aServerIsKnownByItsHost(_ host: String, _ options: OpenAIOptions) {
        #expect(OpenAIOptions(host: host) == options)
    }

    @Test func resultsFollowTheirRequestsAndFailuresSaySo() {
        let conversation = [
            ModelMessage.user("go"),
            ModelMessage(
                .assistant,
                [
                    .reasoning(text: "hm", signature: nil), .toolUse(ToolUse(id: "a", name: "f", input: ["x": 1])),
                    .toolUse(ToolUse(id: "b", name: "g", arguments: "{oops")),
                ]),
            ModelMessage(.user, [.text("and"), .toolResult(ToolOutput(id: "b", text: "no such file", isError: true))]),
            ModelMessage(.user, [.toolResult(ToolOutput(id: "a", text: "1")), .text("more")]),
        ]
        let tail =
            #""tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},"#
            + #"{"id":"b","type":"function","function":{"name":"g","arguments":"{\"INVALID_JSON\":\"{oops\"}"}}]},"#
            + #"{"role":"tool","tool_call_id":"a","content":"1"},{"role":"tool","tool_call_id":"b","content":"Error: no such file"},"#
            + #"{"role":"user","content":"and\n\nmore"}]"#
        #expect(messages(conversation) == #"[{"role":"user","content":"go"},{"role":"assistant","content":"","# + tail)
    }

    @Test func reasoningGoesBackWithinItsTurnWhereItIsWanted() {
        let call = ModelMessage.Block.toolUse(ToolUse(id: "a", name: "f", input: [:]))
        let conversation = [
            ModelMessage.user("1"), ModelMessage(.assistant, [.reasoning(text: "old", signature: nil), .text("x")]),
            .user("2"),
            ModelMessage(
                .assistant, [.reasoning(text: "new", signature: nil), .reasoning(text: "signed", signature: "s"), call]),
            ModelMessage(.user, [.toolResult(ToolOutput(id: "a", text: "r"))]),
        ]
        let wanted = messages(conversation, OpenAIOptions(returnsReasoning: true))
        #expect(wanted.contains(#""reasoning_content":"new""#) && !wanted.contains("old") && !wanted.contains("signed"))
        #expect(!messages(conversation).contains("reasoning_content"))
    }

    /// OpenAI takes ids of at most 40 bytes; other servers' are longer, and go back to them as they came.
    @Test func idsAreCutWhereLongOnesAreRefused() {
        let ids = ["a", "b"].map { "chatcmpl-tool-\(String(repeating: "0", count: 32))\($0)" }
        let conversation = [
            ModelMessage(.assistant, ids.map { .toolUse(ToolUse(id: $0, name: "f", input: [:])) }),
            ModelMessage(.user, ids.map { .toolResult(ToolOutput(id: $0, text: "")) }),
        ]
        for (longest, expected) in [(nil, ids), (40, ["chatcmpl-tool-" + String(repeating: "0", count: 22)])] {
            let sent = OpenAIRequest.body(
                ModelRequest(model: "m", messages: conversation, maxOutputTokens: 1), OpenAIOptions(longestID: longest))
            let turns = sent["messages"]?.elements ?? []
            let asked = turns.first?["tool_calls"]?.elements?.compactMap { $0["id"]?.text } ?? []
            #expect(asked == turns.dropFirst().compactMap { $0["tool_call_id"]?.text } && Set(asked).count == 2)
            #expect(asked == (longest == nil ? expected : [expected[0], expected[0] + "-2"]))
        }
    }

    @Test(arguments: [
        ("mcp__fs__read-it_2", "mcp__fs__read-it_2"), ("mcp.fs.read", "mcp__fs__read"), ("", "unnamed"),
        (String(repeating: "x", count: 65), String(repeating: "x", count: 64)),
        ("é", "____"), (String(repeating: ".", count: 64), String(repeating: "_", count: 64)),
    ])
    func namesThatAreNoneBecomeSome(_ name: String, _ expected: String) {
        let use = ToolUse(id: "a", name: name, input: [:])
        #expect(use.sentName == expected)
        let conversation = [ModelMessage.user("x"), ModelMessage(.assistant, [.toolUse(use)])]
        #expect(messages(conversation).contains(#""name":"\#(expected)""#))
        let request = ModelRequest(model: "m", messages: conversation, maxOutputTokens: 1)
        #expect(json(AnthropicRequest.body(request)).contains(#""name":"\#(expected)""#))
    }

    @Test func emptyTurnsAreLeftOut() {
        let conversation = [
            ModelMessage.user("a"), ModelMessage(.assistant, [.reasoning(text: "x", signature: nil)]), .user(" "),
        ]
        #expect(messages(conversation) == #"[{"role":"user","content":"a"}]"#)
    }
}
