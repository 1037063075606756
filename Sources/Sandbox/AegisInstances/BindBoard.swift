internal import AegisCore
internal import Synchronization

/// What came of listening on the public ports of one instance, for whoever asked for one and waits.
final class BindBoard: Sendable {
    private struct State {
        var waiters: [UInt64: (port: UInt16, resume: CheckedContinuation<AegisError?, Never>)] = [:]
        var expected: [UInt16: AegisError?] = [:]
        var next: UInt64 = 0
    }
    private let state = Mutex(State())

    /// From now on what comes of a port is kept until somebody has asked for it.
    func expect(_ port: UInt16) { state.withLock { $0.expected[port] = nil } }

    /// It is known what came of a port: nil, or why nobody can listen.
    func finish(_ port: UInt16, _ error: AegisError?) {
        let waiters = state.withLock { state in
            state.expected[port] = .some(error)
            let found = state.waiters.filter { $0.value.port == port }
            for number in found.keys { state.waiters[number] = nil }
            return found.values.map(\.resume)
        }
        for waiter in waiters { waiter.resume(returning: error) }
    }

    /// Waits for what comes of a port.
    ///
    /// - Returns: why nobody can listen; nil when somebody does, or when the task was cancelled.
    func outcome(of port: UInt16) async -> AegisError? {
        let number = state.withLock { state in
            state.next += 1
            return state.next
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let known: AegisError?? = state.withLock { state in
                    if let known = state.expected[port] { return known }
                    if Task.isCancelled { return .some(nil) }
                    state.waiters[number] = (port, continuation)
                    return nil
                }
                if let known { continuation.resume(returning: known) }
            }
        } onCancel: {
            state.withLock { $0.waiters.removeValue(forKey: number) }?.resume.resume(returning: nil)
        }
    }
}
