package import AegisCore
internal import AegisJSON
internal import Synchronization

/// A provider with its queue.
package struct InferenceBackend: Sendable {
    let provider: any ModelProvider
    let scheduler: Scheduler
    let timeout: Duration

    /// Joins a provider, how much it may be asked, and how long one attempt may take.
    package init(_ provider: any ModelProvider, schedule: SchedulePolicy, timeout: Duration, time: InferenceTime) {
        self.provider = provider
        self.timeout = timeout
        scheduler = Scheduler(schedule, time: time)
    }
}

/// Answers the questions of agents: finds the model, waits for a turn, takes from the budget, asks, asks again or elsewhere, books.
package final class InferenceService: Sendable {
    /// The models.
    package let catalog: ModelCatalog
    /// The budgets.
    package let budgets: BudgetBook
    /// How tokens are counted before a provider has.
    package let estimator = TokenEstimator()
    let backends: [String: InferenceBackend]
    let retry: RetryPolicy
    let time: InferenceTime
    let observer: any InferenceObserver
    private let chance: @Sendable () -> UInt64

    /// Joins the parts.
    ///
    /// - Parameters:
    ///   - catalog: the models.
    ///   - backends: by provider's name, one for each in the catalog.
    ///   - budgets: who may use how much.
    ///   - retry: how often a model is asked again.
    ///   - time: for waiting and for periods.
    ///   - chance: where a pause lies between half and whole.
    ///   - observer: who keeps record.
    /// - Throws: `invalid-config` when a provider has no backend.
    package init(
        catalog: ModelCatalog, backends: [String: InferenceBackend], budgets: BudgetBook, retry: RetryPolicy,
        time: InferenceTime, chance: @escaping @Sendable () -> UInt64 = { UInt64.random(in: 0...(.max)) },
        observer: any InferenceObserver
    ) throws(AegisError) {
        if let entry = catalog.entries.first(where: { backends[$0.provider] == nil }) {
            throw AegisError(.usage, "invalid-config", "the provider '\(entry.provider)' cannot be asked")
        }
        self.catalog = catalog
        self.backends = backends
        self.budgets = budgets
        self.retry = retry
        self.time = time
        self.chance = chance
        self.observer = observer
    }

    /// Answers a question.
    ///
    /// - Parameters:
    ///   - request: the question.
    ///   - onDelta: shown each piece of the answer as it arrives.
    ///   - onRestart: told that what was shown is void, for the answer begins anew. Without it an answer that breaks off is a failure.
    /// - Returns: the answer and what it took.
    /// - Throws: `model-unknown`, `budget-exceeded`, `budget-needs-price`, `inference-queue-full`, `inference-deadline`,
    ///   `inference-cancelled`, `model-...` for what the last model asked said, or the one before it where that one was merely too small, and what the observer or the database throws.
    package func complete(
        _ request: InferenceRequest, onDelta: (@Sendable (ModelDelta) -> Void)? = nil,
        onRestart: (@Sendable () -> Void)? = nil
    ) async throws(AegisError) -> InferenceReply {
        let chain = try catalog.resolve(request.alias)
        var run = InferenceRun(service: self, request: request, onDelta: onDelta, onRestart: onRestart)
        return try await run.answer(from: chain)
    }

    /// How many calls of a provider run, and how many wait; nil for one that is not known.
    package func counts(of provider: String) -> (running: Int, waiting: Int)? { backends[provider]?.scheduler.counts }

    /// Chance in the form that Swift draws from.
    var random: InferenceChance { InferenceChance(draw: chance) }
}

/// Draws from a closure.
struct InferenceChance: RandomNumberGenerator {
    let draw: @Sendable () -> UInt64
    mutating func next() -> UInt64 { draw() }
}

/// What has come of an answer so far, for the bill of one that breaks off.
final class StreamMeter: Sendable {
    private let state = Mutex((bytes: 0, pieces: 0))

    func count(_ delta: ModelDelta) {
        let bytes =
            switch delta {
            case .text(let text), .reasoning(let text), .toolInput(_, let text): text.utf8.count
            case .toolUse(let id, let name): id.utf8.count + name.utf8.count
            }
        state.withLock { $0 = ($0.bytes + bytes, $0.pieces + 1) }
    }
    var hasBegun: Bool { state.withLock { $0.pieces > 0 } }
    /// Tokens, rather too many: two bytes each.
    var tokens: Int { state.withLock { ($0.bytes + 1) / 2 } }
}
