import Foundation
import Synchronization

/// How many tests use daemons and sandboxes at a time: all at once they are late for every deadline of a small machine.
enum Crowd {
    private struct State {
        var free = max(4, 2 * ProcessInfo.processInfo.activeProcessorCount)
        var waiting: [CheckedContinuation<Void, Never>] = []
    }
    private static let state = Mutex(State())
    /// Whether this task has its place already: a test with two daemons takes one.
    @TaskLocal private static var isInside = false

    /// Runs a test when there is room for it.
    static func enter(_ body: () async throws -> Void) async throws {
        guard !isInside else { return try await body() }
        await withCheckedContinuation { continuation in
            let isFree = state.withLock { state in
                guard state.free == 0 else {
                    state.free -= 1
                    return true
                }
                state.waiting.append(continuation)
                return false
            }
            if isFree { continuation.resume() }
        }
        defer { leave() }
        try await $isInside.withValue(true) { try await body() }
    }

    private static func leave() {
        let next = state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard state.waiting.isEmpty else { return state.waiting.removeFirst() }
            state.free += 1
            return nil
        }
        next?.resume()
    }
}
