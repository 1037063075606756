import AegisCore
import AegisInference
import AegisJSON
import AegisStore
import AegisTestSupport
import Testing

@testable import AegisAgents

@Suite struct SessionArchiveTests {
    private static func turn(_ number: Int, calls: Bool = true) -> [SessionStep] {
        var steps: [SessionStep] = [.began(trace: "t-\(number)", text: "secret question \(number)", from: nil)]
        if calls {
            let use = ToolUse(id: "c-\(number)", name: "file_read", input: ["path": "/secret/path"])
            steps += [
                .replied([.text("secret thought"), .toolUse(use)], .toolUse, TokenUsage(input: 1, output: 1)),
                .intent(call: "c-\(number)"),
                .outcome(ToolOutput(id: "c-\(number)", text: "secret result", isError: false)),
            ]
        }
        return steps + [
            .replied([.text("secret answer \(number)")], .endTurn, TokenUsage(input: 1, output: 1)),
            .ended(.complete, nil),
        ]
    }

    /// What was erased changes nothing of what the model is shown, wherever the summary was made.
    @Test func whatIsStillShownStaysAsItWas() {
        for summarised in 1...8 {
            for open in [false, true] {
                var steps = Self.turn(1) + Self.turn(2, calls: false) + Self.turn(3)
                let count = Session(steps).messages.count
                steps.append(.summarized(messages: min(summarised, count), text: "the summary"))
                steps += Self.turn(4)
                if open { steps.append(.began(trace: "t-5", text: "now", from: nil)) }
                let end = SessionArchive.boundary(of: steps)
                #expect(end > 0)
                let erased = steps.enumerated().map { $0 < end ? SessionArchive.erased($1) : $1 }
                let (before, after) = (Session(steps), Session(erased))
                #expect(before.prompt == after.prompt && before.turn == after.turn && before.count == after.count)
                #expect("\(erased.prefix(end))".contains("secret") == false, "\(erased.prefix(end))")
            }
        }
    }

    @Test func nothingIsErasedThatNoSummaryStandsFor() {
        #expect(SessionArchive.boundary(of: Self.turn(1) + Self.turn(2)) == 0)
        // The message of a turn that is under way is never forgotten, although it is not shown as a message any more.
        let steps: [SessionStep] =
            Self.turn(1) + [
                .began(trace: "t-2", text: "the task", from: nil), .summarized(messages: 5, text: "s"),
            ]
        #expect(SessionArchive.boundary(of: steps) == Self.turn(1).count)
    }

    @Test func onlyWhatIsOlderThanTheLimitGoes() async throws {
        try await withTemporaryDirectory { directory in
            let database = try Database.open(
                path: "\(directory)/a.db", applicationID: 7,
                migrations: SessionStore.migrations + SessionStore.mailMigrations + SessionStore.indexMigrations
                    + SessionStore.placeMigrations)
            defer { database.close() }
            let store = SessionStore(database)
            let steps = Self.turn(1) + Self.turn(2) + [.summarized(messages: 8, text: "s")]
            var place = SessionStore.Place(of: "a-1")
            for (seq, step) in steps.enumerated() {
                let time = Timestamp(milliseconds: Int64(seq) * 1000)
                try store.append([.init(step, at: seq, trace: "t", time: time)], to: &place)
            }
            let half = Timestamp(milliseconds: Int64(Self.turn(1).count) * 1000)
            let first = try SessionArchive.erase("a-1", before: half, in: store)
            #expect(first > 0 && first < Self.turn(1).count)
            let kept = try store.steps(of: "a-1").map(\.step)
            #expect("\(kept.prefix(Self.turn(1).count))".contains("secret") == false)
            #expect(Array(kept.dropFirst(Self.turn(1).count)) == Array(steps.dropFirst(Self.turn(1).count)))
            // A second time there is nothing to do.
            #expect(try SessionArchive.erase("a-1", before: half, in: store) == 0)
        }
    }
}
