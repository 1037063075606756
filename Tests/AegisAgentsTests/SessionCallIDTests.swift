import AegisInference
import AegisJSON
import Testing

@testable import AegisAgents

@Suite struct SessionCallIDTests {
    private let limits = TurnLimits(iterations: 5, tokens: 1000)

    private func asks(_ ids: String...) -> SessionStep {
        let blocks = ids.map { ModelMessage.Block.toolUse(ToolUse(id: $0, name: "echo", input: .object([]))) }
        return .replied(blocks, .toolUse, TokenUsage(input: 10, output: 5))
    }
    private func output(_ id: String) -> SessionStep { .outcome(ToolOutput(id: id, text: "done")) }

    /// Whatever ids a model gives, no two calls that it is shown have the same.
    @Test func eachCallOfAConversationHasAnIDOfItsOwn() {
        var session = Session([.began(trace: "t", text: "go", from: nil)])
        func ids(_ given: String...) -> [String] {
            let blocks = given.map { ModelMessage.Block.toolUse(ToolUse(id: $0, name: "echo", input: .object([]))) }
            return session.withOwnIDs([.text("both")] + blocks).compactMap(\.toolUse).map(\.id)
        }
        #expect(ids("a", "b") == ["a", "b"])
        #expect(ids("a", "a", "") == ["a", "call_1_1", "call_1_2"])
        #expect(ids("call_1_1", "call_1_1", "call_1_2") == ["call_1_1", "call_1_2", "call_1_3"])
        session.apply(asks("a", "call_4_1"))
        session.apply(output("a"))
        session.apply(output("call_4_1"))
        // Those of an earlier answer are taken, too, and one of them looks like a made one.
        #expect(session.count == 4 && ids("b", "a") == ["b", "call_4_2"])
        session.apply(asks("call_5_0"))
        #expect(ids("call_5_0", "x", "") == ["call_5_1", "x", "call_5_2"])
    }

    /// Steps that a release kept which let an id stand twice, one that looks like a made one.
    @Test func oldStepsWithOneIDTwiceGoOn() {
        var session = Session([
            .began(trace: "t", text: "go", from: nil), asks("call_0_1", "call_0_1"), output("call_0_1"),
        ])
        guard case .call(let left) = session.next(limits) else {
            Issue.record("\(session.next(limits))")
            return
        }
        #expect(left.map(\.id) == ["call_0_2"])
        session.apply(output("call_0_2"))
        #expect(session.next(limits) == .ask)
    }
}
