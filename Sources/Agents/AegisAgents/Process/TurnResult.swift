internal import AegisCore
package import AegisInference

/// What came of a message.
package struct TurnResult: Sendable, Hashable {
    /// What ties together all that happened for the message.
    package var trace: String
    /// The text of the last answer; it may be empty.
    package var response = ""
    /// What the model calls took, those for summaries of the conversation among them.
    package var usage = TokenUsage()
    /// How often the model was called for answers.
    package var iterations = 0
    /// Why the turn ended.
    package var stop: TurnStop
    /// What went wrong, when something did.
    package var problem: TurnProblem?

    /// A turn that ended before anything happened.
    package init(trace: String, stop: TurnStop, problem: TurnProblem? = nil) {
        self.trace = trace
        self.stop = stop
        self.problem = problem
    }

    /// The result that the steps of a turn tell; nil while it has not ended.
    package init?(trace: String, _ steps: some Sequence<SessionStep>) {
        self.init(trace: trace, stop: .complete)
        var hasEnded = false
        for step in steps {
            switch step {
            case .replied(let blocks, _, let usage):
                iterations += 1
                self.usage = self.usage + usage
                response = blocks.compactMap { if case .text(let text) = $0 { text } else { nil } }.joined()
            case .summarized(_, _, let usage, _), .spent(let usage): self.usage = self.usage + usage
            case .ended(let stop, let problem):
                // One that was told as failed, and whose restarts were called off with that.
                self.stop = stop == .cancelled && problem != nil ? .error : stop
                self.problem = problem
                hasEnded = true
            case .restarted: hasEnded = false
            case .began, .intent, .outcome, .stopped, .dropped, .shortened, .note: break
            }
        }
        guard hasEnded else { return nil }
    }
}

/// Where an agent process stands.
package enum ProcessState: String, Sendable, Codable {
    /// It works on a message.
    case working
    /// It waits for one.
    case idle
    /// Its turn failed, and is begun anew in a moment.
    case restarting
    /// It ends its turn before it goes.
    case stopping
    /// It is gone.
    case stopped
}

/// A message on its way to an agent.
struct Mail: Sendable, Codable, Hashable {
    var trace: String
    /// What the model reads, in its frame when an agent sent it.
    var text: String
    /// The agent that sent it, as the runtime knows it; nil for a person, or a schedule.
    var from: MailOrigin?
    /// When a schedule was due that sent it.
    var due: Timestamp?
}

/// Where in another agent's work a message comes from: set by the runtime, never by what the sender's model says.
struct MailOrigin: Sendable, Codable, Hashable {
    var agent: String
    var name: String
    var trace: String
    var step: Int
}
