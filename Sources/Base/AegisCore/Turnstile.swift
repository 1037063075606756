internal import Synchronization

/// Lets one task at a time through for each key, in the order in which they came.
package final class Turnstile: Sendable {
    private struct Waiting {
        let id: UInt64
        let continuation: CheckedContinuation<Bool, Never>
    }
    private struct State {
        var queues: [String: [Waiting]] = [:]
        var lastID: UInt64 = 0
    }
    private let state = Mutex(State())

    /// Lets everybody through at first.
    package init() {}

    /// Waits for its turn, also when the task is cancelled; every `enter` is followed by a `leave`.
    package func enter(_ key: String) async { _ = await wait(key, 0, isCancellable: false) }

    /// Waits for its turn as long as the task is not cancelled; is followed by a `leave` unless it throws.
    ///
    /// - Throws: `CancellationError`.
    package func enterUnlessCancelled(_ key: String) async throws {
        let id = state.withLock { state in
            state.lastID += 1
            return state.lastID
        }
        let isIn = await withTaskCancellationHandler {
            await wait(key, id, isCancellable: true)
        } onCancel: {
            give(up: id, key)
        }
        guard isIn else { throw CancellationError() }
    }

    private func wait(_ key: String, _ id: UInt64, isCancellable: Bool) async -> Bool {
        await withCheckedContinuation { continuation in
            let isIn = state.withLock { state -> Bool? in
                if isCancellable, Task.isCancelled { return false }
                guard state.queues[key] == nil else {
                    state.queues[key]?.append(Waiting(id: id, continuation: continuation))
                    return nil
                }
                state.queues[key] = []
                return true
            }
            if let isIn { continuation.resume(returning: isIn) }
        }
    }

    private func give(up id: UInt64, _ key: String) {
        let gone = state.withLock { state -> Waiting? in
            guard let at = state.queues[key]?.firstIndex(where: { $0.id == id }) else { return nil }
            return state.queues[key]?.remove(at: at)
        }
        gone?.continuation.resume(returning: false)
    }

    /// Lets the next one through.
    package func leave(_ key: String) {
        let next = state.withLock { state -> Waiting? in
            guard state.queues[key]?.isEmpty == false else {
                state.queues[key] = nil
                return nil
            }
            return state.queues[key]?.removeFirst()
        }
        next?.continuation.resume(returning: true)
    }
}
