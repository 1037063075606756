package import AegisCore
internal import AegisInference
package import AegisJSON
package import AegisTools
internal import Synchronization

/// A session and its saved steps: a step is saved first, and has happened then. Thread-safe, for tools write into it from where
/// they run.
///
/// One step may be a little ahead of what is saved: an answer of the model, from which nothing has come yet, is saved together
/// with the first thing that comes of it, before that has its effect. One commit fewer for each step of a turn; whoever is
/// killed between has to ask the model again, as if it had been killed before the answer.
///
/// SQLite is called on the caller's thread: agents live on an event loop of their own.
package final class SessionLog: Sendable {
    private let store: SessionStore
    private let now: @Sendable () -> Timestamp
    /// Is told, once a minute at most, that something was not saved, and of which turn; and how often since the last time.
    private let failed: @Sendable (AegisError, _ trace: String?, _ times: Int) -> Void
    private struct State {
        var session: Session
        /// Where its steps are saved.
        var place: SessionStore.Place
        var failures = (count: 0, told: Timestamp?.none)
        /// The newest steps of the session that are not saved.
        var staged: [SessionStore.Draft] = []
        var isLeft = false
    }
    private let state: Mutex<State>
    /// Who waits for the next step.
    private let readers = Mutex<(waiting: [Waiter<Bool>], isOver: Bool)>(([], false))

    /// Goes on with a session.
    package init(
        agent: String, session: Session, store: SessionStore, now: @escaping @Sendable () -> Timestamp,
        failed: @escaping @Sendable (AegisError, _ trace: String?, _ times: Int) -> Void = { _, _, _ in }
    ) {
        self.store = store
        self.now = now
        self.failed = failed
        state = Mutex(State(session: session, place: SessionStore.Place(of: agent)))
    }

    /// The session as it stands.
    package var current: Session { state.withLock { $0.session } }

    /// How many of its steps are saved.
    package var saved: Int { state.withLock { $0.session.count - $0.staged.count } }

    /// Whether a call of the turn has no outcome yet.
    func awaits(_ call: String) -> Bool {
        state.withLock { state in
            guard let turn = state.session.turn else { return false }
            return turn.calls.contains { $0.id == call } && turn.outcomes[call] == nil
        }
    }

    /// Saves a step, with what was staged before it, and takes it in.
    ///
    /// - Parameters:
    ///   - step: what has happened, or is about to.
    ///   - synced: whether it is to survive loss of power as well.
    /// - Throws: what SQLite says; then nothing has changed.
    package func record(_ step: SessionStep, synced: Bool = false) throws(AegisError) {
        try telling { () throws(AegisError) in
            try state.withLock { state throws(AegisError) in
                let draft = draft(step, state.session)
                try store.append(state.staged + [draft], to: &state.place, synced: synced)
                state.staged = []
                state.session.apply(step)
            }
        }
        wake()
    }

    /// Takes a step in that the next one saves with itself; whoever stages one sees to it that `flush` follows.
    func stage(_ step: SessionStep) {
        state.withLock { state in
            state.staged.append(draft(step, state.session))
            state.session.apply(step)
        }
    }

    /// Saves what is staged still.
    ///
    /// - Throws: what SQLite says; then it stays staged.
    func flush() throws(AegisError) {
        let isNew = try telling { () throws(AegisError) in
            try state.withLock { state throws(AegisError) in
                guard !state.staged.isEmpty else { return false }
                try store.append(state.staged, to: &state.place)
                state.staged = []
                return true
            }
        }
        if isNew { wake() }
    }

    /// How long the next failure to save is only counted.
    static let silence = 60_000

    /// Does what saves something, and says when it was not saved.
    func telling<Result>(_ save: () throws(AegisError) -> Result) throws(AegisError) -> Result {
        do throws(AegisError) { return try save() } catch {
            let time = now()
            let (times, trace) = state.withLock { state -> (Int, String?) in
                state.failures.count += 1
                if let told = state.failures.told, abs(time.milliseconds - told.milliseconds) < Self.silence {
                    return (0, nil)
                }
                defer { state.failures = (0, time) }
                return (state.failures.count, state.session.turn?.trace)
            }
            if times > 0 { failed(error, trace, times) }
            throw error
        }
    }

    private func draft(_ step: SessionStep, _ session: Session) -> SessionStore.Draft {
        var trace = session.turn?.trace
        if case .began(let own, _, _) = step { trace = own }
        return SessionStore.Draft(step, at: session.count, trace: trace, time: now())
    }

    private func wake() {
        for reader in readers.withLock({ readers in
            defer { readers.waiting = [] }
            return readers.waiting
        }) { reader.resolve(true) }
    }

    /// Waits until more steps are saved than so many.
    ///
    /// - Returns: false when there will be none: the agent is gone, or the waiting task was cancelled.
    package func wait(after count: Int) async -> Bool {
        let reader = Waiter<Bool>()
        let isOver = readers.withLock { readers in
            readers.waiting.append(reader)
            return readers.isOver
        }
        if saved > count { reader.resolve(true) } else if isOver { reader.resolve(false) }
        if let isMore = await reader.value() { return isMore }
        readers.withLock { readers in readers.waiting.removeAll { $0 === reader } }
        return false
    }

    /// How many wait for the next step.
    var waiting: Int { readers.withLock { $0.waiting.count } }

    /// Says that no step will come any more.
    func close() {
        for reader in readers.withLock({ readers in
            defer { readers = ([], true) }
            return readers.waiting
        }) { reader.resolve(false) }
    }
}

extension SessionLog: CallJournal {
    package var isLeft: Bool { state.withLock { $0.isLeft } }

    package var isStopped: Bool { state.withLock { $0.session.turn?.isStopped ?? false } }

    /// Says that the daemon ends.
    func leave() { state.withLock { $0.isLeft = true } }

    package func state(of callID: String) throws(AegisError) -> CallState {
        state.withLock { state in
            guard let turn = state.session.turn, turn.calls.contains(where: { $0.id == callID }) else {
                return .unknown
            }
            if let output = turn.outcomes[callID] {
                return .ended(ToolReply(.string(output.text), isError: output.isError))
            }
            return turn.intents.contains(callID) ? .begun : .unknown
        }
    }

    package func begin(_ callID: String, tool: String, input: JSONValue) throws(AegisError) {
        try record(.intent(call: callID))
    }

    package func end(_ callID: String, with reply: ToolReply) throws(AegisError) {
        try record(.outcome(ToolOutput(id: callID, text: reply.text, isError: reply.isError)))
    }
}
