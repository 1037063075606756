import AegisJSON
import Testing

@testable import AegisInference

@Suite struct AnthropicRequestTests {
    private func body(_ request: ModelRequest) -> String { json(AnthropicRequest.body(request)) }
    private func messages(_ messages: [ModelMessage]) -> String {
        json(
            AnthropicRequest.body(ModelRequest(model: "m", messages: messages, maxOutputTokens: 1))["messages"] ?? .null
        )
    }

    @Test func aQuestionHasWhatWasAsked() {
        let request = ModelRequest(
            model: "m", system: "be short", messages: [.user("hi")],
            tools: [
                ModelTool(name: "f", description: "d", schema: ["type": "object"]),
                ModelTool(name: "g", description: "", schema: ["type": "object"]),
            ], maxOutputTokens: 7, temperature: 0.5, stopSequences: ["END", " "])
        #expect(
            body(request)
                == #"{"model":"m","max_tokens":7,"stream":true,"system":[{"type":"text","text":"be short","cache_control":{"type":"ephemeral"}}],"#
                + #""tools":[{"name":"f","description":"d","input_schema":{"type":"object"}},{"name":"g","input_schema":{"type":"object"}}],"#
                + #""messages":[{"role":"user","content":[{"type":"text","text":"hi","cache_control":{"type":"ephemeral"}}]}],"#
                + #""temperature":0.5,"stop_sequences":["END"]}"#)
    }

    @Test func withoutSystemTheMarkIsAtTheLastTool() {
        let request = ModelRequest(
            model: "m", messages: [], tools: [ModelTool(name: "f", description: "", schema: [:])], maxOutputTokens: 0)
        #expect(
            body(request)
                == #"{"model":"m","max_tokens":1,"stream":true,"tools":[{"name":"f","input_schema":{},"cache_control":{"type":"ephemeral"}}],"messages":[]}"#
        )
    }

    @Test func allResultsOfATurnAreOneMessageInTheOrderOfTheRequests() {
        let conversation = [
            ModelMessage.user("go"),
            ModelMessage(
                .assistant,
                [
                    .text("ok"), .toolUse(ToolUse(id: "a", name: "f", input: ["x": 1])),
                    .toolUse(ToolUse(id: "b", name: "g", input: [:])),
                    .toolUse(ToolUse(id: "c", name: "g", input: [:])),
                ]),
            ModelMessage(.user, [.toolResult(ToolOutput(id: "c", text: "3"))]),
            ModelMessage(.user, [.text("and"), .toolResult(ToolOutput(id: "a", text: "1"))]),
            ModelMessage(.user, [.toolResult(ToolOutput(id: "b", text: "2", isError: true))]),
        ]
        #expect(
            messages(conversation)
                == #"[{"role":"user","content":[{"type":"text","text":"go"}]},"#
                + #"{"role":"assistant","content":[{"type":"text","text":"ok"},{"type":"tool_use","id":"a","name":"f","input":{"x":1}},"#
                + #"{"type":"tool_use","id":"b","name":"g","input":{}},{"type":"tool_use","id":"c","name":"g","input":{}}]},"#
                + #"{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"1"},"#
                + #"{"type":"tool_result","tool_use_id":"b","content":"2","is_error":true},{"type":"tool_result","tool_use_id":"c","content":"3"},"#
                + #"{"type":"text","text":"and"}]}]"#)
    }

    @Test func reasoningGoesBackOnlyWithItsSignature() {
        let turn = ModelMessage(
            .assistant,
            [
                .reasoning(text: "hm", signature: "s1"), .reasoning(text: "other's", signature: nil),
                .reasoning(text: "", signature: "redacted_thinking:xyz"), .text("a"),
            ])
        #expect(
            messages([turn])
                == #"[{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s1"},"#
                + #"{"type":"redacted_thinking","data":"xyz"},{"type":"text","text":"a"}]}]"#)
    }

    @Test func argumentsThatWereNoJSONGoBackAsWhatTheyWere() {
        let turn = ModelMessage(.assistant, [.toolUse(ToolUse(id: "1", name: "f", arguments: #"{"a":"#))])
        #expect(messages([turn]).contains(#""input":{"INVALID_JSON":"{\"a\":"}"#))
    }

    @Test func emptyTurnsAreLeftOutAndTheirNeighboursAreOne() {
        let conversation = [
            ModelMessage.user("a"), ModelMessage(.assistant, []), ModelMessage.user("b"), .assistant(" \n"), .user("c"),
            ModelMessage(.assistant, [.reasoning(text: "x", signature: nil)]), .user(""),
        ]
        #expect(
            messages(conversation)
                == #"[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"},{"type":"text","text":"c"}]}]"#
        )
    }

    @Test func idsOfAnotherProviderBecomeOnesThatAreTakenAndStayPairs() {
        let long = String(repeating: "x", count: 100)
        let uses = ["a b", "a/b", "a_b", "", long].map {
            ModelMessage.Block.toolUse(ToolUse(id: $0, name: "f", input: [:]))
        }
        let results = ["a b", "a/b", "a_b", "", long].map {
            ModelMessage.Block.toolResult(ToolOutput(id: $0, text: ""))
        }
        let sent = AnthropicRequest.body(
            ModelRequest(
                model: "m", messages: [ModelMessage(.assistant, uses), ModelMessage(.user, results)], maxOutputTokens: 1
            ))
        let turns = sent["messages"]?.elements ?? []
        let asked = turns.first?["content"]?.elements?.compactMap { $0["id"]?.text } ?? []
        let answered = turns.last?["content"]?.elements?.compactMap { $0["tool_use_id"]?.text } ?? []
        #expect(asked == answered && Set(asked).count == 5)
        #expect(asked == ["a_b", "a_b-2", "a_b-3", "call", String(repeating: "x", count: 60)])
    }
}
