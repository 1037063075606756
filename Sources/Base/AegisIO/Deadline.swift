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
    guard let own = clock as? LoopClock else {
        return try await withDeadline(when: { try await clock.sleep(for: duration) }, body)
    }
    let (result, expired) = await withTimer(duration, on: own.loop, body)
    if expired, case .failure = result { throw IOError.timeout }
    return try result.get()
}

/// As `withCancellation`, for a time of a loop: its timer needs no task that waits for it, and every call of a tool has one.
private func withTimer<T: Sendable>(
    _ duration: Duration, on loop: EventLoop, _ body: @escaping @Sendable () async throws -> T
) async -> (result: Result<T, any Error>, hasExpired: Bool) {
    await withTaskGroup(of: Result<T, any Error>.self) { group in
        // True when the time is over, false when the body has ended. Whoever cancels this task cancels the body with it.
        let end = OneShot<Bool>()
        group.addTask {
            let result: Result<T, any Error>
            do { result = .success(try await body()) } catch { result = .failure(error) }
            end.finish(false)
            return result
        }
        // A loop that ends before that has no times any more.
        let timer = LoopTimer(after: duration, on: loop) { isDue in if isDue { end.finish(true) } }
        // Whoever was cancelled before has not run out of time.
        let hasExpired = await end.value() && !Task.isCancelled
        if hasExpired { group.cancelAll() } else { timer.cancel() }
        let result = await group.next()
        return (result ?? .failure(IOError.cancelled), hasExpired)
    }
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
    let (result, expired) = await withCancellation(when: isOver, body)
    if expired, case .failure = result { throw IOError.timeout }
    return try result.get()
}

/// Runs `body`, and cancels it when something else has happened. The body is always awaited.
///
/// - Parameters:
///   - event: returns when it has happened, and throws when nobody will be told; it is cancelled when the body ends first.
///   - body: the work.
/// - Returns: what the body came to, and whether it was cancelled for the event.
package func withCancellation<T: Sendable>(
    when event: @escaping @Sendable () async throws -> Void, _ body: @escaping @Sendable () async throws -> T
) async -> (result: Result<T, any Error>, hasHappened: Bool) {
    await withTaskGroup(of: RaceEnd<T>.self) { group in
        group.addTask {
            do { return .finished(.success(try await body())) } catch { return .finished(.failure(error)) }
        }
        group.addTask {
            do { try await event() } catch { return .unwatched }
            return .happened
        }
        var hasHappened = false
        for await end in group {
            switch end {
            case .unwatched: continue
            case .happened:
                hasHappened = true
                group.cancelAll()
            case .finished(let result):
                group.cancelAll()
                return (result, hasHappened)
            }
        }
        // The body's end always comes: both children return exactly one.
        return (.failure(IOError.cancelled), hasHappened)
    }
}

/// What one of the two racing children reports; neither throws.
private enum RaceEnd<T: Sendable>: Sendable {
    case finished(Result<T, any Error>)
    case happened
    case unwatched
}
