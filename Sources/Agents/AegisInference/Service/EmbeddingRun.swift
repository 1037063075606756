package import AegisCore
internal import AegisJSON

/// Texts that somebody wants the vectors of.
package struct EmbeddingRequest: Sendable {
    /// The texts.
    package var texts: [String]
    /// The provider's name.
    package var provider: String
    /// Its id of the model.
    package var model: String
    /// What the model costs; nil when that is not known.
    package var price: ModelPrice?
    /// Who pays; nil for what a person asks for.
    package var caller: CallerID?
    /// The agent's name, for records.
    package var agentName: String
    /// How urgent it is.
    package var priority: InferencePriority
    /// How long one call may take, and how long after the first one the provider is asked again.
    package var patience: Duration
    /// How long all of it may take from now; nil is what the configuration says.
    package var timeLimit: Duration?
    /// Takes down what each attempt has used.
    package var bill: ModelBill?

    /// Describes what is wanted.
    package init(
        _ texts: [String], provider: String, model: String, price: ModelPrice?, caller: CallerID?,
        agentName: String = "", priority: InferencePriority = .normal, patience: Duration, timeLimit: Duration? = nil,
        bill: ModelBill? = nil
    ) {
        self.texts = texts
        self.provider = provider
        self.model = model
        self.price = price
        self.caller = caller
        self.agentName = agentName
        self.priority = priority
        self.patience = patience
        self.timeLimit = timeLimit
        self.bill = bill
    }
}

extension InferenceService {
    /// Asks for the vectors of texts, in as many calls as it takes: each waits for its turn and is paid for like a question.
    ///
    /// - Parameter request: the texts, and who wants them.
    /// - Returns: one vector for each text, in order.
    /// - Throws: `embedding-failed` for what the provider said, `budget-exceeded`, `budget-needs-price`, `inference-queue-full`,
    ///   `inference-deadline`, `inference-cancelled`, and what the observer or the database throws.
    package func embed(_ request: EmbeddingRequest) async throws(AegisError) -> [[Float]] {
        var run = try embeddingRun(request)
        var points: [[Float]] = []
        for texts in EmbeddingQuestion.portions(of: request.texts) { points += try await run.ask(texts) }
        return points
    }

    /// The same, where each call's vectors are handed over before the next call is made.
    ///
    /// - Parameters:
    ///   - request: the texts, and who wants them.
    ///   - take: gets the vectors of each call, in the order of the texts.
    /// - Throws: the same, and what `take` throws.
    package func embed(_ request: EmbeddingRequest, take: ([[Float]]) async throws -> Void) async throws {
        var run = try embeddingRun(request)
        for texts in EmbeddingQuestion.portions(of: request.texts) { try await take(try await run.ask(texts)) }
    }

    private func embeddingRun(_ request: EmbeddingRequest) throws(AegisError) -> EmbeddingRun {
        guard let backend = backends[request.provider] else {
            throw AegisError(.usage, "invalid-config", "the provider '\(request.provider)' cannot be asked")
        }
        return EmbeddingRun(service: self, request: request, backend: backend)
    }
}

/// Texts on their way to a model for embeddings.
private struct EmbeddingRun {
    let service: InferenceService
    let request: EmbeddingRequest
    let backend: InferenceBackend
    /// When all of it must be over.
    let limit: Duration
    private var attempts = 0
    /// Of all portions: the time begins with the first request. Nil until that has its turn.
    private var machine: RetryMachine?

    init(service: InferenceService, request: EmbeddingRequest, backend: InferenceBackend) {
        self.service = service
        self.request = request
        self.backend = backend
        limit = service.time.now + min(service.retry.total, request.timeLimit ?? service.retry.total)
    }

    private var attempt: ModelAttempt {
        ModelAttempt(
            service: service, caller: request.caller, agentName: request.agentName, priority: request.priority,
            limit: limit, provider: request.provider, model: request.model,
            price: request.price, number: attempts)
    }

    /// Asks for the vectors of one portion as often as the policy says.
    mutating func ask(_ texts: [String]) async throws(AegisError) -> [[Float]] {
        var random = service.random
        while true {
            attempts += 1
            let error: ModelError
            switch try await once(texts) {
            case .success(let points): return points
            case .failure(let failure): error = failure
            }
            if let pause = error.retryAfter {
                backend.scheduler.hold(for: min(pause, service.retry.longestRetryAfter))
            }
            // There is no other model: what it fails with is the answer.
            let now = service.time.now
            let verdict = machine?.failed(error, isFinal: false, at: now, using: &random)
            guard case .retry(let pause)? = verdict else { throw visible(error) }
            try attempt.tell(
                .retried, [("error", .string(error.kind.word)), ("after_ms", .number(pause.milliseconds))])
            do { try await service.time.sleep(for: pause) } catch {
                throw visible(ModelError(.cancelled, "the caller gave up"))
            }
        }
    }

    private mutating func once(_ texts: [String]) async throws(AegisError) -> Result<[[Float]], ModelError> {
        let attempt = attempt
        let raw = texts.reduce(0) { $0 + TokenEstimator.raw($1) }
        let input = service.estimator.corrected(raw, for: attempt.id)
        guard let turn = try await attempt.begin(at: backend, input: input, wantedOutput: 0) else {
            return .failure(ModelError(.cancelled, "the caller gave up"))
        }
        // The wait for the first turn is none for the provider.
        machine = machine ?? RetryMachine(service.retry, limit: min(limit, service.time.now + request.patience))
        let result: Result<Outcome, AegisError>
        do throws(AegisError) { result = .success(try await call(texts, raw, turn.reservation)) } catch {
            result = .failure(error)
        }
        turn.release(used: (try? result.get())?.used)
        return try result.get().points
    }

    private struct Outcome {
        var points: Result<[[Float]], ModelError>
        var used: Int
    }

    /// Asks, and books what it has cost, however it ends.
    private func call(
        _ texts: [String], _ raw: Int, _ reservation: BudgetReservation
    ) async throws(AegisError) -> Outcome {
        let attempt = attempt
        try attempt.started(reservation, [("embeddings", .number(texts.count))])
        let question = EmbeddingQuestion(model: request.model, texts: texts)
        let provider = backend.provider
        let result = await attempt.timed(atMost: min(backend.timeout, request.patience)) { () throws(ModelError) in
            try await provider.embed(question)
        }
        let usage = usage(of: result, reservation)
        request.bill?.add(tokens: usage.total, microUSD: request.price?.cost(of: usage) ?? 0)
        let cost = try attempt.settle(reservation, usage, raw: raw)
        let fields = ModelAttempt.fields(usage, cost: cost) + [("embeddings", .number(texts.count))]
        switch result {
        case .success(let reply):
            try attempt.tell(.answered, fields)
            return Outcome(points: .success(reply.points), used: max(1, usage.total))
        case .failure(let error):
            try attempt.tell(
                .failed, fields + [("error", .string(error.kind.word)), ("message", .string(error.message))])
            return Outcome(points: .failure(error), used: max(1, usage.total))
        }
    }

    private func usage(of result: Result<EmbeddingReply, ModelError>, _ reservation: BudgetReservation) -> TokenUsage {
        switch result {
        case .success(let reply): reply.usage.total > 0 ? reply.usage : reservation.inFull
        case .failure(let error): error.mayHaveCost(begun: false) ? reservation.inFull : .zero
        }
    }

    private func visible(_ error: ModelError) -> AegisError {
        if error.kind == .cancelled { return AegisError(.failed, "inference-cancelled", error.message) }
        return AegisError(
            error.isRetryable ? .unavailable : .failed, "embedding-failed",
            "the embedding model '\(attempt.id)' failed: \(error.message)",
            hint: "check the provider's address, key and model name, and memory.embedder")
    }
}
