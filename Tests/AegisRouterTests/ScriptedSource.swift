import AegisCore
import AegisIO
import AegisRouter
import AegisSandboxTypes
import Synchronization

/// Instances that a test plays: what they expose, whether they run, and what waking comes to.
final class ScriptedSource: RouteSource {
    struct State {
        var exposures: [Exposure] = []
        var running = false {
            didSet { if running, !oldValue { lives += 1 } }
        }
        /// It was paused in spite of its holders; the next one wakes it.
        var asleep = false
        /// How often it has been started.
        var lives: UInt64 = 0
        /// Nil = waking waits until `finishWaking`.
        var wakeResult: Result<Void, AegisError>? = .success(())
        var wakers: [CheckedContinuation<Result<Void, AegisError>, Never>] = []
        var holds = 0
        var heldEver = 0
        var reasons: [RouteReason] = []
        /// Nothing listens inside.
        var closed = false
        var dials = 0
        var bound: [UInt16: UInt16] = [:]
        var failures: [UInt16: AegisError] = [:]
        var listeners: [Int: @Sendable () -> Void] = [:]
        var next = 0
    }
    private let loop: EventLoop
    private let backend: @Sendable (UInt16) -> UInt16
    private let state = Mutex(State())
    private let changes = Changes()

    init(on loop: EventLoop, backend: @escaping @Sendable (UInt16) -> UInt16) {
        self.loop = loop
        self.backend = backend
    }

    /// Changes what is played, and tells the router when the exposures changed.
    func change<R: Sendable>(_ body: (inout State) throws -> R) rethrows -> R {
        let (result, listeners) = try state.withLock { state in
            let before = state.exposures
            let result = try body(&state)
            return (result, before == state.exposures ? [] : Array(state.listeners.values))
        }
        for listener in listeners { listener() }
        changes.note()
        return result
    }

    /// Waits until the state is as wanted.
    func until(_ wanted: @Sendable (State) -> Bool) async {
        while true {
            let seen = changes.count
            if state.withLock({ wanted($0) }) { return }
            await changes.wait(after: seen)
        }
    }

    func finishWaking(_ result: Result<Void, AegisError>) {
        let wakers = change { state in
            state.wakeResult = result
            if case .success = result { state.running = true }
            defer { state.wakers = [] }
            return state.wakers
        }
        for waker in wakers { waker.resume(returning: result) }
    }

    // MARK: RouteSource

    func hold(_ instance: String, port: UInt16, why: RouteReason, deadline: Duration) async throws -> any RouteHold {
        let wasRunning = change { state in
            state.reasons.append(why)
            state.holds += 1
            state.heldEver += 1
            state.asleep = false
            return state.running
        }
        let hold = ScriptedHold(self, wasRunning: wasRunning)
        if !wasRunning {
            let result = await withCheckedContinuation { continuation in
                let known = change { state -> Result<Void, AegisError>? in
                    guard let result = state.wakeResult else {
                        state.wakers.append(continuation)
                        return nil
                    }
                    if case .success = result { state.running = true }
                    return result
                }
                if let known { continuation.resume(returning: known) }
            }
            try result.get()
        }
        return hold
    }

    func dial(_ port: UInt16, _ deadline: Duration) async throws -> FileStream {
        let (running, closed) = change { state in
            state.dials += 1
            return (state.running, state.closed)
        }
        guard running else { throw AegisError.conflict("instance-stopped", "it was stopped") }
        guard !closed else { throw AegisError(.unavailable, "port-closed", "nothing listens on port \(port)") }
        return try await Connect.tcp(host: "127.0.0.1", port: backend(port), on: loop, deadline: deadline)
    }

    func exposures() async -> [Exposure] { state.withLock { $0.exposures } }

    func onChange(_ body: @escaping @Sendable () -> Void) -> @Sendable () -> Void {
        let number = state.withLock { state in
            state.next += 1
            state.listeners[state.next] = body
            return state.next
        }
        return { self.state.withLock { _ = $0.listeners.removeValue(forKey: number) } }
    }

    func didBind(_ instance: String, guestPort: UInt16, publicPort: UInt16) async {
        change { state in
            state.bound[guestPort] = publicPort
            state.failures[guestPort] = nil
            for index in state.exposures.indices
            where state.exposures[index].instance == instance && state.exposures[index].guestPort == guestPort {
                state.exposures[index].spec.publicPort = publicPort
            }
        }
    }

    func bindFailed(_ instance: String, guestPort: UInt16, _ error: AegisError) async {
        change { $0.failures[guestPort] = error }
    }
}

final class ScriptedHold: RouteHold {
    private let source: ScriptedSource
    let wasRunning: Bool
    init(_ source: ScriptedSource, wasRunning: Bool) {
        self.source = source
        self.wasRunning = wasRunning
    }
    var life: UInt64 { source.change { $0.lives } }
    var isAwake: Bool { source.change { !$0.asleep } }
    deinit { source.change { $0.holds -= 1 } }
    func dial(_ port: UInt16, deadline: Duration) async throws -> FileStream {
        try await source.dial(port, deadline)
    }
}

/// Counts changes, and lets tests wait for the next one.
private final class Changes: Sendable {
    private let state = Mutex((count: 0, waiters: [CheckedContinuation<Void, Never>]()))
    var count: Int { state.withLock { $0.count } }

    func note() {
        let waiters = state.withLock { state in
            state.count += 1
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    func wait(after seen: Int) async {
        await withCheckedContinuation { continuation in
            let now = state.withLock { state in
                if state.count != seen { return true }
                state.waiters.append(continuation)
                return false
            }
            if now { continuation.resume() }
        }
    }
}
