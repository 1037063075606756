import AegisJSON
import Testing

@testable import aegis

/// Answers that are printed while they are written.
@Suite struct AnswerTextTests {
    private static func delta(_ type: String, _ text: String = "", at: Int = 0) -> JSONValue {
        [
            "kind": "agent.delta", "type": .string(type), "text": .string(text), "at": .number(at), "tool": "grep",
            "complete": true,
        ]
    }
    private static let void: JSONValue = ["kind": "agent.delta", "type": "end", "complete": false]

    private func printed(_ deltas: [JSONValue], end: String) -> (out: String, note: String) {
        var text = AnswerText()
        var (out, note) = ("", "")
        for delta in deltas {
            let piece = text.take(delta)
            out += piece.out
            note += piece.note
        }
        return (out + text.end(end), note)
    }

    @Test func whatStandsThereIsNotPrintedTwice() {
        let one = printed(
            [Self.delta("text", "a wh"), Self.delta("text", "ole\n\u{1b}[2J", at: 4)], end: "a whole\n\u{1b}[2J")
        #expect(one == ("a whole\n\\e[2J\n", ""))
        let ended = printed([Self.delta("text", "done\n"), Self.delta("end")], end: "done\n")
        #expect(ended.out == "done\n")
    }

    @Test func whatWasSaidBeforeAToolStays() {
        let text = printed(
            [
                Self.delta("reasoning", "hm"), Self.delta("text", "let me look"), Self.delta("tool"), Self.delta("end"),
                Self.delta("text", "found"), Self.delta("end"),
            ], end: "found")
        #expect(text == ("let me look\nfound\n", "aegis: it calls grep\n"))
    }

    @Test func halfAnAnswerDoesNotPassForAWholeOne() {
        let text = printed(
            [Self.delta("text", "half an"), Self.delta("restart"), Self.delta("text", "whole")], end: "whole")
        #expect(text == ("half an\nwhole\n", "aegis: the answer broke off, and begins anew\n"))
        #expect(printed([Self.delta("text", "half"), Self.void], end: "half").out == "half\nhalf\n")
    }

    @Test func anAnswerOfWhichPartIsMissingIsPrintedWhole() {
        #expect(printed([Self.delta("text", "ole", at: 4)], end: "a whole").out == "ole\na whole\n")
        let slow = printed(
            [Self.delta("text", "a"), Self.delta("gap"), Self.delta("text", "e", at: 6)], end: "a whole")
        #expect(slow.out == "a\ne\na whole\n" && slow.note.contains("left out"))
        #expect(printed([], end: "x").out == "x\n")
    }

    @Test func stepsFollowWhatWasSaidOfThem() {
        let step: JSONValue = [
            "kind": "replied", "ts": "T1",
            "blocks": [
                ["type": "reasoning", "text": "hm"], ["type": "text", "text": "let me look"],
                ["type": "tool_use", "name": "grep", "input": ["a": 1]],
            ],
        ]
        var text = StepsText()
        let all = [
            Self.delta("reasoning", "h"), Self.delta("reasoning", "m", at: 1), Self.delta("text", "let me look"),
            Self.delta("tool"), Self.delta("end"), step,
        ].map { text.take($0, now: "T0") }.joined()
        #expect(all == "T0 thinks: hm\nT0 says: let me look\nT1 calls grep: {\"a\":1}\n")
        // The next answer is another one, and what was not said to its end is not taken for it.
        #expect(text.take(Self.delta("text", "let me"), now: "T2") == "T2 says: let me")
        #expect(text.take(Self.void, now: "T3") == "\nT3 void: the answer broke off\n")
        #expect(text.take(step, now: "T4") == AgentText.step(step))
    }
}
