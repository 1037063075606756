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
                try attempt(at: entry).tell(
                    .fellBack, [("from", .string(last.entry.id)), ("error", .string(last.error.kind.word))])
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
            if let pause = error.retryAfter {
                backend.scheduler.hold(for: min(pause, service.retry.longestRetryAfter))
            }
            let verdict = machine.failed(
                error, isFinal: hasShown && onRestart == nil, at: service.time.now, using: &random)
            switch verdict {
            case .end: return .ended(error)
            case .fallBack(let largerWindow): return .next(error, largerWindow: largerWindow)
            case .retry(let pause):
                try attempt(at: entry).tell(
                    .retried, [("error", .string(error.kind.word)), ("after_ms", .number(pause.milliseconds))])
                if let error = await attempt(at: entry).wait(pause) { return .ended(error) }
            }
        }
    }

    // MARK: One attempt

    /// The next call, or the last one, of a model.
    private func attempt(at entry: ModelEntry) -> ModelAttempt {
        ModelAttempt(
            service: service, caller: request.caller, agentName: request.agentName, priority: request.priority,
            limit: limit, provider: entry.provider, model: entry.model,
            price: entry.section.price, number: attempts, leave: request.leave)
    }

    /// Waits for a turn, takes from the budget, asks once and books.
    private mutating func attempt(
        _ entry: ModelEntry, _ backend: InferenceBackend
    ) async throws(AegisError) -> Result<InferenceReply, ModelError> {
        var question = request.forModel(entry.model, maxOutputTokens: 1)
        // What a model thought is signed by its provider: another one refuses the signature.
        question.keepReasoning(of: entry.provider, home: home)
        let raw = TokenEstimator.raw(question)
        let input = service.estimator.corrected(raw, for: entry.id)
        // Our count is on the safe side: where it says that nothing fits, the provider may know better.
        let room = max(entry.contextWindow - input, entry.contextWindow / 20, 1)
        attempts += 1
        // What the attempts before have used is used.
        let allowed = attempts > 1 ? try request.leave?.again() : nil
        let wanted = max(
            1, min(allowed ?? request.maxOutputTokens ?? .max, entry.section.maxOutputTokens, room))
        guard let turn = try await attempt(at: entry).begin(at: backend, input: input, wantedOutput: wanted) else {
            return .failure(ModelError(.cancelled, "the caller gave up"))
        }
        let reservation = turn.reservation
        question.maxOutputTokens = reservation.outputTokens
        let result: Result<Outcome, AegisError>
        do throws(AegisError) {
            result = .success(try await call(question, raw, entry, backend, reservation))
        } catch {
            result = .failure(error)
        }
        turn.release(used: (try? result.get())?.used)
        return try result.get().reply
    }

    private struct Outcome {
        var reply: Result<InferenceReply, ModelError>
        var used: Int
    }

    /// Asks, and books what it has cost, however it ends.
    private mutating func call(
        _ question: ModelRequest, _ raw: Int, _ entry: ModelEntry, _ backend: InferenceBackend,
        _ reservation: BudgetReservation
    ) async throws(AegisError) -> Outcome {
        let attempt = attempt(at: entry)
        try attempt.started(reservation, [("max_output_tokens", .number(reservation.outputTokens))])
        let meter = StreamMeter()
        let (provider, onDelta) = (backend.provider, onDelta)
        let result = await attempt.timed(atMost: backend.timeout) { () throws(ModelError) in
            try await provider.complete(question) { delta in
                meter.count(delta)
                onDelta?(delta)
            }
        }
        if meter.hasBegun, onDelta != nil { hasShown = true }
        let usage = usage(of: result, reservation, meter)
        request.bill?.add(tokens: usage.total, microUSD: entry.section.price?.cost(of: usage) ?? 0)
        let cost = try attempt.settle(reservation, usage, raw: raw)
        let fields = ModelAttempt.fields(usage, cost: cost)
        switch result {
        case .success(var reply):
            reply.usage = usage
            reply.nameReasoning(after: entry.provider)
            try attempt.tell(.answered, fields + [("stop", .string(reply.stop.word))])
            return Outcome(
                reply: .success(
                    InferenceReply(
                        reply: reply, provider: entry.provider, model: entry.model, costMicroUSD: cost,
                        attempts: attempts)),
                used: max(1, usage.total))
        case .failure(let error):
            try attempt.tell(
                .failed, fields + [("error", .string(error.kind.word)), ("message", .string(error.message))])
            return Outcome(reply: .failure(error), used: max(1, usage.total))
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
            guard error.mayHaveCost(begun: meter.hasBegun) else { return .zero }
            return TokenUsage(input: reservation.inputTokens, output: meter.tokens, isEstimated: true)
        }
    }

    private func visible(_ failure: Failure) -> AegisError {
        let (entry, error) = failure
        let count = attempts > 1 ? " (after \(attempts) attempts)" : ""
        return error.visible("\(entry.id): \(error)\(count)", provider: entry.provider)
    }
}
