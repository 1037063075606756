import AegisConfig
import AegisCore
import AegisJSON
import AegisStore
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisInference

/// Keeps the steps it is told, or refuses one kind of them.
private struct Notes: InferenceObserver {
    let steps = Kept<[InferenceStep]>([])
    var refuses: InferenceStep.Kind?

    func record(_ step: InferenceStep) throws(AegisError) {
        if step.kind == refuses { throw .failed("ledger-full", "no space") }
        steps.change { $0.append(step) }
    }
    var kinds: [String] { steps.value.map { "\($0.kind.rawValue) \($0.provider)/\($0.model)" } }
}

/// Two scripted providers, `main` and `spare`, with one clock.
private final class ServiceFixture: Sendable {
    let clock = TestClock()
    let notes: Notes
    let book: BudgetBook
    let service: InferenceService
    private let folder: TemporaryDirectory

    init(
        main: String, spare: String = "  - reply: { text: spare }\n", refuses: InferenceStep.Kind? = nil,
        concurrent: Int = 2, maxWaiting: Int = 10, record: String? = nil,
        price: String = ", input_per_mtok: 1, output_per_mtok: 2"
    ) throws {
        folder = try TemporaryDirectory()
        notes = Notes(refuses: refuses)
        let time = InferenceTime(clock: clock, wall: { Timestamp(milliseconds: 1_000_000) })
        let database = try Database.open(
            path: folder.path("b.db"), applicationID: 0x7465_7374,
            migrations: [BudgetBook.migration, BudgetBook.grantMigration])
        book = try BudgetBook(database, time: time)
        let config = try modelConfig(
            """
            llm_providers:
              - name: main
                type: scripted
                scenario: s
                models: [{ alias: default, model: m, context_window: 10000, max_output_tokens: 1000\(price) }]
              - name: spare
                type: scripted
                scenario: s
                models: [{ alias: same, model: n, context_window: 10000 }, { alias: large, model: l, context_window: 20000 }]
            llm_selection:
              fallback: { default: [same, large] }
              max_retries: 2
              retry_delay: 1s
            """)
        var backends: [String: InferenceBackend] = [:]
        for (name, rules) in [("main", main), ("spare", spare)] {
            var provider: any ModelProvider = try scripted(rules, name: name, clock: clock)
            if let record { provider = try RecordingProvider(provider, path: record) }
            backends[name] = InferenceBackend(
                provider,
                schedule: SchedulePolicy(concurrent: concurrent, maxWaiting: maxWaiting), timeout: .seconds(300),
                time: time)
        }
        service = try InferenceService(
            catalog: ModelCatalog(providers: config.providers, selection: config.selection), backends: backends,
            budgets: book, retry: config.selection.retry, time: time, chance: { 1 }, observer: notes)
    }

    func request(_ text: String = "go", alias: String = "default", max: Int? = nil, agent: String = "a")
        -> InferenceRequest
    {
        InferenceRequest(
            alias: alias, messages: [.user(text)], maxOutputTokens: max, caller: CallerID(agent: agent, tree: "t"),
            agentName: agent)
    }

    /// Answers a question; time moves whenever everybody waits for less than a minute.
    func ask(
        _ request: InferenceRequest, onDelta: (@Sendable (ModelDelta) -> Void)? = nil,
        onRestart: (@Sendable () -> Void)? = nil,
        patience: Duration = .seconds(60)
    ) async -> Result<InferenceReply, AegisError> {
        let result = Kept<Result<InferenceReply, AegisError>?>(nil)
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                do throws(AegisError) {
                    let reply = try await self.service.complete(request, onDelta: onDelta, onRestart: onRestart)
                    result.change { $0 = .success(reply) }
                } catch {
                    result.change { $0 = .failure(error) }
                }
            }
            while result.value == nil {
                if let next = clock.deadlines.first, next - clock.now.offset <= patience {
                    clock.advance(by: next - clock.now.offset)
                }
                await Task.yield()
            }
        }
        return result.value ?? .failure(.usage("nothing"))
    }
    /// Nothing is under way or held.
    var isQuiet: Bool {
        ["main", "spare"].allSatisfy { service.counts(of: $0) ?? (1, 1) == (0, 0) }
            && book.reports().allSatisfy { $0.reservedTokens == 0 }
    }
}

@Suite struct InferenceServiceTests {
    private func code(_ result: Result<InferenceReply, AegisError>) -> String {
        do { return "answered: \(try result.get().reply.text)" } catch { return error.code }
    }

    @Test func aQuestionIsAnsweredBookedAndPriced() async throws {
        let fixture = try ServiceFixture(
            main: "  - reply: { text: hello, usage: { input: 100, output: 50, cache_read: 10 } }\n")
        let pieces = Kept<[ModelDelta]>([])
        let reply = try await fixture.ask(fixture.request(), onDelta: { delta in pieces.change { $0.append(delta) } })
            .get()
        #expect(reply.reply.text == "hello" && reply.provider == "main" && reply.model == "m" && reply.attempts == 1)
        #expect(reply.costMicroUSD == 210 && pieces.value == [.text("hello")])
        #expect(fixture.notes.kinds == ["model_call_started main/m", "model_call_answered main/m"])
        let account = try #require(fixture.book.report(.tree("t")))
        #expect(account.usedTokens == 160 && account.usedMicroUSD == 210 && account.calls == 1)
        #expect(fixture.book.report(.agent("a"))?.usedTokens == 160 && fixture.isQuiet)
        // The provider counted more than we did: the next count is higher.
        #expect(fixture.service.estimator.corrected(100, for: "main/m") == 125)
    }

    /// What allows a question is asked whenever a turn has come, and says before each further attempt what that may take.
    @Test func whatIsNotAllowedAnyMoreIsNotAskedAgain() async throws {
        let rules = "  - { times: 2, fail: { status: 429, retry_after: 20s } }\n  - reply: { text: ok }\n"
        let over = AegisError(.denied, "grant-expired", "its time is over")
        for (badCheck, badAttempt, expected, calls) in [
            (9, 9, "answered: ok", 3), (2, 9, "grant-expired", 1), (9, 1, "grant-expired", 1),
            (9, 2, "grant-expired", 2),
        ] {
            let fixture = try ServiceFixture(main: rules)
            let (checks, attempts) = (Kept(0), Kept(0))
            var request = fixture.request(max: 50)
            request.leave = InferenceLeave(
                check: { () throws(AegisError) in
                    checks.change { $0 += 1 }
                    if checks.value == badCheck { throw over }
                },
                again: { () throws(AegisError) in
                    attempts.change { $0 += 1 }
                    if attempts.value == badAttempt { throw over }
                    return 50 - attempts.value
                },
                isRevoked: {
                    await untilCancelled()
                    return false
                })
            #expect(self.code(await fixture.ask(request)) == expected)
            let started = fixture.notes.steps.value.filter { $0.kind == .started }
            let lengths = started.map { step in step.fields.first { $0.name == "max_output_tokens" }?.value }
            #expect(lengths == [50, 49, 48].prefix(calls).map { .number($0) } && fixture.isQuiet)
        }
    }

    @Test(arguments: ["  - { fail: { hang: true } }\n", "  - { fail: { status: 429, retry_after: 20s } }\n"])
    func aQuestionEndsWhenItIsNotAllowedAnyMore(_ rules: String) async throws {
        let fixture = try ServiceFixture(main: rules)
        let isRevoked = Kept(false)
        var request = fixture.request()
        request.leave = InferenceLeave(
            check: {}, again: { 1 },
            isRevoked: {
                while !isRevoked.value, !Task.isCancelled { await Task.yield() }
                return isRevoked.value
            })
        async let answer = fixture.ask(request, patience: .zero)
        let last = rules.contains("hang") ? "model_call_started" : "model_call_retried"
        while fixture.notes.kinds.last?.hasPrefix(last) != true { await Task.yield() }
        isRevoked.change { $0 = true }
        #expect(code(await answer) == "inference-cancelled" && fixture.isQuiet)
    }

    @Test func whatFailsForAMomentIsAskedAgainAfterThePauseThatWasAskedFor() async throws {
        let fixture = try ServiceFixture(
            main:
                "  - { times: 1, fail: { status: 429, retry_after: 20s } }\n  - { times: 1, fail: { status: 503 } }\n  - reply: { text: ok }\n"
        )
        let reply = try await fixture.ask(fixture.request()).get()
        #expect(reply.attempts == 3 && reply.reply.text == "ok" && fixture.clock.now.offset >= .seconds(21))
        #expect(
            fixture.notes.kinds.map { $0.split(separator: " ")[0] } == [
                "model_call_started", "model_call_failed", "model_call_retried", "model_call_started",
                "model_call_failed",
                "model_call_retried", "model_call_started", "model_call_answered",
            ])
        #expect(fixture.book.report(.agent("a"))?.calls == 3)
    }

    @Test func whatFailsForGoodIsAskedElsewhere() async throws {
        for failure in ["{ status: 401 }", "{ status: 404 }", "{ status: 500 }", "{ error: network }"] {
            let fixture = try ServiceFixture(main: "  - { fail: \(failure) }\n")
            let reply = try await fixture.ask(fixture.request()).get()
            #expect(reply.provider == "spare" && reply.model == "n" && reply.reply.text == "spare")
            #expect(fixture.notes.kinds.contains("model_fell_back spare/n") && fixture.isQuiet)
        }
    }

    @Test func aConversationThatIsTooLongGoesToALargerWindowOnly() async throws {
        let fixture = try ServiceFixture(main: "  - { fail: { error: context_too_long } }\n")
        #expect(try await fixture.ask(fixture.request()).get().model == "l")
    }

    /// Whoever asks makes its question smaller for good: not for a fallback that was merely asked because the first was busy.
    @Test func thatAFallbackIsTooSmallIsNotToldInPlaceOfAnotherFailure() async throws {
        let tooLong = "  - { fail: { error: context_too_long } }\n"
        let busy = try ServiceFixture(main: "  - { fail: { status: 503 } }\n", spare: tooLong)
        #expect(code(await busy.ask(busy.request())) == "model-overloaded")
        #expect(busy.notes.kinds.last == "model_call_failed spare/l" && busy.isQuiet)
        let long = try ServiceFixture(main: tooLong, spare: tooLong)
        let result = await long.ask(long.request())
        #expect(code(result) == "context-too-long")
        guard case .failure(let error) = result else { return }
        #expect(error.message.hasPrefix("main/m: "), "\(error.message)")
    }

    @Test func whatEveryModelWouldRefuseEnds() async throws {
        let fixture = try ServiceFixture(main: "  - { fail: { status: 400, message: bad field } }\n")
        let result = await fixture.ask(fixture.request())
        #expect(
            result
                == .failure(
                    AegisError(.usage, "model-invalid-request", "main/m: bad field (invalid_request, HTTP 400)")))
        #expect(code(await fixture.ask(fixture.request(alias: "defalt"))) == "model-unknown")
    }

    @Test func whatAModelThoughtStaysWithItsProvider() async throws {
        let rules = "  - { when: { turn: 2 }, fail: { status: 401 } }\n"
        let folder = try TemporaryDirectory()
        let fixture = try ServiceFixture(main: rules, record: folder.path("r"))
        var request = fixture.request()
        request.messages += [
            ModelMessage(.assistant, [.reasoning(text: "hm", signature: "s"), .text("so")]), .user("and?"),
        ]
        #expect(try await fixture.ask(request).get().provider == "spare")
        let lines = try Files.read(folder.path("r"), limit: 1 << 20).split(separator: 10)
        let blocks = try lines.map { try JSONValue(parsing: $0)["request"]?["messages"]?.elements?[1]["blocks"] }
        #expect(blocks.map { $0?.elements?.count } == [2, 1])
        // A fallback's own thoughts go to it, and not to the one that the conversation is meant for.
        request.messages[1].blocks[0] = .reasoning(text: "hm", signature: "s", provider: "spare")
        _ = try await fixture.ask(request).get()
        let more = try Files.read(folder.path("r"), limit: 1 << 20).split(separator: 10).dropFirst(lines.count)
        let others = try more.map { try JSONValue(parsing: $0)["request"]?["messages"]?.elements?[1]["blocks"] }
        #expect(others.map { $0?.elements?.count } == [1, 2])
        #expect(others.last??.elements?.first == ["type": "reasoning", "text": "hm", "signature": "s"])
    }

    @Test func theLastFailureIsTheAnswerWhenNobodyCan() async throws {
        let fixture = try ServiceFixture(
            main: "  - { fail: { status: 401 } }\n", spare: "  - { fail: { status: 503, message: busy } }\n")
        guard case .failure(let error) = await fixture.ask(fixture.request()) else { return #expect(Bool(false)) }
        #expect(error.code == "model-overloaded" && error.message.hasPrefix("spare/l: busy") && fixture.isQuiet)
        #expect(error.message.hasSuffix("(after 7 attempts)"))
    }

    @Test func anAgentThatHasUsedItsBudgetIsStopped() async throws {
        let fixture = try ServiceFixture(main: "  - reply: { text: '\(String(repeating: "long ", count: 400))' }\n")
        try fixture.book.open(.agent("a"), limit: BudgetLimit(maxTokens: 300))
        let first = try await fixture.ask(fixture.request()).get()
        // The model was told what is left, and wrote no more.
        #expect(first.reply.stop == .maxTokens && first.reply.usage.total <= 300)
        let result = await fixture.ask(fixture.request())
        #expect(code(result) == "budget-exceeded" && fixture.isQuiet)
        #expect(fixture.notes.kinds.last == "budget_refused main/m")
        #expect(fixture.book.report(.agent("a"))?.refusals == 1)
        // Another agent of the same tree goes on.
        #expect(try await fixture.ask(fixture.request(agent: "b")).get().attempts == 1)
    }

    @Test func aBudgetOfMoneyIsNeverSpentOnAModelWithoutPrice() async throws {
        let spare = try ServiceFixture(main: "  - reply: { text: x }\n", price: "")
        try spare.book.open(.tree("t"), limit: BudgetLimit(maxMicroUSD: 0))
        // Scripted models are free; a remote one without a price is not.
        #expect(code(await spare.ask(spare.request())) == "answered: x")
        let paid = try ServiceFixture(main: "  - reply: { text: x }\n")
        try paid.book.open(.tree("t"), limit: BudgetLimit(maxMicroUSD: 10))
        #expect(code(await paid.ask(paid.request())) == "budget-exceeded")
    }

    @Test func twoThatShareTheRestWaitForEachOther() async throws {
        let fixture = try ServiceFixture(main: "  - { latency: 5s, reply: { text: x } }\n")
        try fixture.book.open(.tree("t"), limit: BudgetLimit(maxTokens: 200))
        async let first = fixture.ask(fixture.request())
        async let second = fixture.ask(fixture.request(agent: "b"))
        let both = await [first, second]
        #expect(both.map(code) == ["answered: x", "answered: x"] && fixture.isQuiet)
    }

    @Test func whatOthersHoldIsNotWaitedForBeyondTheTime() async throws {
        let fixture = try ServiceFixture(main: "  - { fail: { hang: true } }\n")
        try fixture.book.open(.tree("t"), limit: BudgetLimit(maxTokens: 200))
        let hanging = Task { await fixture.ask(fixture.request(), patience: .zero) }
        while fixture.clock.sleeperCount < 2 { await Task.yield() }
        var request = fixture.request(agent: "b")
        request.timeLimit = .seconds(9)
        #expect(code(await fixture.ask(request)) == "inference-deadline")
        #expect(fixture.clock.now.offset == .seconds(9))
        // It cannot be that it would fit: the question alone is larger.
        request.messages = [.user(String(repeating: "x", count: 2000))]
        #expect(code(await fixture.ask(request)) == "budget-exceeded")
        hanging.cancel()
        #expect(code(await hanging.value) == "inference-cancelled" && fixture.isQuiet)
    }

    @Test func theModelsBoundsAndTheBudgetsCutTheAnswer() async throws {
        let fixture = try ServiceFixture(main: "  - reply: { text: x }\n")
        func asked(_ request: InferenceRequest) async -> Int64? {
            _ = await fixture.ask(request)
            let started = fixture.notes.steps.value.last { $0.kind == .started }
            return started?.fields.first { $0.name == "max_output_tokens" }?.value.integer
        }
        #expect(await asked(fixture.request(max: 10)) == 10)
        #expect(await asked(fixture.request(max: 5000)) == 1000)
        #expect(await asked(fixture.request()) == 1000)
        // A window that is nearly full leaves a twentieth at least; the provider has the last word.
        #expect(await asked(fixture.request(String(repeating: "x", count: 40_000))) == 500)
    }

    @Test func whatWasShownIsNotAskedAgainUnlessItCanBeTakenBack() async throws {
        let rules = "  - { times: 1, fail: { cut: 3 }, reply: { text: abcdef } }\n  - reply: { text: whole }\n"
        let fixture = try ServiceFixture(main: rules)
        #expect(code(await fixture.ask(fixture.request(), onDelta: { _ in })) == "model-stream-cut")
        #expect(fixture.notes.kinds == ["model_call_started main/m", "model_call_failed main/m"])
        // What had come was paid for.
        #expect((fixture.book.report(.agent("a"))?.usedTokens ?? 0) > 0)

        let again = try ServiceFixture(main: rules)
        let shown = Kept<[String]>([])
        let reply = await again.ask(
            again.request(), onDelta: { delta in if case .text(let text) = delta { shown.change { $0.append(text) } } },
            onRestart: { shown.change { $0 = ["again"] } })
        #expect(code(reply) == "answered: whole" && shown.value == ["again", "whole"])
        // Whoever is shown nothing does not care.
        let blind = try ServiceFixture(main: rules)
        #expect(code(await blind.ask(blind.request())) == "answered: whole")
    }

    @Test func aProviderThatHangsIsLeftAfterItsTime() async throws {
        let fixture = try ServiceFixture(main: "  - { fail: { hang: true } }\n")
        let reply = try await fixture.ask(fixture.request(), patience: .seconds(300)).get()
        #expect(reply.provider == "spare" && reply.attempts == 4 && fixture.isQuiet)
        let failed = fixture.notes.steps.value.first { $0.kind == .failed }
        #expect(failed?.fields.last?.value == "no answer within 5m")
        // It may have worked all the time: the question is booked.
        #expect((fixture.book.report(.agent("a"))?.total.isEstimated) == true)
    }

    @Test func aQuestionHasItsOwnTimeLimit() async throws {
        let fixture = try ServiceFixture(main: "  - { fail: { hang: true } }\n")
        var request = fixture.request()
        request.timeLimit = .seconds(7)
        #expect(code(await fixture.ask(request)) == "model-timeout")
        #expect(fixture.clock.now.offset == .seconds(7) && fixture.isQuiet)
    }

    @Test func cancellingEndsTheCallAndBooksIt() async throws {
        let fixture = try ServiceFixture(main: "  - { fail: { hang: true } }\n")
        let task = Task { await fixture.ask(fixture.request()) }
        while fixture.service.counts(of: "main")?.running != 1 || fixture.clock.sleeperCount < 2 { await Task.yield() }
        task.cancel()
        #expect(code(await task.value) == "inference-cancelled")
        #expect(fixture.isQuiet && (fixture.book.report(.agent("a"))?.usedTokens ?? 0) > 0)
    }

    @Test func aFullQueueSaysSo() async throws {
        let fixture = try ServiceFixture(main: "  - { fail: { hang: true } }\n", concurrent: 1, maxWaiting: 1)
        let tasks = (0..<2).map { number in Task { await fixture.ask(fixture.request(agent: "a\(number)")) } }
        while fixture.service.counts(of: "main") ?? (0, 0) != (1, 1) { await Task.yield() }
        #expect(code(await fixture.ask(fixture.request())) == "inference-queue-full")
        #expect(fixture.notes.kinds.last == "inference_refused main/m")
        for task in tasks { task.cancel() }
        for task in tasks { #expect(code(await task.value) == "inference-cancelled") }
        #expect(fixture.isQuiet)
    }

    @Test func whatCannotBeKeptOnRecordIsNotAsked() async throws {
        let fixture = try ServiceFixture(main: "  - { times: 1, reply: { text: once } }\n", refuses: .started)
        #expect(code(await fixture.ask(fixture.request())) == "ledger-full")
        #expect(fixture.isQuiet && fixture.book.report(.agent("a"))?.usedTokens == 0)
        let after = try ServiceFixture(main: "  - reply: { text: x }\n", refuses: .answered)
        #expect(code(await after.ask(after.request())) == "ledger-full")
        #expect(after.isQuiet && (after.book.report(.agent("a"))?.usedTokens ?? 0) > 0)
    }
}
