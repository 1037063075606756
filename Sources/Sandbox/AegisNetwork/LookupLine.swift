internal import Synchronization

/// Whose lookup is next: so many at a time in all, and of one instance; the others wait in line. Where names hang, it is their
/// own instance that waits for them: who has the fewest under way comes first.
struct LookupLine {
    /// How many at a time, in all and of one instance.
    let limit: Int
    let share: Int
    private var underway = 0
    private var busy: [String: Int] = [:]
    private var waiting: [String: [UInt64]] = [:]

    init(limit: Int, share: Int) {
        self.limit = limit
        self.share = share
    }

    /// Asks for a turn.
    ///
    /// - Returns: whether it has come already; else it comes out of `leave`.
    mutating func enter(_ number: UInt64, of instance: String) -> Bool {
        // Nobody waits who could go on.
        guard underway < limit, busy[instance, default: 0] < share else {
            waiting[instance, default: []].append(number)
            return false
        }
        begin(instance)
        return true
    }

    /// Steps out of the line.
    ///
    /// - Returns: false when it does not wait (any more).
    mutating func giveUp(_ number: UInt64, of instance: String) -> Bool {
        guard let place = waiting[instance]?.firstIndex(of: number) else { return false }
        waiting[instance]?.remove(at: place)
        if waiting[instance]?.isEmpty == true { waiting[instance] = nil }
        return true
    }

    /// Ends a turn.
    ///
    /// - Returns: whose turn it is now.
    mutating func leave(_ instance: String) -> UInt64? {
        underway -= 1
        let count = busy[instance, default: 1] - 1
        busy[instance] = count > 0 ? count : nil
        let next = waiting.filter { busy[$0.key, default: 0] < share }
            .min { (busy[$0.key, default: 0], $0.value[0]) < (busy[$1.key, default: 0], $1.value[0]) }
        guard let (key, numbers) = next else { return nil }
        waiting[key] = numbers.count > 1 ? Array(numbers.dropFirst()) : nil
        begin(key)
        return numbers[0]
    }

    private mutating func begin(_ instance: String) {
        underway += 1
        busy[instance, default: 0] += 1
    }
}

/// The same for tasks.
final class LookupTurns: Sendable {
    private struct State {
        var line: LookupLine
        var next: UInt64 = 0
        var waiters: [UInt64: CheckedContinuation<Bool, Never>] = [:]
    }
    private let state: Mutex<State>

    init(limit: Int, share: Int) { state = Mutex(State(line: LookupLine(limit: limit, share: share))) }

    /// Does something in its turn.
    ///
    /// - Throws: `CancellationError` when it was cancelled before its turn; what `body` throws.
    func take<R>(_ instance: String, _ body: () async throws -> R) async throws -> R {
        try await enter(instance)
        defer { leave(instance) }
        return try await body()
    }

    private func enter(_ instance: String) async throws {
        let number = state.withLock { state in
            state.next += 1
            return state.next
        }
        let hasTurn = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let outcome = state.withLock { state -> Bool? in
                    // A handler that came before this point found nobody to resume.
                    if Task.isCancelled { return false }
                    if state.line.enter(number, of: instance) { return true }
                    state.waiters[number] = continuation
                    return nil
                }
                if let outcome { continuation.resume(returning: outcome) }
            }
        } onCancel: {
            let waiter = state.withLock { state in
                state.line.giveUp(number, of: instance) ? state.waiters.removeValue(forKey: number) : nil
            }
            waiter?.resume(returning: false)
        }
        guard hasTurn else { throw CancellationError() }
    }

    private func leave(_ instance: String) {
        let waiter = state.withLock { state in
            state.line.leave(instance).flatMap { state.waiters.removeValue(forKey: $0) }
        }
        waiter?.resume(returning: true)
    }
}
