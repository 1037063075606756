import AegisCore
import AegisJSON
import Testing

@testable import aegis

@Suite struct TopTests {
    private static let hostile = "\u{1b}[2J\u{7}evil\u{202e}\u{9b}31m\r\n日本語のテキスト👩‍💻"

    private static func agent(_ number: Int) -> JSONValue {
        let isTop = number == 0
        return [
            "id": .string("a-\(number)"), "name": .string(isTop ? "boss" : "child-\(number)"),
            "state": .string(isTop ? "working" : "idle"), "model": "default", "parent": isTop ? .null : "a-0",
            "depth": .number(isTop ? 0 : 1), "step": 3, "mail": .number(number),
        ]
    }

    private static func approval(_ number: Int, _ preview: String) -> JSONValue {
        [
            "id": .string("ap-\(number)"), "agent_id": "a-0", "agent_name": "boss", "tool": "file_write",
            "resource": "file_write: /workspace/a.txt", "preview": .string(preview),
            "expires_at": "2026-11-18T11:15:40.000Z",
        ]
    }

    private static func model(agents: Int = 3, approvals: Int = 1, preview: String = "+one\n+two") -> TopModel {
        var model = TopModel(time: Timestamp(milliseconds: 1_795_000_000_000))
        let budget: JSONValue = [
            "agent_id": "a-0", "used": ["tokens": 12_345], "left": ["tokens": 87_655], "total": ["usd": "0.0123"],
        ]
        model.take(agents: (0..<agents).map { agent($0) }, budgets: [budget])
        model.take(approvals: (0..<approvals).map { approval($0, preview) })
        model.take(goals: [
            ["id": "goal-1", "state": "ended", "stop_reason": "complete", "text": "an old one"],
            ["id": "goal-2", "state": "running", "agent": "a-0", "text": "write a report"],
        ])
        let records: [(String, JSONValue)] = [
            ("tool_invoked", ["tool": "echo", "call_id": "1", "input_preview": "{}"]),
            ("tool_result", ["tool": "echo", "call_id": "1", "success": true, "microseconds": 12_000]),
            ("tool_refused", ["tool": "exec", "call_id": "2", "code": "capability-denied"]),
            ("tool_invoked", ["tool": "web_fetch", "call_id": "3", "input_preview": "{\"url\":\"x\"}"]),
        ]
        for (kind, fields) in records {
            model.take(event: [
                "seq": 9, "time": "2026-11-18T11:06:39.000Z", "kind": .string(kind), "agent": "a-0", "fields": fields,
            ])
        }
        return model
    }

    private static let screen = TopScreen(rows: 24, columns: 80, hasColor: false)

    @Test func theOverviewFitsAPlainTerminal() throws {
        var state = TopState()
        state.selected = .approval("ap-0")
        let lines = Self.screen.lines(Self.model(), state)
        #expect(lines.count == 24)
        try expectSnapshot(lines.joined(separator: "\n") + "\n", "top")
    }

    /// Whatever agents say and however large the screen is: no line is wider, there are never more, and nothing acts.
    @Test(arguments: [(1, 1), (8, 40), (10, 41), (24, 80), (50, 200), (9, 300)], [false, true])
    func everyScreenIsKeptTo(_ size: (Int, Int), _ hasColor: Bool) throws {
        let screen = TopScreen(rows: size.0, columns: size.1, hasColor: hasColor)
        for agents in [0, 1, 60] {
            for approvals in [0, 1, 30] {
                var model = Self.model(agents: agents, approvals: approvals, preview: Self.hostile)
                for index in model.agents.indices { model.agents[index].name = Self.hostile }
                for index in model.approvals.indices { model.approvals[index].resource = Self.hostile }
                for index in model.goals.indices { model.goals[index].text = Self.hostile }
                for index in model.calls.indices { model.calls[index].input = Self.hostile }
                var state = TopState()
                for page in [TopState.Page.overview, .approval("ap-0"), .logs("a-0")] {
                    state.page = page
                    state.add([Self.hostile])
                    for item in [nil] + TopState.items(model).prefix(3).map({ Optional($0) }) {
                        state.selected = item
                        let lines = screen.lines(model, state)
                        #expect(lines.count <= max(1, size.0))
                        for line in lines {
                            var plain = line
                            for code in ["0", "1", "2", "7", "31", "32", "33"] {
                                plain = plain.replacing("\u{1b}[\(code)m", with: "")
                            }
                            if !hasColor { #expect(plain == line) }
                            #expect(TopText.columns(of: plain) <= size.1, "\(plain)")
                            #expect(!plain.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x7f })
                            #expect(!plain.unicodeScalars.contains { (0x80..<0xa0).contains($0.value) })
                            #expect(!plain.contains("\u{202e}"))
                        }
                    }
                }
            }
        }
    }

    @Test func keysComeInAnyPieces() {
        let bytes = Array("j\u{1b}[A\u{1b}OB\u{1b}[5~\u{1b}[1;5Ca\u{3}".utf8)
        let expected: [TopKey] = [.letter("j"), .up, .down, .pageUp, .letter("a"), .letter("q")]
        var whole = TopKeys()
        #expect(whole.keys(bytes) == expected)
        // A sequence may be cut anywhere but behind its escape, which alone is the key.
        var cut = TopKeys()
        #expect(cut.keys(Array("\u{1b}[".utf8)) == [])
        #expect(cut.keys(Array("A".utf8)) == [.up])
        #expect(cut.keys([0x1b]) == [.escape])
        #expect(cut.keys([0xff, 0x00, 13]) == [.enter])
    }

    @Test func whatIsSelectedStaysSo() {
        var model = Self.model(approvals: 2)
        var state = TopState()
        for _ in 0..<2 { _ = state.take(.down, model, Self.screen) }
        #expect(state.selected == .approval("ap-1"))
        // Another one is answered: the same is meant. It is itself: nothing is.
        model.approvals.removeFirst()
        state.follow(model)
        #expect(state.selected == .approval("ap-1"))
        #expect(state.take(.letter("a"), model, Self.screen) == .answer(approval: "ap-1", approve: true))
        model.approvals = []
        state.follow(model)
        #expect(state.selected == nil)
        #expect(state.take(.letter("a"), model, Self.screen) == .none)
        #expect(state.take(.letter("l"), model, Self.screen) == .none)
        _ = state.take(.down, model, Self.screen)
        #expect(state.take(.letter("l"), model, Self.screen) == .logs(agent: "a-0"))
        #expect(state.take(.letter("q"), model, Self.screen) == .none)
        #expect(state.page == .overview)
        #expect(state.take(.letter("q"), model, Self.screen) == .quit)
    }

    /// What was not shown to its end cannot be approved; it can be denied.
    @Test func theLineThatAnAgentWritesIsShownUntilItsStepIs() {
        var state = TopState()
        state.selected = .agent("a-0")
        let model = Self.model()
        #expect(state.take(.letter("l"), model, Self.screen) == .logs(agent: "a-0"))
        state.add(["an older step"])
        func hear(_ type: String, _ text: String = "", at: Int = 0, complete: Bool = true) -> String? {
            state.hear([
                "kind": "agent.delta", "type": .string(type), "text": .string(text), "at": .number(at), "tool": "grep",
                "complete": .bool(complete),
            ])
            return state.line
        }
        #expect(hear("reasoning", "h") == "thinks: h" && hear("reasoning", "m", at: 1) == "thinks: hm")
        #expect(hear("text", "one\ntw") == "says: tw" && hear("text", "o", at: 6) == "says: two")
        #expect(Self.screen.lines(model, state).contains { $0.hasPrefix("says: two") })
        #expect(hear("tool") == "calls grep ..." && hear("end") == "calls grep ...")
        state.hear(["kind": "replied"])
        #expect(state.line == nil)
        // Half an answer does not stay, and a long line is kept to its end.
        #expect(hear("text", "half") == "says: half" && hear("restart") == nil)
        #expect(hear("text", "half") == "says: half" && hear("end", complete: false) == nil)
        #expect(hear("text", String(repeating: "x", count: 5000)).map { (1000...2001).contains($0.count) } == true)
        _ = state.take(.escape, model, Self.screen)
        #expect(state.line == nil)
    }

    @Test func onlyWhatWasShownWholeIsApproved() {
        let model = Self.model(preview: (1...100).map { "+line \($0)" }.joined(separator: "\n"))
        var state = TopState()
        _ = state.take(.down, model, Self.screen)
        #expect(Self.screen.lines(model, state).contains { $0.contains("more: press enter") })
        var other = state
        #expect(other.take(.letter("d"), model, Self.screen) == .answer(approval: "ap-0", approve: false))
        #expect(state.take(.letter("a"), model, Self.screen) == .none)
        #expect(state.page == .approval("ap-0"))
        #expect(state.take(.letter("a"), model, Self.screen) == .none)
        _ = state.take(.end, model, Self.screen)
        #expect(Self.screen.lines(model, state).contains { $0.contains("+line 100") })
        #expect(state.take(.letter("a"), model, Self.screen) == .answer(approval: "ap-0", approve: true))
    }

    @Test func callsArePairedWithTheirOutcomes() {
        var model = Self.model()
        #expect(model.calls.map(\.isError) == [false, true, nil])
        #expect(model.seq == 9)
        // The same id in a later turn is another call.
        model.take(event: [
            "seq": 10, "kind": "tool_invoked", "agent": "a-0", "fields": ["tool": "echo", "call_id": "1"],
        ])
        #expect(model.calls.count == 4)
        #expect(model.goals.map(\.id) == ["goal-2", "goal-1"])
        #expect(model.agents.map(\.id) == ["a-0", "a-1", "a-2"])
    }

    @Test(arguments: [
        (0, "0"), (999, "999"), (1000, "1.0k"), (12_345, "12.3k"), (999_999, "999k"), (4_500_000, "4.5M"),
    ])
    func numbersAreShort(_ number: Int64, _ text: String) {
        #expect(TopText.short(number) == text)
    }
}
