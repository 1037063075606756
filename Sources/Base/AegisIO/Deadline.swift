/// Runs `body`, and cancels it when a time has passed.
///
/// The body is always awaited: nothing of it goes on afterwards. When it succeeds in spite of the deadline its value
/// counts, because what it did has happened.
///
/// - Parameters:
///   - duration: how long it may take.
///   - clock: whose time; nil takes the current loop's clock, or the system's where there is no loop.
///   - body: the work.
/// - Returns: what the body returned.
/// - Throws: `IOError.timeout` when the time passed first, else what the body threw.
package func withDeadline<T: Sendable>(
    _ duration: Duration, clock: (any Clock<Duration>)? = nil, _ body: @escaping @Sendable () async throws -> T
) async throws -> T {
    let clock: any Clock<Duration> = clock ?? EventLoop.current?.clock ?? ContinuousClock()
    return try await withDeadline(when: { try await clock.sleep(for: duration) }, body)
}

/// Runs `body`, and cancels it when something else has come to its end; as the other one in all else.
///
/// - Parameters:
///   - isOver: returns when the body has had its time; it is cancelled when the body ends first.
///   - body: the work.
/// - Returns: what the body returned.
/// - Throws: `IOError.timeout` when the time was over first, else what the body threw.
package func withDeadline<T: Sendable>(
    when isOver: @escaping @Sendable () async throws -> Void, _ body: @escaping @Sendable () async throws -> T
) async throws -> T {
    try await withThrowingTaskGroup(of: DeadlineEvent<T>.self) { group in
        group.addTask {
            do { return .finished(.success(try await body())) } catch { return .finished(.failure(error)) }
        }
        group.addTask {
            do { try await isOver() } catch { return .interrupted }
            return .expired
        }
        var expired = false
        while let event = try await group.next() {
            switch event {
            case .interrupted: continue
            case .expired:
                expired = true
                group.cancelAll()
            case .finished(let result):
                group.cancelAll()
                if expired, case .failure = result { throw IOError.timeout }
                return try result.get()
            }
        }
        // The body's event always comes: both children return exactly one.
        throw IOError.cancelled
    }
}

/// What one of the two racing children reports; neither throws.
private enum DeadlineEvent<T: Sendable>: Sendable {
    case finished(Result<T, any Error>)
    case expired
    case interrupted
}
