package import AegisCore
internal import AegisInference
package import AegisJSON
package import AegisTools
internal import Synchronization

/// A session and its saved steps, always the same: a step is saved first, and has happened then. Thread-safe, for tools write
/// into it from where they run.
///
/// SQLite is called on the caller's thread: agents live on an event loop of their own.
package final class SessionLog: Sendable {
    private let agent: String
    private let store: SessionStore
    private let now: @Sendable () -> Timestamp
    private let session: Mutex<Session>
    /// Who waits for the next step.
    private let readers = Mutex<(waiting: [Waiter<Bool>], isOver: Bool)>(([], false))

    /// Goes on with a session.
    package init(
        agent: String, session: Session, store: SessionStore, now: @escaping @Sendable () -> Timestamp
    ) {
        self.agent = agent
        self.store = store
        self.now = now
        self.session = Mutex(session)
    }

    /// The session as it stands.
    package var current: Session { session.withLock { $0 } }

    /// Whether a call of the turn has no outcome yet.
    func awaits(_ call: String) -> Bool {
        session.withLock { session in
            guard let turn = session.turn else { return false }
            return turn.calls.contains { $0.id == call } && turn.outcomes[call] == nil
        }
    }

    /// Saves a step and takes it in.
    ///
    /// - Parameters:
    ///   - step: what has happened, or is about to.
    ///   - synced: whether it is to survive loss of power as well.
    /// - Throws: what SQLite says; then nothing has changed.
    package func record(_ step: SessionStep, synced: Bool = false) throws(AegisError) {
        try session.withLock { session throws(AegisError) in
            var trace = session.turn?.trace
            if case .began(let own, _, _) = step { trace = own }
            try store.append(step, of: agent, at: session.count, trace: trace, time: now(), synced: synced)
            session.apply(step)
        }
        for reader in readers.withLock({ readers in
            defer { readers.waiting = [] }
            return readers.waiting
        }) { reader.resolve(true) }
    }

    /// Waits until there are more steps than so many.
    ///
    /// - Returns: false when there will be none: the agent is gone, or the waiting task was cancelled.
    package func wait(after count: Int) async -> Bool {
        let reader = Waiter<Bool>()
        let isOver = readers.withLock { readers in
            readers.waiting.append(reader)
            return readers.isOver
        }
        if current.count > count { reader.resolve(true) } else if isOver { reader.resolve(false) }
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
    package func state(of callID: String) throws(AegisError) -> CallState {
        session.withLock { session in
            guard let turn = session.turn, turn.calls.contains(where: { $0.id == callID }) else { return .unknown }
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
