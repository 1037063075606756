internal import AegisCore
internal import AegisJSON

/// One call of a model on its way: its turn at the provider, what pays for it, and what is told of it. Questions and texts to be
/// embedded go the same way.
struct ModelAttempt {
    let service: InferenceService
    /// Who pays; nil for what a person asks for, whom no budget binds.
    let caller: CallerID?
    let agentName: String
    let priority: InferencePriority
    /// When all of it must be over.
    let limit: Duration
    let provider: String
    let model: String
    /// Nil when it is not known.
    let price: ModelPrice?
    /// Which attempt it is, from 1.
    let number: Int
    /// What allows it.
    var leave: InferenceLeave?

    /// `provider/model`.
    var id: String { "\(provider)/\(model)" }

    // MARK: Before the call

    /// Waits for a turn and takes from the budget.
    ///
    /// - Parameters:
    ///   - backend: the provider.
    ///   - input: the tokens that are sent, counted on the safe side.
    ///   - wantedOutput: how many the answer may have if the budget has them; 0 for what has no answer in tokens.
    /// - Returns: the turn; nil when the caller gave up.
    /// - Throws: `budget-exceeded`, `budget-needs-price`, `inference-queue-full`, `inference-deadline`, `inference-cancelled`; what
    ///   the leave, the observer or the database throws.
    func begin(at backend: InferenceBackend, input: Int, wantedOutput: Int) async throws(AegisError) -> PaidTurn? {
        while true {
            let permit = try await turn(at: backend, tokens: input.saturatingAdd(wantedOutput))
            do throws(AegisError) { try leave?.check() } catch {
                permit.release(used: 0)
                throw error
            }
            let mark = service.budgets.settlements
            switch try reserve(input, wantedOutput) {
            case .success(let reservation): return PaidTurn(permit: permit, reservation: reservation)
            case .failure(let refusal):
                permit.release(used: 0)
                guard refusal.kind == .occupied else { throw try refused(refusal) }
                // Others have what is left and may give it back: nobody's turn is held meanwhile.
                await settlement(after: mark)
                if Task.isCancelled { return nil }
                guard service.time.now < limit else { throw try late(refusal) }
            }
        }
    }

    private func reserve(
        _ input: Int, _ wantedOutput: Int
    ) throws(AegisError) -> Result<BudgetReservation, BudgetRefusal> {
        guard let caller else { return .success(.unpaid(input: input, output: wantedOutput)) }
        return try service.budgets.reserve(caller, input: input, wantedOutput: wantedOutput, price: price)
    }

    private func turn(at backend: InferenceBackend, tokens: Int) async throws(AegisError) -> SchedulePermit {
        do throws(ScheduleRefusal) {
            return try await backend.scheduler.acquire(
                ScheduleTicket(
                    agent: caller?.agent ?? "", priority: priority, tokens: tokens, deadline: limit))
        } catch {
            let failure = visible(error)
            try tell(.queueRefused, [("error", .string(failure.code))])
            throw failure
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

    // MARK: The call

    /// Says that the provider is about to be asked; when that cannot be kept, nothing is sent and everything given back.
    func started(_ reservation: BudgetReservation, _ more: [(String, JSONValue)]) throws(AegisError) {
        do throws(AegisError) {
            try tell(
                .started,
                [("input_tokens", .number(reservation.inputTokens))] + more
                    + [("reserved_usd", .string(dollars(reservation.microUSD)))])
        } catch {
            try service.budgets.release(reservation)
            throw error
        }
    }

    /// Asks, for as long as it may take and what allows it is not taken back. (A race around all of a question would cost each step of
    /// an agent's turn a thread that wakes up.)
    func timed<Reply: Sendable>(
        atMost longest: Duration, _ body: @escaping @Sendable () async throws(ModelError) -> Reply
    ) async -> Result<Reply, ModelError> {
        let allowed = max(.zero, min(longest, limit - service.time.now))
        let (time, leave) = (service.time, leave)
        return await withTaskGroup(of: Result<Reply, ModelError>?.self) { group in
            group.addTask {
                do throws(ModelError) { return .success(try await body()) } catch { return .failure(error) }
            }
            group.addTask {
                try? await time.sleep(for: allowed)
                return nil
            }
            if let leave {
                group.addTask { await leave.isRevoked() ? .failure(Self.revoked) : nil }
            }
            let first = await group.next() ?? nil
            group.cancelAll()
            // The time is over, or the caller gave up, or may ask no more; an answer that came in the same moment counts.
            if case .success? = first { return first ?? .failure(Self.revoked) }
            while let next = await group.next() { if case .success(let reply)? = next { return .success(reply) } }
            if let first { return first }
            return .failure(
                Task.isCancelled
                    ? ModelError(.cancelled, "the caller gave up")
                    : ModelError(.timeout, "no answer within \(allowed.words)"))
        }
    }

    /// How a question ends whose leave is taken back.
    static let revoked = ModelError(.cancelled, "what allowed it was taken back")

    /// Waits before the next attempt, for as long as that is allowed.
    ///
    /// - Returns: why there is none.
    func wait(_ pause: Duration) async -> ModelError? {
        let time = service.time
        guard let leave else { return await Self.sleep(pause, time) }
        return await withTaskGroup(of: ModelError?.self) { group in
            group.addTask { await Self.sleep(pause, time) }
            group.addTask { await leave.isRevoked() ? Self.revoked : ModelError(.cancelled, "the caller gave up") }
            let first = await group.next() ?? nil
            group.cancelAll()
            return first
        }
    }

    private static func sleep(_ pause: Duration, _ time: InferenceTime) async -> ModelError? {
        do { try await time.sleep(for: pause) } catch { return ModelError(.cancelled, "the caller gave up") }
        return nil
    }

    /// Books what the call has used.
    ///
    /// - Returns: what it cost, if that is known.
    func settle(_ reservation: BudgetReservation, _ usage: TokenUsage, raw: Int) throws(AegisError) -> Int? {
        let cost = price?.cost(of: usage)
        try service.budgets.settle(reservation, usage: usage, microUSD: cost ?? 0)
        if !usage.isEstimated { service.estimator.learn(raw, actual: usage.totalInput, for: id) }
        return cost
    }

    /// What is told of a call that is over.
    static func fields(_ usage: TokenUsage, cost: Int?) -> [(String, JSONValue)] {
        [
            ("usage", (try? JSONValue(encoding: usage)) ?? .null),
            ("cost_usd", cost.map { .string(dollars($0)) } ?? .null),
        ]
    }

    // MARK: What is told

    func tell(_ kind: InferenceStep.Kind, _ fields: [(String, JSONValue)]) throws(AegisError) {
        try service.observer.record(
            InferenceStep(
                kind: kind, caller: caller, agentName: agentName, provider: provider, model: model, attempt: number,
                fields: fields.map { JSONValue.Field($0.0, $0.1) }))
    }

    /// The error of a budget, once it is kept on record.
    private func refused(_ refusal: BudgetRefusal) throws(AegisError) -> AegisError {
        try tell(.budgetRefused, [("owner", .string("\(refusal.owner)")), ("why", .string(refusal.message))])
        if refusal.kind == .priceUnknown {
            return AegisError(
                .denied, "budget-needs-price",
                "\(refusal.owner.limitWords) is one of money, and \(id) has no price",
                hint: "set input_per_mtok and output_per_mtok of the model in the configuration")
        }
        return AegisError(
            .denied, "budget-exceeded", "\(refusal.owner.limitWords) is used up: \(refusal.message)",
            hint: "end the work here, or ask for a larger budget")
    }

    /// The error of a budget that others held for too long, once it is kept on record.
    private func late(_ refusal: BudgetRefusal) throws(AegisError) -> AegisError {
        try tell(.queueRefused, [("error", "inference-deadline"), ("owner", .string("\(refusal.owner)"))])
        return AegisError(
            .timeout, "inference-deadline",
            "calls under way have held what is left until the time was over: \(refusal.owner.limitWords) has no more")
    }

    private func visible(_ refusal: ScheduleRefusal) -> AegisError {
        switch refusal {
        case .full(let count):
            AegisError(
                .unavailable, "inference-queue-full",
                "\(count) calls wait for the provider '\(provider)' already",
                hint: "try again later, or raise max_concurrent or max_waiting of the provider")
        case .late(let wait):
            AegisError(
                .timeout, "inference-deadline",
                "the provider '\(provider)' has no turn in time: in \(wait.words) at the earliest")
        case .expired: AegisError(.timeout, "inference-deadline", "no turn at the provider '\(provider)' came in time")
        case .cancelled: AegisError(.failed, "inference-cancelled", "the caller gave up")
        }
    }
}

/// A turn at a provider, and what the call was paid with.
struct PaidTurn: ~Copyable {
    let permit: SchedulePermit
    let reservation: BudgetReservation

    /// Ends the turn; `used` as `SchedulePermit.release` has it.
    consuming func release(used: Int?) { permit.release(used: used) }
}

extension BudgetReservation {
    /// Of a call that no account pays for.
    fileprivate static func unpaid(input: Int, output: Int) -> BudgetReservation {
        BudgetReservation(
            id: 0, caller: CallerID(agent: "", tree: ""), inputTokens: input, outputTokens: output, microUSD: 0,
            owners: [])
    }
}
