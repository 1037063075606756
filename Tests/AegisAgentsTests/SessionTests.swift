import AegisInference
import AegisJSON
import AegisTestSupport
import Testing

@testable import AegisAgents

@Suite struct SessionTests {
    private let limits = TurnLimits(iterations: 5, tokens: 1000)
    private let usage = TokenUsage(input: 10, output: 5)

    private func use(_ id: String, _ name: String = "echo") -> ToolUse {
        ToolUse(id: id, name: name, input: .object([]))
    }
    private func reply(_ blocks: [ModelMessage.Block], _ stop: StopReason) -> SessionStep {
        .replied(blocks, stop, usage)
    }
    private func output(_ id: String, _ text: String = "done") -> SessionStep {
        .outcome(ToolOutput(id: id, text: text))
    }

    @Test func aTurnGoesFromAMessageToItsAnswer() {
        var session = Session()
        #expect(session.next(limits) == .rest)
        session.apply(.began(trace: "t", text: "hello", from: nil))
        #expect(session.next(limits) == .ask)
        session.apply(reply([.text("hi")], .endTurn))
        #expect(session.next(limits) == .close(.complete, nil))
        session.apply(.ended(.complete, nil))
        #expect(session.next(limits) == .rest)
        #expect(session.messages == [.user("hello"), .assistant("hi")])
        #expect(session.lastText == "hi")
    }

    @Test func resultsComeBackInTheOrderOfTheCallsAndInOneMessage() {
        var session = Session([
            .began(trace: "t", text: "go", from: nil),
            reply([.text("both"), .toolUse(use("a")), .toolUse(use("b"))], .toolUse),
        ])
        #expect(session.next(limits) == .call([use("a"), use("b")]))
        session.apply(.intent(call: "a"))
        session.apply(.intent(call: "b"))
        session.apply(output("b", "two"))
        #expect(session.next(limits) == .clarify([use("a")]))
        session.apply(output("a", "one"))
        #expect(session.next(limits) == .ask)
        #expect(session.messages.last?.toolResults.map(\.text) == ["one", "two"])
        #expect(session.messages.count == 3)
    }

    /// Every prefix of a turn's steps is what a killed daemon can leave: the next one goes on and repeats nothing.
    @Test func everyPrefixGoesOn() {
        let steps: [SessionStep] = [
            .began(trace: "t", text: "go", from: nil), reply([.toolUse(use("a")), .toolUse(use("b"))], .toolUse),
            .intent(call: "a"), output("a"), .intent(call: "b"), output("b"), reply([.text("end")], .endTurn),
            .ended(.complete, nil),
        ]
        let expected: [TurnAction] = [
            .rest, .ask, .call([use("a"), use("b")]), .clarify([use("a")]), .call([use("b")]), .clarify([use("b")]),
            .ask,
            .close(.complete, nil), .rest,
        ]
        for count in 0...steps.count {
            #expect(Session(steps.prefix(count)).next(limits) == expected[count], "after \(count) steps")
        }
    }

    @Test(arguments: [
        (StopReason.endTurn, TurnStop.complete), (.stopSequence, .complete), (.toolUse, .complete),
        (.maxTokens, .truncated), (.refusal, .error), (.other("odd"), .error),
    ])
    func howAnAnswerEndsIsHowTheTurnEnds(_ stop: StopReason, _ expected: TurnStop) {
        let session = Session([.began(trace: "t", text: "go", from: nil), reply([.text("x")], stop)])
        guard case .close(let found, let problem) = session.next(limits) else {
            Issue.record("it goes on")
            return
        }
        #expect(found == expected)
        #expect((problem != nil) == (expected == .error))
    }

    @Test func anEmptyAnswerEndsTheTurnAndLeavesNoMessage() {
        let session = Session([.began(trace: "t", text: "go", from: nil), reply([], .endTurn)])
        #expect(session.next(limits) == .close(.complete, nil))
        #expect(session.messages == [.user("go")])
    }

    @Test func aCallInACutAnswerIsNotMade() {
        let session = Session([
            .began(trace: "t", text: "go", from: nil), reply([.text("I write"), .toolUse(use("a"))], .maxTokens),
        ])
        #expect(session.next(limits) == .close(.truncated, nil))
        #expect(session.messages.last?.toolUses == [])
    }

    @Test func idsThatAreMissingOrTwiceAreMadeOne() {
        let session = Session([
            .began(trace: "t", text: "go", from: nil),
            reply([.toolUse(use("")), .toolUse(use("x")), .toolUse(use("x"))], .toolUse),
        ])
        guard case .call(let uses) = session.next(limits) else {
            Issue.record("no calls")
            return
        }
        #expect(Set(uses.map(\.id)).count == 3)
        #expect(uses.allSatisfy { !$0.id.isEmpty })
    }

    @Test func aResultForNobodyAndASecondOneChangeNothing() {
        var session = Session([
            .began(trace: "t", text: "go", from: nil), reply([.toolUse(use("a")), .toolUse(use("b"))], .toolUse),
            .intent(call: "a"), output("a", "first"),
        ])
        let before = session.next(limits)
        session.apply(output("a", "second"))
        session.apply(output("z", "stranger"))
        #expect(session.next(limits) == before)
    }

    /// Each call has its answer, whatever stands in a damaged session.
    @Test func anAnswerWhileCallsAreOpenChangesNothing() {
        let before: [SessionStep] = [
            .began(trace: "t", text: "go", from: nil), reply([.toolUse(use("a")), .toolUse(use("b"))], .toolUse),
            output("a"),
        ]
        var session = Session(before + [reply([.toolUse(use("c"))], .toolUse), output("b")])
        #expect(session.next(limits) == .ask && session.messages.count == 3)
        session.apply(.ended(.complete, nil))
        #expect(session.messages == Session(before + [output("b"), .ended(.complete, nil)]).messages)
    }

    @Test func theLimitsEndATurnAfterItsToolsHaveAnswered() {
        var session = Session([.began(trace: "t", text: "go", from: nil)])
        for index in 0..<5 {
            #expect(session.next(limits) == .ask)
            session.apply(reply([.toolUse(use("\(index)"))], .toolUse))
            session.apply(.intent(call: "\(index)"))
            session.apply(output("\(index)"))
        }
        #expect(session.next(limits) == .close(.maxIterations, nil))
        var spent = Session([.began(trace: "t", text: "go", from: nil)])
        spent.apply(.replied([.toolUse(use("a"))], .toolUse, TokenUsage(input: 990, output: 10)))
        spent.apply(output("a"))
        #expect(spent.next(limits) == .close(.maxTokens, nil))
    }

    @Test func aStoppedTurnEndsButNotBeforeWhatWasBegunIsKnown() {
        var session = Session([
            .began(trace: "t", text: "go", from: nil), reply([.toolUse(use("a")), .toolUse(use("b"))], .toolUse),
            .intent(call: "a"), .stopped,
        ])
        #expect(session.next(limits) == .clarify([use("a")]))
        session.apply(output("a"))
        #expect(session.next(limits) == .close(.cancelled, nil))
        session.apply(.ended(.cancelled, nil))
        // Both calls have results: the next question would be refused otherwise.
        #expect(session.messages.last?.toolResults.map(\.isError) == [false, true])
        session.apply(.began(trace: "u", text: "again", from: nil))
        #expect(session.messages.map(\.role) == [.user, .assistant, .user])
    }

    @Test func stepsSurviveTheirText() throws {
        let steps: [SessionStep] = [
            .began(trace: "t", text: "é\u{1}", from: "a-1"), .began(trace: "t", text: "", from: nil),
            reply([.reasoning(text: "r", signature: "s"), .toolUse(use("a"))], .other("odd")), .intent(call: "a"),
            output("a"), .stopped, .ended(.error, TurnProblem(code: "c", message: "m")), .ended(.complete, nil),
            .summarized(messages: 3, text: "s"), .dropped(messages: 2), .restarted(), .shortened(bytes: 64), .note("n"),
            .summarized(messages: 3, text: "s", usage: TokenUsage(input: 7, output: 2)), .spent(TokenUsage(output: 3)),
        ]
        for step in steps {
            let text = step.json.compact
            #expect(try JSONValue(parsing: text).decode(SessionStep.self) == step)
        }
    }

    @Test func aSummaryStandsBeforeWhatIsLeft() {
        var session = Session([
            .began(trace: "t", text: "one", from: nil), reply([.text("1")], .endTurn), .ended(.complete, nil),
            .began(trace: "u", text: "two", from: nil), reply([.toolUse(use("a"))], .toolUse), output("a"),
        ])
        session.apply(.summarized(messages: 3, text: "they counted"))
        #expect(session.prompt.count == 3)
        #expect(session.prompt[0].role == .user)
        #expect(session.prompt[0].text.contains("they counted"))
        // The task was summarised away, and is there even so.
        #expect(session.prompt[0].text.contains("two"))
        #expect(session.prompt[1].toolUses == [use("a")])
    }

    /// What is said of what is missing is said in the same words by every daemon, and under marks of its own each time.
    @Test func whatStandsBeforeTheMessagesIsTheSameForEveryDaemon() throws {
        let steps: [SessionStep] = [
            .began(trace: "t", text: "one", from: nil), reply([.text("1")], .maxTokens), .ended(.truncated, nil),
            .restarted(), reply([.text("2")], .endTurn), .ended(.complete, nil),
            .began(trace: "u", text: "two", from: nil), reply([.toolUse(use("a"))], .toolUse), output("a"),
        ]
        let kept = try (steps + [.dropped(messages: 1), .summarized(messages: 2, text: "s"), .dropped(messages: 2)]).map
        {
            try JSONValue(parsing: $0.json.compact).decode(SessionStep.self)
        }
        for count in 0...kept.count {
            let again = try kept.prefix(count).map {
                try JSONValue(parsing: $0.json.compact).decode(SessionStep.self)
            }
            #expect(Session(again).prompt == Session(kept.prefix(count)).prompt)
        }
        let texts = Session(kept).prompt[0].blocks.map { ModelMessage(.user, [$0]).text }
        #expect(
            texts.count == 3
                && Set(texts.map { $0.firstMatch(of: /\(([0-9a-f]{16})\)/).map { String($0.1) } }).count == 1)
        #expect(
            ContextSize.tokens(Session(kept).prompt.prefix(1)) <= 4 + Session(kept).notesSize + Session(kept).taskSize)
        #expect(
            Session(steps).messages[2].text
                != Session(steps.map { if case .restarted = $0 { .restarted() } else { $0 } }).messages[2].text)
        // One that an earlier release has kept has no marks.
        let old = Array(#"{"kind":"summarized","messages":2,"text":"s"}"#.utf8)
        guard case .summarized(2, "s", .zero, let mark) = try JSONValue(parsing: old).decode(SessionStep.self) else {
            Issue.record("it is not read")
            return
        }
        #expect(mark.utf8.count == 16)
    }
}

@Suite struct ContextPlanTests {
    private func conversation(_ turns: Int, bytes: Int) -> Session {
        var session = Session()
        for index in 0..<turns {
            session.apply(.began(trace: "\(index)", text: String(repeating: "q", count: bytes), from: nil))
            session.apply(
                .replied([.toolUse(ToolUse(id: "a", name: "n", input: .object([])))], .toolUse, TokenUsage()))
            session.apply(.outcome(ToolOutput(id: "a", text: String(repeating: "r", count: bytes))))
            session.apply(.replied([.text(String(repeating: "s", count: bytes))], .endTurn, TokenUsage()))
            session.apply(.ended(.complete, nil))
        }
        session.apply(.began(trace: "now", text: "now", from: nil))
        return session
    }

    @Test func whatFitsIsLeftAlone() {
        #expect(ContextPlan.make(conversation(2, bytes: 40), .init(room: 10_000), canSummarize: true) == .ready)
    }

    @Test func fromTheThresholdOnIsSummarised() {
        let session = conversation(20, bytes: 400)
        guard case .summarize(let number) = ContextPlan.make(session, .init(room: 6000), canSummarize: true) else {
            Issue.record("no summary")
            return
        }
        #expect(number > 0 && number < session.messages.count - 1)
    }

    /// Whatever the sizes are: no result without its call, room for what is left, and the last messages stay.
    @Test(arguments: 1...40)
    func cutsNeverPartACallFromItsResult(_ seed: Int) {
        var random = Mutator(seed: UInt64(seed))
        var session = conversation(
            Int.random(in: 1...30, using: &random), bytes: Int.random(in: 1...900, using: &random))
        let window = ContextPlan.Window(
            room: Int.random(in: 300...6000, using: &random), threshold: 0.7,
            messages: Int.random(in: 4...60, using: &random))
        var canSummarize = true
        for _ in 0..<200 {
            switch ContextPlan.make(session, window, canSummarize: canSummarize) {
            case .ready, .tooLong:
                #expect(session.messages.count <= max(window.messages, 4))
                return
            case .summarize(let number):
                #expect(number > 0)
                session.apply(.summarized(messages: number, text: "short"))
                canSummarize = Bool.random(using: &random)
            case .drop(let number):
                #expect(number > 0)
                session.apply(.dropped(messages: number))
            case .shorten(let bytes):
                let (before, room) = (ContextSize.tokens(session.prompt), window.room)
                session.apply(.shortened(bytes: bytes))
                #expect(session.sizes.reduce(0, +) <= room && room < before)
            }
            #expect(session.sizes == session.messages.map { ContextSize.tokens($0) })
            let calls = Set(session.prompt.flatMap(\.toolUses).map(\.id))
            #expect(session.prompt.flatMap(\.toolResults).allSatisfy { calls.contains($0.id) })
            #expect(session.prompt.first?.role == .user)
            #expect(session.prompt.first?.toolResults.isEmpty == true)
        }
        Issue.record("it comes to no end")
    }

    /// What is never dropped is made smaller: else an agent would never again say anything but that its conversation is too long.
    @Test func whatCannotGoIsShortened() {
        let long = String(repeating: "x", count: 400_000)
        let input: JSONValue = ["path": "/workspace/a", "content": .string(long)]
        var session = Session([
            .began(trace: "1", text: "write", from: nil),
            .replied(
                [.reasoning(text: long, signature: "s"), .toolUse(ToolUse(id: "a", name: "n", input: input))], .toolUse,
                TokenUsage()),
            .outcome(ToolOutput(id: "a", text: long)), .ended(.error, nil),
            .began(trace: "2", text: "go on", from: nil),
        ])
        let window = ContextPlan.Window(room: 2000)
        session.apply(.dropped(messages: 1))
        guard case .shorten(let bytes) = ContextPlan.make(session, window, canSummarize: false) else {
            Issue.record("nothing is shortened")
            return
        }
        session.apply(.shortened(bytes: bytes))
        #expect(bytes == 2048 && ContextPlan.make(session, window, canSummarize: false) == .ready)
        #expect(session.messages[0].toolUses.map(\.id) == ["a"] && session.messages[0].blocks.count == 1)
        #expect(session.messages[0].toolUses[0].input["LEFT_OUT"]?.text?.hasPrefix(#"{"path":"/workspace/a""#) == true)
        #expect(session.messages[1].toolResults[0].text.contains("bytes left out"))
        #expect(session.messages[1].text == "go on")
        let sizes = session.sizes
        session.apply(.shortened(bytes: bytes))
        #expect(session.sizes == sizes)
    }

    @Test func theTaskStaysWholeUntilItsTurnHasEnded() {
        var session = Session([.began(trace: "1", text: String(repeating: "x", count: 100_000), from: nil)])
        session.apply(.shortened(bytes: 64))
        #expect(session.size(shortenedTo: 64) > 25_000)
        session.apply(.ended(.error, nil))
        session.apply(.began(trace: "2", text: "and now?", from: nil))
        #expect(ContextPlan.make(session, .init(room: 1000), canSummarize: true) == .shorten(bytes: 2048))
    }

    /// What the model is shown counts, also the task when its message is gone.
    @Test func aTaskThatIsNoMessageAnyMoreTakesRoom() {
        func text(_ letter: String) -> String { String(repeating: letter, count: 4000) }
        func call(_ id: String) -> [SessionStep] {
            [
                .replied([.toolUse(ToolUse(id: id, name: "n", input: .object([])))], .toolUse, TokenUsage()),
                .outcome(ToolOutput(id: id, text: text("r"))),
            ]
        }
        var session = Session([.began(trace: "t", text: text("x"), from: nil)] + call("a") + call("b"))
        session.apply(.dropped(messages: 3))
        let shown = ContextSize.tokens(session.prompt)
        #expect(shown > 2000 && session.sizes.reduce(0, +) < 1100)
        #expect(ContextPlan.make(session, .init(room: shown), canSummarize: false) == .ready)
        let window = ContextPlan.Window(room: 1500)
        guard case .shorten(let bytes) = ContextPlan.make(session, window, canSummarize: false) else {
            Issue.record("it is said to fit")
            return
        }
        session.apply(.shortened(bytes: bytes))
        #expect(ContextSize.tokens(session.prompt) <= 1500)
        #expect(ContextPlan.make(session, window, canSummarize: false) == .ready)
        guard case .tooLong = ContextPlan.make(session, .init(room: 1000), canSummarize: true) else {
            Issue.record("the task alone does not fit")
            return
        }
    }

    /// Leaving out the message of the task does not make as much room as it has taken.
    @Test func droppingTheTasksMessageFreesNothing() {
        let task = String(repeating: "x", count: 4000)
        var session = Session([.began(trace: "t", text: task, from: nil)])
        for _ in 0..<4 {
            session.apply(.replied([.text(String(repeating: "s", count: 2000))], .maxTokens, TokenUsage()))
            session.apply(.ended(.truncated, nil))
            session.apply(.restarted())
        }
        let used = session.sizes.reduce(0, +)
        guard case .drop(let number) = ContextPlan.make(session, .init(room: used - 100), canSummarize: false) else {
            Issue.record("nothing is dropped")
            return
        }
        session.apply(.dropped(messages: number))
        #expect(session.turn?.start == -number && number > 1)
        #expect(ContextPlan.make(session, .init(room: used - 100), canSummarize: false) == .ready)
    }

    @Test func aMessageThatFitsNowhereIsSaidToBeSo() {
        let session = Session([.began(trace: "t", text: String(repeating: "x", count: 100_000), from: nil)])
        #expect(
            ContextPlan.make(session, .init(room: 1000), canSummarize: true) == .tooLong(tokens: 25_004, room: 1000))
    }
}
