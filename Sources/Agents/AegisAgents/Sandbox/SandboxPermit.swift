internal import AegisCapabilities
package import AegisCore
internal import Synchronization

/// Leave to run one program with what an agent was granted when it asked for it. It is withdrawn as soon as that is not so any
/// more, or the agent goes: what is made for it is given up then, and waited for by nobody.
package final class SandboxPermit: Sendable {
    /// Who runs the program, and whose sandbox it runs in.
    let (agent, owner): (String, String)
    /// What may be seen and reached.
    let policy: String
    private let news: @Sendable (String) -> Void
    private struct State {
        var needs: [Need]
        var ends: Timestamp?
        var isWithdrawn = false
        /// What is thrown in place of what `hold` was told to.
        var reason: AegisError?
        var holders: [Waiter<Bool>] = []
    }
    private let state: Mutex<State>

    /// What has to be granted for as long as the program runs.
    struct Need: Sendable {
        var request: Request
        /// Which grant has allowed it; nil until one has.
        var grant: GrantID?
    }

    init(
        agent: String, owner: String, policy: String, needs: [Need], ends: Timestamp?,
        news: @escaping @Sendable (String) -> Void
    ) {
        (self.agent, self.owner) = (agent, owner)
        self.policy = policy
        self.news = news
        state = Mutex(State(needs: needs, ends: ends))
    }

    /// What has to be granted for as long as it runs.
    var needs: [Need] { state.withLock { $0.needs } }
    /// When the last grant that allows what it is for ends; nil is never.
    package var ends: Timestamp? { state.withLock { $0.ends } }

    /// The program's request was allowed.
    ///
    /// - Parameters:
    ///   - index: which of the needs that is.
    ///   - grant: what has allowed it.
    func isAllowed(_ index: Int, by grant: GrantID) { state.withLock { $0.needs[index].grant = grant } }
    /// Says until when it holds.
    func end(at time: Timestamp?) { state.withLock { $0.ends = time } }

    /// Leave to run servers in the sandbox of an agent, until it is withdrawn.
    package convenience init(forServersOf agent: String, policy: String) {
        self.init(agent: agent, owner: agent, policy: policy, needs: [], ends: nil) { _ in }
    }

    /// Tells whoever looks at the agent why its program does not run yet.
    package func tell(_ text: String) { news(text) }

    /// Whether it was withdrawn.
    package var isWithdrawn: Bool { state.withLock { $0.isWithdrawn } }

    /// Ends all that is done with it.
    ///
    /// - Parameter reason: why, where there is more to say than that the sandbox was given up.
    package func withdraw(because reason: AegisError? = nil) {
        let holders = state.withLock { state in
            defer { state.holders = [] }
            if !state.isWithdrawn { state.reason = reason }
            state.isWithdrawn = true
            return state.holders
        }
        for holder in holders { holder.resolve(true) }
    }

    /// Does something for as long as the permit holds; it is cancelled with it.
    ///
    /// - Parameters:
    ///   - error: what is thrown where it was withdrawn before the end, and no reason was given.
    ///   - body: what is to be done.
    /// - Returns: what `body` gives.
    /// - Throws: `error`; what `body` throws.
    package func hold<Value: Sendable>(
        or error: AegisError, _ body: @escaping @Sendable () async throws -> Value
    ) async throws -> Value {
        let end = Waiter<Bool>()
        guard enter(end) else { throw reason ?? error }
        defer { leave(end) }
        do {
            return try await withThrowingTaskGroup(of: Held<Value>.self) { group in
                group.addTask { .done(try await body()) }
                group.addTask {
                    _ = await end.value()
                    return .over
                }
                while let event = try await group.next() {
                    group.cancelAll()
                    if case .done(let value) = event { return value }
                }
                throw CancellationError()
            }
        } catch let failure { throw isWithdrawn ? reason ?? error : failure }
    }

    private var reason: AegisError? { state.withLock { $0.reason } }

    private func enter(_ end: Waiter<Bool>) -> Bool {
        state.withLock { state in
            if !state.isWithdrawn { state.holders.append(end) }
            return !state.isWithdrawn
        }
    }

    private func leave(_ end: Waiter<Bool>) { state.withLock { $0.holders.removeAll { $0 === end } } }
}

/// What comes first: the end of what was done, or that of the permit.
private enum Held<Value: Sendable>: Sendable { case done(Value), over }

/// Makes and removes the sandboxes of agents, one thing at a time for each.
package struct SandboxMaker: Sendable {
    private let turn = Turnstile()

    /// Makes nothing yet.
    package init() {}

    /// Makes the sandbox of an agent. What takes long, such as an image that is fetched, ends with the permit.
    ///
    /// - Returns: what `body` gives.
    /// - Throws: `sandbox-lost` when the permit was withdrawn meanwhile; what `body` throws.
    package func make<Value: Sendable>(
        for agent: String, _ permit: SandboxPermit, _ body: @escaping @Sendable () async throws -> Value
    ) async throws -> Value {
        let error = AegisError.failed(
            "sandbox-lost", "the sandbox was given up before the program ran: what it may do has changed meanwhile",
            hint: "nothing has happened; call it again with what is granted now")
        let turn = turn
        return try await permit.hold(or: error) {
            try await turn.enterUnlessCancelled(agent)
            defer { turn.leave(agent) }
            try Task.checkCancellation()
            return try await body()
        }
    }

    /// Removes it, or does nothing where there is none; what is being made with a permit that holds is waited for.
    package func remove(_ agent: String, _ body: () async -> Void) async {
        await turn.enter(agent)
        await body()
        turn.leave(agent)
    }
}
