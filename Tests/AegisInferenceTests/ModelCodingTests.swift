import AegisCore
import AegisJSON
import Testing

@testable import AegisInference

@Suite struct ModelCodingTests {
    private func text(_ value: some Encodable) throws -> String {
        String(decoding: try JSONValue(encoding: value).compact, as: UTF8.self)
    }
    private func read<T: Decodable>(_ text: String, as type: T.Type = T.self) throws -> T {
        try JSONValue(parsing: text.utf8, duplicates: .refuse).decode(T.self)
    }

    @Test(arguments: [
        (ModelMessage.user("hi"), #"{"role":"user","blocks":[{"type":"text","text":"hi"}]}"#),
        (
            ModelMessage(
                .assistant,
                [.reasoning(text: "hm", signature: "s", provider: "p"), .reasoning(text: "", signature: nil)]),
            #"{"role":"assistant","blocks":[{"type":"reasoning","text":"hm","signature":"s","provider":"p"},{"type":"reasoning","text":""}]}"#
        ),
        (
            ModelMessage(
                .assistant,
                [
                    .toolUse(ToolUse(id: "1", name: "f", input: ["z": 1, "a": .number("1.50")])),
                    .toolUse(ToolUse(id: "2", name: "g", arguments: "{\"a\":")),
                ]),
            #"{"role":"assistant","blocks":[{"type":"tool_use","id":"1","name":"f","input":{"z":1,"a":1.50}},{"type":"tool_use","id":"2","name":"g","malformed":"{\"a\":"}]}"#
        ),
        (
            ModelMessage(.user, [.toolResult(ToolOutput(id: "1", text: "no", isError: true))]),
            #"{"role":"user","blocks":[{"type":"tool_result","id":"1","text":"no","is_error":true}]}"#
        ),
    ])
    func aMessageIsStoredAndReadBack(_ message: ModelMessage, _ stored: String) throws {
        #expect(try text(message) == stored)
        #expect(try read(stored) == message)
    }

    @Test(arguments: [
        #"{"role":"system","blocks":[]}"#, #"{"role":"user","blocks":[{"type":"image"}]}"#, #"{"role":"user"}"#,
        #"{"role":"user","blocks":[{"type":"tool_use","id":"1","name":"f"}]}"#,
    ])
    func aMessageOfAnotherShapeIsRefused(_ stored: String) {
        #expect(throws: DecodingError.self) { try read(stored, as: ModelMessage.self) }
    }

    @Test func requestAndReplyAreReadBack() throws {
        let request = ModelRequest(
            model: "m", system: "be short", messages: [.user("é")],
            tools: [ModelTool(name: "f", description: "d", schema: ["type": "object"])], maxOutputTokens: 10,
            temperature: 0.25, stopSequences: ["x"])
        #expect(try read(try text(request)) == request)
        let reply = ModelReply(
            blocks: [.text("a")], stop: .other("odd"),
            usage: TokenUsage(input: 1, output: 2, cacheRead: 3, cacheWrite: 4, isEstimated: true), model: "m-1")
        #expect(try read(try text(reply)) == reply)
        #expect(reply.usage.total == 10)
    }

    @Test(arguments: [
        ModelDelta.text("a"), .reasoning(""), .toolUse(id: "1", name: "f"), .toolInput(id: "1", fragment: "{"),
    ])
    func aDeltaIsReadBack(_ delta: ModelDelta) throws { #expect(try read(try text(delta)) == delta) }

    @Test(arguments: [StopReason.endTurn, .toolUse, .maxTokens, .stopSequence, .refusal, .other("pause")])
    func aStopReasonIsReadBack(_ reason: StopReason) throws {
        #expect(try read(#""\#(reason.word)""#) == reason)
        #expect(try text(reason) == #""\#(reason.word)""#)
    }

    @Test(arguments: [
        ("", JSONValue.object([]), nil as String?), (" \n", .object([]), nil),
        (#"{"a":1}"#, JSONValue.object([JSONValue.Field("a", 1)]), nil),
        (#"{"a":1"#, .null, #"{"a":1"#), ("[1]", .null, "[1]"), ("null", .null, "null"),
        (#"{"a":1,"a":2}"#, .null, #"{"a":1,"a":2}"#),
    ])
    func argumentsThatAreNoObjectAreKeptAsTheyWere(_ arguments: String, _ input: JSONValue, _ malformed: String?) {
        let use = ToolUse(id: "1", name: "f", arguments: arguments)
        #expect(use.input == input)
        #expect(use.malformed == malformed)
    }

    @Test func usageNeverWrapsAround() {
        let much = TokenUsage(input: .max, output: -5)
        #expect(much.output == 0)
        #expect((much + much).input == .max)
        #expect((much + TokenUsage(cacheRead: 1)).total == .max)
    }
}
