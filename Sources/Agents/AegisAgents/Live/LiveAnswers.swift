package import AegisInference
internal import Synchronization

/// Tells of answers while models write them. It keeps nothing, and costs next to nothing while nobody listens.
package final class LiveAnswers: Sendable {
    /// What somebody listens to.
    package enum Subject: Sendable, Hashable {
        /// All that an agent says.
        case agent(String)
        /// What answers one message.
        case trace(String)
        /// All that the agents of a user say.
        case owner(UInt32)
        /// All that is said.
        case everybody
        /// Nothing, until it ends.
        case nothing
    }

    private let count = Atomic<Int>(0)
    private let listeners = Mutex<[Subject: [LiveListener]]>([:])

    /// Nobody listens yet.
    package init() {}

    /// Begins to listen: to what is said from now on. Whoever begins must `finish`; whether it may hear that is the caller's to know.
    package func listen(to subject: Subject) -> LiveListener {
        let listener = LiveListener { [weak self] in self?.remove($0, subject) }
        listeners.withLock { $0[subject, default: []].append(listener) }
        count.add(1, ordering: .relaxed)
        return listener
    }

    private func remove(_ listener: LiveListener, _ subject: Subject) {
        let isRemoved = listeners.withLock { listeners in
            guard let place = listeners[subject]?.firstIndex(where: { $0 === listener }) else { return false }
            listeners[subject]?.remove(at: place)
            if listeners[subject]?.isEmpty == true { listeners[subject] = nil }
            return true
        }
        if isRemoved { count.subtract(1, ordering: .relaxed) }
    }

    /// How many listen.
    package var listenerCount: Int { count.load(ordering: .relaxed) }

    fileprivate func publish(_ event: @autoclosure () -> LiveEvent, owner: UInt32) {
        guard count.load(ordering: .relaxed) > 0 else { return }
        let event = event()
        let subjects: [Subject] = [.agent(event.agent), .trace(event.trace), .owner(owner), .everybody]
        let heard = listeners.withLock { listeners in subjects.flatMap { listeners[$0] ?? [] } }
        for listener in heard { listener.add(event) }
    }
}

/// One answer while it is written: what the model desk tells of it goes to whoever listens.
package final class LiveAnswer: Sendable {
    private let live: LiveAnswers
    private let owner: UInt32
    private let base: LiveEvent
    /// Bytes of text and of thoughts that have come.
    private let said = Mutex((text: 0, reasoning: 0))

    init(_ live: LiveAnswers, of agent: AgentRecord, trace: String, step: Int, position: Int) {
        self.live = live
        owner = agent.owner
        base = LiveEvent(agent: agent.id, trace: trace, step: step, position: position, kind: .restart)
    }

    /// The next piece. Arguments of tools are not told: the step has them, once they are whole.
    package func take(_ delta: ModelDelta) {
        switch delta {
        case .text(let text):
            let at = said.withLock { said in
                defer { said.text += text.utf8.count }
                return said.text
            }
            tell(.text(text, at: at))
        case .reasoning(let text):
            let at = said.withLock { said in
                defer { said.reasoning += text.utf8.count }
                return said.reasoning
            }
            tell(.reasoning(text, at: at))
        case .toolUse(let call, let name): tell(.tool(name: name, call: call))
        case .toolInput: break
        }
    }

    /// What has come is void: the answer begins anew.
    package func restart() {
        said.withLock { $0 = (0, 0) }
        tell(.restart)
    }

    /// No more comes.
    func end(isWhole: Bool) { tell(.end(isWhole: isWhole)) }

    private func tell(_ kind: @autoclosure () -> LiveEvent.Kind) {
        live.publish(event(kind()), owner: owner)
    }

    private func event(_ kind: LiveEvent.Kind) -> LiveEvent {
        var event = base
        event.kind = kind
        return event
    }
}
