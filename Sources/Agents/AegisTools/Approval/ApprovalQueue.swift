package import AegisAudit
package import AegisCore
internal import AegisIO
internal import AegisJSON
package import AegisStore
internal import Synchronization

/// Calls that wait for a person, in a queue that survives a restart (decision D48).
///
/// What waits is a row; who waits for it is only woken up, and reads the row. So an answer that is given while nobody waits,
/// because the daemon was restarted meanwhile, is found when the run is resumed and asks for the same call again.
package final class ApprovalQueue: ApprovalDesk {
    /// How the queue is bounded.
    package struct Settings: Sendable {
        /// After which time a request is refused.
        package var timeout: Duration = .seconds(600)
        /// Open requests of one agent.
        package var mostPerAgent = 20
        /// Open requests in all.
        package var most = 1000
        /// The settings as they stand.
        package init() {}
    }

    let database: Database
    let audit: any AuditTrail
    let settings: Settings
    let now: @Sendable () -> Timestamp
    private let clock: (any Clock<Duration>)?
    private let waiting = Mutex(Waiting(generator: SystemRandomNumberGenerator()))

    private struct Waiting: Sendable {
        var next: UInt64 = 0
        var signals: [String: [UInt64: AsyncStream<Void>.Continuation]] = [:]
        var generator: any RandomNumberGenerator & Sendable
        var isLeaving = false
    }

    /// Opens the queue. What was open when the daemon ended stays open, and expires when its time is over.
    ///
    /// - Parameters:
    ///   - database: holds the tables of `migrations`.
    ///   - audit: where requests and answers are recorded.
    ///   - settings: how it is bounded.
    ///   - random: where ids come from.
    ///   - clock: whose time lets requests expire; nil is the loop's.
    ///   - now: the time of day.
    package init(
        _ database: Database, audit: any AuditTrail, settings: Settings = Settings(),
        random: any RandomNumberGenerator & Sendable = SystemRandomNumberGenerator(),
        clock: (any Clock<Duration>)? = nil, now: @escaping @Sendable () -> Timestamp = { .now() }
    ) {
        self.database = database
        self.audit = audit
        self.settings = settings
        self.clock = clock
        self.now = now
        waiting.withLock { $0.generator = random }
    }

    // MARK: Asking

    package func ask(_ request: ApprovalRequest) async throws -> ApprovalDecision {
        let id = waiting.withLock { Self.newID(&$0.generator) }
        let opened = try await BlockingPool.shared.run { try self.open(request, id: id) }
        guard case .waiting(let record) = opened else {
            if case .answered(let decision) = opened { return decision }
            throw CancellationError()
        }
        do {
            return try await answer(to: record)
        } catch {
            // A run goes on with the next daemon, and asks for the same call again.
            if isLeft(request), error is CancellationError { throw error }
            // Whoever went away needs no answer, and takes up no place. Not in the pool, which does not work for cancelled tasks.
            try withdraw([record.id], why: error is CancellationError ? "the call was cancelled" : "\(error)")
            throw error
        }
    }

    /// Says that the daemon ends: what runs wait for stays open, and is answered with the next one.
    package func leave() { waiting.withLock { $0.isLeaving = true } }

    private func isLeft(_ request: ApprovalRequest) -> Bool {
        request.door == Self.doorOfRuns && request.parent == nil && waiting.withLock { $0.isLeaving }
    }

    /// Waits for the answer to a request that is in the queue.
    private func answer(to record: ApprovalRecord) async throws -> ApprovalDecision {
        let (signal, key) = register(record.id)
        defer { unregister(record.id, key) }
        // An answer that came before the registration.
        if let early = try await take(record.id, isOver: false) { return early }
        let left = Duration.milliseconds(max(0, record.expiresAt.milliseconds - now().milliseconds))
        let isOver = await wait(signal, for: left)
        try Task.checkCancellation()
        return try await take(record.id, isOver: isOver) ?? .withdrawn(id: record.id)
    }

    /// Waits until somebody signals, the time is over, or the task is cancelled.
    ///
    /// - Returns: whether the time is over.
    private func wait(_ signal: AsyncStream<Void>, for time: Duration) async -> Bool {
        let clock: any Clock<Duration> = clock ?? EventLoop.current?.clock ?? ContinuousClock()
        return await withTaskGroup(of: Bool.self) { group in
            group.addTask {
                for await _ in signal { break }
                return false
            }
            group.addTask { (try? await clock.sleep(for: time)) != nil }
            let first = await group.next() ?? false
            group.cancelAll()
            return first
        }
    }

    private func take(_ id: String, isOver: Bool) async throws -> ApprovalDecision? {
        try await BlockingPool.shared.run { try self.takeAnswer(id, isOver: isOver) }
    }

    private func register(_ id: String) -> (AsyncStream<Void>, UInt64) {
        let (stream, signal) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let key = waiting.withLock { waiting in
            waiting.next += 1
            waiting.signals[id, default: [:]][waiting.next] = signal
            return waiting.next
        }
        return (stream, key)
    }

    private func unregister(_ id: String, _ key: UInt64) {
        waiting.withLock { waiting in
            waiting.signals[id]?[key] = nil
            if waiting.signals[id]?.isEmpty == true { waiting.signals[id] = nil }
        }
    }

    /// Wakes who waits for a request.
    func wake(_ id: String) {
        for signal in waiting.withLock({ $0.signals[id].map { Array($0.values) } ?? [] }) { signal.yield() }
    }

    private static func newID(_ generator: inout any RandomNumberGenerator & Sendable) -> String {
        let digits = String(generator.next() as UInt64, radix: 16)
        return "ap-" + String(repeating: "0", count: 16 - digits.utf8.count) + digits
    }
}
