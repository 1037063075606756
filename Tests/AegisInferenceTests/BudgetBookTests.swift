import AegisCore
import AegisJSON
import AegisStore
import AegisTestSupport
import Testing

@testable import AegisInference

/// A book in a folder of its own, opened again as after a restart.
struct BookFixture: ~Copyable {
    let folder: TemporaryDirectory
    let time: InferenceTime

    init(time: InferenceTime = InferenceTime(clock: TestClock(), wall: { Timestamp(milliseconds: 5_000_000) })) throws {
        folder = try TemporaryDirectory()
        self.time = time
    }
    borrowing func open() throws -> (Database, BudgetBook) {
        let database = try Database.open(
            path: "\(folder.path)/b.db", applicationID: 0x7465_7374,
            migrations: [BudgetBook.migration, BudgetBook.grantMigration])
        return (database, try BudgetBook(database, time: time))
    }
}

@Suite struct BudgetBookTests {
    private let caller = CallerID(agent: "a", tree: "t")

    /// What bounds the children of a grant's calls tells the next daemon what they used, and what was under way counts in full.
    @Test func accountsOfGrantsOutliveTheirDaemon() throws {
        let fixture = try BookFixture()
        let (database, book) = try fixture.open()
        try book.open(.agent("p"))
        try book.open(.grant("g"), parent: .agent("p"), limit: BudgetLimit(maxTokens: 50))
        try book.open(.agent("a"), parent: .grant("g"))
        #expect(try book.reserve(caller, input: 10, wantedOutput: 100, price: .free).get().outputTokens == 40)
        database.close()
        let (_, again) = try fixture.open()
        #expect(again.report(.grant("g"))?.usedTokens == 50 && again.report(.agent("p"))?.usedTokens == 50)
    }

    /// Two who work by grants that were derived from one pay from that as well, and each pays its own agent; also after a restart.
    @Test func grantsPayFromThoseThatTheyWereDerivedFrom() throws {
        let fixture = try BookFixture()
        let (database, book) = try fixture.open()
        try book.open(.grant("g"), parent: .agent("p"), limit: BudgetLimit(maxTokens: 100))
        for holder in ["x", "y"] {
            try book.open(.agent(holder), parent: .agent("p"))
            try book.open(
                .grant("g\(holder)"), parent: .agent(holder), above: .grant("g"), limit: BudgetLimit(maxTokens: 90))
            try book.open(.agent("\(holder)1"), parent: .grant("g\(holder)"))
        }
        let first = try book.reserve(CallerID(agent: "x1", tree: "t"), input: 10, wantedOutput: 50, price: .free).get()
        let second = try book.reserve(CallerID(agent: "y1", tree: "t"), input: 10, wantedOutput: 50, price: .free).get()
        #expect(first.outputTokens == 50 && second.outputTokens == 30)
        try book.settle(first, usage: TokenUsage(input: 10, output: 40), microUSD: 0)
        database.close()
        let (_, again) = try fixture.open()
        let used = ["grant:gx": 50, "grant:gy": 40, "grant:g": 90, "agent:x": 50, "agent:y": 40, "agent:p": 90]
        for (owner, tokens) in used { #expect(again.report(try #require(BudgetOwner(owner)))?.usedTokens == tokens) }
        // What is counted at the grants themselves is neither used nor left here.
        try again.count(tokens: 50, microUSD: 0, at: .grant("g"))
        try again.count(tokens: 50, microUSD: 0, at: .grant("nobody"))
        let left = again.report(.grant("g"))
        #expect(left?.usedTokens == 40 && left?.limit.maxTokens == 50)
        let refusal = try again.reserve(
            CallerID(agent: "x1", tree: "t"), input: 10, wantedOutput: 5, price: .free)
        guard case .failure(let refused) = refusal else {
            Issue.record("it is more than is left")
            return
        }
        #expect(refused.owner == .grant("g"))
    }

    /// One that could not be closed must not count again what the limit is already without.
    @Test func anAccountThatIsOpenedAnewHasUsedNothing() throws {
        let fixture = try BookFixture()
        let (_, book) = try fixture.open()
        try book.open(.agent("p"))
        for left in [50, 10] {
            try book.open(.grant("g"), parent: .agent("p"), limit: BudgetLimit(maxTokens: left), isNew: true)
            try book.open(.agent("a"), parent: .grant("g"))
            let call = try book.reserve(caller, input: 5, wantedOutput: 100, price: .free).get()
            #expect(call.outputTokens == left - 5)
            try book.settle(call, usage: TokenUsage(input: 5, output: left == 50 ? 35 : 5), microUSD: 0)
        }
        #expect(book.report(.grant("g"))?.usedTokens == 10 && book.report(.agent("p"))?.usedTokens == 50)
    }

    @Test func whatWasUsedOutlastsARestart() throws {
        let fixture = try BookFixture()
        let (database, book) = try fixture.open()
        try book.open(.agent("p"), limit: BudgetLimit(maxTokens: 1000, maxMicroUSD: 5, period: .seconds(3600)))
        try book.open(.agent("a"), parent: .agent("p"))
        let call = try book.reserve(caller, input: 10, wantedOutput: 20, price: .free).get()
        try book.settle(call, usage: TokenUsage(input: 9, output: 8, cacheRead: 7, cacheWrite: 6), microUSD: 3)
        try book.sync()
        let before = book.reports()
        #expect(before.map(\.owner) == [.tree("t"), .agent("a"), .agent("p")])
        #expect(before[2].usedTokens == 30 && before[2].totalMicroUSD == 3 && before[2].calls == 1)
        database.close()
        let (_, again) = try fixture.open()
        #expect(again.reports() == before)
        #expect(again.recovered.isEmpty)
    }

    @Test func whatWasUnderWayIsBookedInFull() throws {
        let fixture = try BookFixture()
        let (database, book) = try fixture.open()
        try book.open(.tree("t"), limit: BudgetLimit(maxTokens: 100))
        let call = try book.reserve(
            caller, input: 30, wantedOutput: 500, price: ModelPrice(input: 1_000_000, output: 1_000_000)
        ).get()
        #expect(call.outputTokens == 70)
        database.close()
        let (second, again) = try fixture.open()
        #expect(again.recovered.map(\.id) == [call.id])
        let account = try #require(again.report(.tree("t")))
        #expect(account.usedTokens == 100 && account.usedMicroUSD == 100 && account.reservedTokens == 0)
        #expect(account.total.isEstimated)
        second.close()
        let (_, third) = try fixture.open()
        #expect(third.recovered.isEmpty && third.report(.tree("t"))?.usedTokens == 100)
    }

    @Test func aReportSaysWhatIsLeftInTokensAndDollars() throws {
        let fixture = try BookFixture()
        let (_, book) = try fixture.open()
        try book.open(
            .agent("a"), parent: .agent("p"),
            limit: BudgetLimit(maxTokens: 1000, maxMicroUSD: 2_500_000, period: .seconds(3600)))
        let price = ModelPrice(input: 1_000_000, output: 2_000_000)
        let call = try book.reserve(caller, input: 10, wantedOutput: 20, price: price).get()
        try book.settle(call, usage: TokenUsage(input: 10, output: 5), microUSD: 20)
        _ = try book.reserve(caller, input: 1, wantedOutput: 1, price: price).get()
        let report = try #require(book.report(.agent("a"))).json
        #expect(
            String(decoding: report.compact, as: UTF8.self)
                == #"{"owner":"agent:a","parent":"agent:p","limit":{"max_tokens":1000,"max_usd":"2.50","period":"1h"},"#
                + #""period_start":"1970-01-01T01:23:20.000Z","used":{"tokens":15,"usd":"0.00002"},"#
                + #""reserved":{"tokens":2,"usd":"0.000003"},"total":{"input":10,"output":5,"cache_read":0,"cache_write":0,"#
                + #""estimated":false,"usd":"0.00002","calls":1},"refusals":0}"#)
    }

    @Test func aCallThatWasNotMadeCostsNothing() throws {
        let fixture = try BookFixture()
        let (_, book) = try fixture.open()
        let call = try book.reserve(caller, input: 30, wantedOutput: 5, price: nil).get()
        try book.release(call)
        try book.settle(call, usage: TokenUsage(input: 1), microUSD: 1)
        #expect(book.report(.agent("a"))?.total == .zero && book.report(.agent("a"))?.calls == 0)
        try book.close(.agent("a"))
        #expect(book.report(.agent("a")) == nil)
    }

    @Test func aReservationThatCannotBeStoredIsNotGiven() throws {
        let fixture = try BookFixture()
        let (database, book) = try fixture.open()
        try book.open(.tree("t"), limit: BudgetLimit(maxTokens: 100))
        database.close()
        #expect(throws: AegisError.self) { try book.reserve(caller, input: 1, wantedOutput: 1, price: nil) }
        #expect(book.report(.tree("t"))?.reservedTokens == 0)
    }
}

@Suite struct TokenEstimatorTests {
    @Test(arguments: [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("é", 1), ("漢字", 3), ("a漢", 3)])
    func bytesAreCounted(_ text: String, _ tokens: Int) { #expect(TokenEstimator.raw(text) == tokens) }

    @Test func everythingThatIsSentCounts() {
        let bare = ModelRequest(model: "m", messages: [.user("hi")], maxOutputTokens: 1)
        var full = bare
        full.system = String(repeating: "s", count: 400)
        full.tools = [ModelTool(name: "f", description: "d", schema: ["type": "object"])]
        full.messages.append(
            ModelMessage(
                .assistant,
                [.toolUse(ToolUse(id: "1", name: "f", input: ["a": "b"])), .reasoning(text: "r", signature: "s")]))
        full.messages.append(ModelMessage(.user, [.toolResult(ToolOutput(id: "1", text: "ok"))]))
        #expect(TokenEstimator.raw(full) > TokenEstimator.raw(bare) + 100 + 8 + 4 + 8)
    }

    @Test func tooLowACountIsBelievedAtOnceTooHighAOneSlowly() {
        let estimator = TokenEstimator()
        #expect(estimator.corrected(100, for: "m") == 125)
        estimator.learn(100, actual: 200, for: "m")
        #expect(estimator.corrected(100, for: "m") == 221)
        #expect(estimator.corrected(100, for: "other") == 125)
        for _ in 0..<200 {
            estimator.learn(1000, actual: 800, for: "m")
            #expect(estimator.corrected(1000, for: "m") >= 800)
        }
        #expect(estimator.corrected(1000, for: "m") < 900)
        estimator.learn(10, actual: 10_000, for: "m")
        #expect(estimator.corrected(1000, for: "m") < 900)
        estimator.learn(100, actual: 1 << 60, for: "m")
        #expect(estimator.corrected(.max, for: "m") > 0)
    }
}
