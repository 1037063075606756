internal import AegisCore
internal import AegisJSON

/// One question on its way from model to model.
struct InferenceRun {
    private let service: InferenceService
    private let request: InferenceRequest
    private let onDelta: (@Sendable (ModelDelta) -> Void)?
    private let onRestart: (@Sendable () -> Void)?
    /// When all of it must be over.
    private let limit: Duration
    private var attempts = 0
    /// Whether pieces were shown that the next answer does not continue.
    private var hasShown = false
    /// The provider that the conversation is meant for.
    private var home = ""

    /// How the attempts at one model have ended.
    private enum Course {
        case answered(InferenceReply)
        case next(ModelError, largerWindow: Bool)
        case ended(ModelError)
    }

    init(
        service: InferenceService, request: InferenceRequest, onDelta: (@Sendable (ModelDelta) -> Void)?,
        onRestart: (@Sendable () -> Void)?
    ) {
        self.service = service
        self.request = request
        self.onDelta = onDelta
        self.onRestart = onRestart
        limit = service.time.now + min(service.retry.total, request.timeLimit ?? service.retry.total)
    }

    /// Asks one model after the other.
    mutating func answer(from chain: [ModelEntry]) async throws(AegisError) -> InferenceReply {
        var last: Failure?
        // What is told when all have failed.
        var told: Failure?
        var tooSmall = 0
        home = chain.first?.provider ?? ""
        for entry in chain where entry.contextWindow > tooSmall {
            if let last {
                try tell(
                    .fellBack, entry, [("from", .string(last.entry.id)), ("error", .string(last.error.kind.word))])
            }
            switch try await ask(entry) {
            case .answered(let reply): return reply
            case .ended(let error): throw visible(Self.told((entry, error), after: told))
            case .next(let error, let largerWindow):
                last = (entry, error)
                told = Self.told((entry, error), after: told)
                if largerWindow { tooSmall = max(tooSmall, entry.contextWindow) }
            }
        }
        guard let told else { throw AegisError(.notFound, "model-unknown", "no model is called '\(request.alias)'") }
        throw visible(told)
    }

    private typealias Failure = (entry: ModelEntry, error: ModelError)

    /// Which of two failures is told. That a fallback is too small for a question is no word on the question: whoever asks is told
    /// that it is too long only when the model that was asked first has said so, and nothing else was in the way.
    private static func told(_ failure: Failure, after earlier: Failure?) -> Failure {
        failure.error.kind == .contextTooLong ? earlier ?? failure : failure
    }

    /// Asks one model as often as the policy says.
    private mutating func ask(_ entry: ModelEntry) async throws(AegisError) -> Course {
        guard let backend = service.backends[entry.provider] else { preconditionFailure("the service checked that") }
        var machine = RetryMachine(service.retry, limit: limit)
        var random = service.random
        while true {
            if hasShown {
                onRestart?()
                hasShown = false
            }
            let error: ModelError
            switch try await attempt(entry, backend) {
            case .success(let reply): return .answered(reply)
            case .failure(let failure): error = failure
            }
            if case .rateLimited(let pause?) = error.kind {
                backend.scheduler.hold(for: min(pause, service.retry.longestRetryAfter))
            }
            let verdict = machine.failed(
                error, isFinal: hasShown && onRestart == nil, at: service.time.now, using: &random)
            switch verdict {
            case .end: return .ended(error)
            case .fallBack(let largerWindow): return .next(error, largerWindow: largerWindow)
            case .retry(let pause):
                try tell(
                    .retried, entry,
                    [("error", .string(error.kind.word)), ("after_ms", .number(pause.milliseconds))])
                do { try await service.time.sleep(for: pause) } catch {
                    return .ended(ModelError(.cancelled, "the caller gave up"))
                }
            }
        }
    }

    // MARK: One attempt

    /// Waits for a turn, takes from the budget, asks once and books.
    private mutating func attempt(
        _ entry: ModelEntry, _ backend: InferenceBackend
    ) async throws(AegisError) -> Result<InferenceReply, ModelError> {
        var question = request.forModel(entry.model, maxOutputTokens: 1)
        // What a model thought is signed by its provider: another one refuses the signature.
        if entry.provider != home { question.dropReasoning() }
        let raw = TokenEstimator.raw(question)
        let input = service.estimator.corrected(raw, for: entry.id)
        // Our count is on the safe side: where it says that nothing fits, the provider may know better.
        let room = max(entry.contextWindow - input, entry.contextWindow / 20, 1)
        let wanted = max(1, min(request.maxOutputTokens ?? .max, entry.section.maxOutputTokens, room))
        attempts += 1
        while true {
            let permit = try await turn(at: backend, entry, tokens: input.saturatingAdd(wanted))
            let mark = service.budgets.settlements
            let reserved = try service.budgets.reserve(
                request.caller, input: input, wantedOutput: wanted, price: entry.section.price)
            switch reserved {
            case .failure(let refusal):
                permit.release(used: 0)
                guard refusal.kind == .occupied else { throw try refused(refusal, entry) }
                // Others have what is left and may give it back: nobody's turn is held meanwhile.
                await settlement(after: mark)
                if Task.isCancelled { return .failure(ModelError(.cancelled, "the caller gave up")) }
                guard service.time.now < limit else { throw try late(refusal, entry) }
            case .success(let reservation):
                question.maxOutputTokens = reservation.outputTokens
                let result: Result<Outcome, AegisError>
                do throws(AegisError) {
                    result = .success(try await call(question, raw, entry, backend, reservation))
                } catch {
                    result = .failure(error)
                }
                permit.release(used: (try? result.get())?.used)
                let outcome = try result.get()
                return outcome.reply
            }
        }
    }

    /// Waits until another call gives something back, or the time is over.
    private func settlement(after mark: UInt64) async {
        let (budgets, time, limit) = (service.budgets, service.time, limit)
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await budgets.settlement(after: mark) }
            group.addTask { try? await time.sleep(for: max(.zero, limit - time.now)) }
            await group.next()
            group.cancelAll()
        }
    }

    private struct Outcome {
        var reply: Result<InferenceReply, ModelError>
        var used: Int
    }

    private func turn(
        at backend: InferenceBackend, _ entry: ModelEntry, tokens: Int
    ) async throws(AegisError) -> SchedulePermit {
        do throws(ScheduleRefusal) {
            return try await backend.scheduler.acquire(
                ScheduleTicket(
                    agent: request.caller.agent, weight: request.weight, priority: request.priority, tokens: tokens,
                    deadline: limit))
        } catch {
            let failure = visible(error, entry)
            try tell(.queueRefused, entry, [("error", .string(failure.code))])
            throw failure
        }
    }

    /// Asks, and books what it has cost, however it ends.
    private mutating func call(
        _ question: ModelRequest, _ raw: Int, _ entry: ModelEntry, _ backend: InferenceBackend,
        _ reservation: BudgetReservation
    ) async throws(AegisError) -> Outcome {
        do throws(AegisError) {
            try tell(
                .started, entry,
                [
                    ("input_tokens", .number(reservation.inputTokens)),
                    ("max_output_tokens", .number(reservation.outputTokens)),
                    ("reserved_usd", .string(dollars(reservation.microUSD))),
                ])
        } catch {
            try service.budgets.release(reservation)
            throw error
        }
        let meter = StreamMeter()
        let result = await timed(question, backend, meter)
        if meter.hasBegun, onDelta != nil { hasShown = true }
        let usage = usage(of: result, reservation, meter)
        let cost = entry.section.price?.cost(of: usage)
        request.bill?.add(tokens: usage.total, microUSD: cost ?? 0)
        try service.budgets.settle(reservation, usage: usage, microUSD: cost ?? 0)
        if !usage.isEstimated { service.estimator.learn(raw, actual: usage.totalInput, for: entry.id) }
        let fields = [
            ("usage", (try? JSONValue(encoding: usage)) ?? .null),
            ("cost_usd", cost.map { .string(dollars($0)) } ?? .null),
        ]
        switch result {
        case .success(var reply):
            reply.usage = usage
            try tell(.answered, entry, fields + [("stop", .string(reply.stop.word))])
            return Outcome(
                reply: .success(
                    InferenceReply(
                        reply: reply, provider: entry.provider, model: entry.model, costMicroUSD: cost,
                        attempts: attempts)),
                used: max(1, usage.total))
        case .failure(let error):
            try tell(
                .failed, entry, fields + [("error", .string(error.kind.word)), ("message", .string(error.message))])
            return Outcome(reply: .failure(error), used: max(1, usage.total))
        }
    }

    /// Asks, for as long as one attempt and the whole question may take.
    private func timed(
        _ question: ModelRequest, _ backend: InferenceBackend, _ meter: StreamMeter
    ) async -> Result<ModelReply, ModelError> {
        let allowed = max(.zero, min(backend.timeout, limit - service.time.now))
        let (time, provider, onDelta) = (service.time, backend.provider, onDelta)
        return await withTaskGroup(of: Result<ModelReply, ModelError>?.self) { group in
            group.addTask {
                do throws(ModelError) {
                    return .success(
                        try await provider.complete(question) { delta in
                            meter.count(delta)
                            onDelta?(delta)
                        })
                } catch {
                    return .failure(error)
                }
            }
            group.addTask {
                try? await time.sleep(for: allowed)
                return nil
            }
            let first = await group.next() ?? nil
            group.cancelAll()
            if let first { return first }
            // The time is over, or the caller gave up; an answer that came in the same moment counts.
            let last = await group.next() ?? nil
            if case .success? = last { return last ?? .failure(ModelError(.timeout, "")) }
            return .failure(
                Task.isCancelled
                    ? ModelError(.cancelled, "the caller gave up")
                    : ModelError(.timeout, "no answer within \(allowed.words)"))
        }
    }

    /// What a call is billed with: what the provider says, else what we count, else, where it may have begun to work, the question.
    private func usage(
        of result: Result<ModelReply, ModelError>, _ reservation: BudgetReservation, _ meter: StreamMeter
    ) -> TokenUsage {
        switch result {
        case .success(let reply) where reply.usage.total > 0: return reply.usage
        case .success(let reply):
            let output = TokenEstimator.raw(reply.message)
            return TokenUsage(input: reservation.inputTokens, output: max(output, meter.tokens), isEstimated: true)
        case .failure(let error):
            switch error.kind {
            case .auth, .notFound, .rateLimited, .overloaded, .invalidRequest, .contextTooLong: return .zero
            case .network where !meter.hasBegun: return .zero
            case .network, .timeout, .cutStream, .badAnswer, .cancelled:
                return TokenUsage(input: reservation.inputTokens, output: meter.tokens, isEstimated: true)
            }
        }
    }

    // MARK: What is told

    private func tell(
        _ kind: InferenceStep.Kind, _ entry: ModelEntry, _ fields: [(String, JSONValue)]
    ) throws(AegisError) {
        try service.observer.record(
            InferenceStep(
                kind: kind, caller: request.caller, agentName: request.agentName, provider: entry.provider,
                model: entry.model, attempt: attempts, fields: fields.map { JSONValue.Field($0.0, $0.1) }))
    }

    /// The error of a budget, once it is kept on record.
    private func refused(_ refusal: BudgetRefusal, _ entry: ModelEntry) throws(AegisError) -> AegisError {
        try tell(
            .budgetRefused, entry, [("owner", .string("\(refusal.owner)")), ("why", .string(refusal.message))])
        if refusal.kind == .priceUnknown {
            return AegisError(
                .denied, "budget-needs-price",
                "\(refusal.owner) has a budget of money, and \(entry.id) has no price",
                hint: "set input_per_mtok and output_per_mtok of the model in the configuration")
        }
        return AegisError(
            .denied, "budget-exceeded", "the budget of \(refusal.owner) is used up: \(refusal.message)",
            hint: "end the work here, or ask for a larger budget")
    }

    /// The error of a budget that others held for too long, once it is kept on record.
    private func late(_ refusal: BudgetRefusal, _ entry: ModelEntry) throws(AegisError) -> AegisError {
        try tell(.queueRefused, entry, [("error", "inference-deadline"), ("owner", .string("\(refusal.owner)"))])
        return AegisError(
            .timeout, "inference-deadline",
            "calls under way have held what is left of the budget of \(refusal.owner) until the time was over")
    }

    private func visible(_ refusal: ScheduleRefusal, _ entry: ModelEntry) -> AegisError {
        switch refusal {
        case .full(let count):
            AegisError(
                .unavailable, "inference-queue-full",
                "\(count) calls wait for the provider '\(entry.provider)' already",
                hint: "try again later, or raise max_concurrent or max_waiting of the provider")
        case .late(let wait):
            AegisError(
                .timeout, "inference-deadline",
                "the provider '\(entry.provider)' has no turn in time: in \(wait.words) at the earliest")
        case .expired:
            AegisError(.timeout, "inference-deadline", "no turn at the provider '\(entry.provider)' came in time")
        case .cancelled: AegisError(.failed, "inference-cancelled", "the caller gave up")
        }
    }

    private func visible(_ failure: Failure) -> AegisError {
        let (entry, error) = failure
        let count = attempts > 1 ? " (after \(attempts) attempts)" : ""
        return error.visible("\(entry.id): \(error)\(count)", provider: entry.provider)
    }
}
