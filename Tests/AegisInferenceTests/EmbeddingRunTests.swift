import AegisCore
import AegisJSON
import AegisStore
import AegisTestSupport
import Testing

@testable import AegisInference

/// Calls for vectors: they wait for turns, are paid for, asked again and told of as questions are.
@Suite struct EmbeddingRunTests {
    /// A provider that takes a time and fails, as often as it is told.
    private final class Peer: ModelProvider {
        let name = "main"
        let asked = Kept<[[String]]>([])
        let failures: Kept<Int>
        /// How many requests it answers before it fails.
        private let spared: Int
        private let clock: TestClock
        private let time: Duration
        private let error: ModelError

        init(
            _ clock: TestClock, after time: Duration = .zero, sparing spared: Int = 0, failing failures: Int = .max,
            with error: ModelError = ModelError(.network, "the connection broke")
        ) {
            (self.clock, self.time, self.error) = (clock, time, error)
            self.spared = spared
            self.failures = Kept(failures)
        }

        func complete(
            _ request: ModelRequest, onDelta: @Sendable (ModelDelta) -> Void
        ) async throws(ModelError) -> ModelReply { throw error }

        func embed(_ question: EmbeddingQuestion) async throws(ModelError) -> EmbeddingReply {
            let count = asked.change { asked in
                asked.append(question.texts)
                return asked.count
            }
            clock.advance(by: time)
            let fails = failures.change { left in
                left -= 1
                return left >= 0
            }
            if fails, count > spared { throw error }
            return EmbeddingReply(points: question.texts.map { _ in [1] }, usage: TokenUsage(input: 100))
        }
    }

    private struct Notes: InferenceObserver {
        let steps = Kept<[InferenceStep]>([])
        var isFull = false
        func record(_ step: InferenceStep) throws(AegisError) {
            if isFull { throw .failed("ledger-full", "no space") }
            steps.change { $0.append(step) }
        }
        var kinds: [String] { steps.value.map(\.kind.rawValue) }
    }

    private struct Stage {
        let clock: TestClock
        let peer: Peer
        let notes: Notes
        let book: BudgetBook
        let service: InferenceService
        private let folder: TemporaryDirectory

        init(_ clock: TestClock, _ peer: Peer, limit: BudgetLimit = .none, isFull: Bool = false) throws {
            (self.clock, self.peer, folder) = (clock, peer, try TemporaryDirectory())
            notes = Notes(isFull: isFull)
            let time = InferenceTime(clock: clock, wall: { Timestamp(milliseconds: 1_000_000) })
            let database = try Database.open(
                path: folder.path("b.db"), applicationID: 0x7465_7374,
                migrations: [BudgetBook.migration, BudgetBook.grantMigration])
            book = try BudgetBook(database, time: time)
            try book.open(.agent("p"), limit: limit)
            try book.open(.agent("a"), parent: .agent("p"))
            let backend = InferenceBackend(
                peer, schedule: SchedulePolicy(concurrent: 1), timeout: .seconds(300), time: time)
            service = try InferenceService(
                catalog: ModelCatalog(models: [], fallback: []), backends: ["main": backend], budgets: book,
                retry: RetryPolicy(), time: time, observer: notes)
        }

        func request(_ texts: [String] = ["a"], price: ModelPrice? = nil, isPaid: Bool = true) -> EmbeddingRequest {
            EmbeddingRequest(
                texts, provider: "main", model: "e", price: price,
                caller: isPaid ? CallerID(agent: "a", tree: "p") : nil, agentName: "ann", patience: .seconds(30),
                bill: ModelBill())
        }

        /// Asks; time moves whenever everybody waits for a pause between two calls.
        func ask(_ request: EmbeddingRequest) async -> Result<[[Float]], AegisError> {
            let result = Kept<Result<[[Float]], AegisError>?>(nil)
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    do throws(AegisError) {
                        let points = try await service.embed(request)
                        result.change { $0 = .success(points) }
                    } catch {
                        result.change { $0 = .failure(error) }
                    }
                }
                while result.value == nil {
                    if let next = clock.deadlines.first, next - clock.now.offset <= .seconds(5) {
                        clock.advance(by: next - clock.now.offset)
                    }
                    await Task.yield()
                }
            }
            return result.value ?? .failure(.usage("nothing"))
        }
        var isQuiet: Bool {
            service.counts(of: "main") ?? (1, 1) == (0, 0) && book.reports().allSatisfy { $0.reservedTokens == 0 }
        }
    }

    private func code(_ result: Result<[[Float]], AegisError>) -> String? {
        do {
            _ = try result.get()
            return nil
        } catch { return error.code }
    }

    @Test(arguments: [(Duration.zero, 4), (.seconds(12), 3), (.seconds(29), 2)])
    func itIsAskedAgainUntilItsTimeIsOver(_ time: Duration, _ count: Int) async throws {
        let clock = TestClock()
        let stage = try Stage(clock, Peer(clock, after: time))
        let error = await #expect(throws: AegisError.self) { try await stage.ask(stage.request()).get() }
        #expect(error?.code == "embedding-failed" && error?.message.contains("main/e' failed: the con") == true)
        #expect(stage.peer.asked.value.count == count && stage.isQuiet)
        // No model has worked on it.
        #expect(stage.book.report(.agent("a"))?.usedTokens == 0)
        #expect(stage.notes.kinds.count(where: { $0 == "model_call_retried" }) == count - 1)
    }

    /// What a goal wants is of no use once that is over: it does not wait for a turn, nor for a pause, beyond that.
    @Test func itMayHaveLessTime() async throws {
        let clock = TestClock()
        let stage = try Stage(clock, Peer(clock, after: .seconds(12)))
        var request = stage.request()
        // Its patience alone would do for a third call.
        request.timeLimit = .seconds(20)
        #expect(code(await stage.ask(request)) == "embedding-failed")
        #expect(stage.peer.asked.value.count == 2 && stage.isQuiet)
        request.timeLimit = .zero
        #expect(code(await stage.ask(request)) == "inference-deadline")
        #expect(stage.peer.asked.value.count == 2 && stage.notes.kinds.last == "inference_refused")
    }

    /// However many requests it takes: the time is counted from the first one.
    @Test func theTimeOfAllPortionsIsOne() async throws {
        let clock = TestClock()
        let stage = try Stage(clock, Peer(clock, after: .seconds(16), sparing: 1))
        #expect(code(await stage.ask(stage.request((0..<70).map { "text \($0)" }))) == "embedding-failed")
        #expect(stage.peer.asked.value.map(\.count) == [64, 6] && stage.isQuiet)
    }

    @Test func whoIsCancelledInAPauseAsksNoMore() async throws {
        let clock = TestClock()
        let stage = try Stage(clock, Peer(clock))
        let work = Task { try await stage.service.embed(stage.request()) }
        // The pause is the only one that waits for less than a call may take.
        while clock.deadlines.first.map({ $0 - clock.now.offset > .seconds(5) }) ?? true { await Task.yield() }
        work.cancel()
        let error = await #expect(throws: AegisError.self) { try await work.value }
        #expect(error?.code == "inference-cancelled")
        #expect(stage.peer.asked.value.count == 1 && stage.isQuiet)
    }

    @Test func whatItTakesIsBookedUpTheTree() async throws {
        let clock = TestClock()
        let stage = try Stage(clock, Peer(clock, failing: 1, with: ModelError(.rateLimited, "slow")))
        let texts = (0..<70).map { "text \($0)" }
        let request = stage.request(texts, price: ModelPrice(input: 2_000_000, output: 0))
        #expect(try await stage.ask(request).get().count == 70)
        // The first portion twice, then the second.
        #expect(
            stage.peer.asked.value == [Array(texts.prefix(64)), Array(texts.prefix(64)), Array(texts.dropFirst(64))])
        for owner in ["a", "p"] {
            let account = try #require(stage.book.report(.agent(owner)))
            #expect(account.usedTokens == 200 && account.usedMicroUSD == 400 && account.calls == 3)
        }
        let used = try #require(request.bill?.used)
        #expect(used == (200, 400) && stage.isQuiet)
        let steps = stage.notes.steps.value
        #expect(
            steps.map(\.kind) == [.started, .failed, .retried, .started, .answered, .started, .answered])
        let last = JSONValue.object(try #require(steps.last).fields)
        #expect(last["embeddings"] == 6 && last["cost_usd"] == "0.0002" && last["usage"]?["input"] == 100)
        #expect(steps.last?.agentName == "ann" && steps.last?.attempt == 3)
    }

    @Test func aBudgetRefusesBeforeAnythingIsSent() async throws {
        let clock = TestClock()
        let stage = try Stage(clock, Peer(clock, failing: 0), limit: BudgetLimit(maxTokens: 90))
        #expect(code(await stage.ask(stage.request())) == nil)
        // The provider counted more than was left: that is booked, and the next one is refused, by whoever has the limit.
        let refused = await stage.ask(stage.request())
        #expect(code(refused) == "budget-exceeded" && "\(refused)".contains("agent:p"))
        #expect(stage.peer.asked.value.count == 1 && stage.isQuiet)
        #expect(stage.notes.kinds.last == "budget_refused")
        // A person's request is nobody's budget.
        let request = stage.request(isPaid: false)
        #expect(code(await stage.ask(request)) == nil && request.bill?.used.tokens == 100)
        #expect(stage.book.report(.agent("p"))?.usedTokens == 100 && stage.notes.steps.value.last?.caller == nil)
    }

    @Test func moneyIsNotSpentOnAModelWithoutAPrice() async throws {
        let clock = TestClock()
        let stage = try Stage(clock, Peer(clock, failing: 0), limit: BudgetLimit(maxMicroUSD: 1000))
        #expect(code(await stage.ask(stage.request())) == "budget-needs-price")
        #expect(code(await stage.ask(stage.request(price: .free))) == nil)
        #expect(stage.peer.asked.value.count == 1 && stage.isQuiet)
    }

    @Test func whatCannotBeToldIsNotSent() async throws {
        let clock = TestClock()
        let stage = try Stage(clock, Peer(clock, failing: 0), isFull: true)
        #expect(code(await stage.ask(stage.request())) == "ledger-full")
        #expect(stage.peer.asked.value.isEmpty && stage.isQuiet)
    }

    @Test func whatATimeIsOverForMayHaveCostSomething() async throws {
        let clock = TestClock()
        let stage = try Stage(clock, Peer(clock, with: ModelError(.badAnswer, "no")))
        #expect(code(await stage.ask(stage.request([String(repeating: "x", count: 400)]))) == "embedding-failed")
        // Four calls, of 125 tokens each as we count them.
        #expect(stage.book.report(.agent("p"))?.usedTokens == 500 && stage.isQuiet)
    }
}
