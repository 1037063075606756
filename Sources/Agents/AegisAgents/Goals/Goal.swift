package import AegisCore
internal import AegisInference

/// What somebody wants to be done, from the queue to its result.
package struct Goal: Sendable, Codable, Hashable {
    /// Where it stands.
    package enum State: String, Sendable, Codable { case queued, running, ended, cancelled }

    /// `goal-` and 16 hexadecimal digits.
    package var id: String
    package var text: String
    package var owner: UInt32
    /// That user's group.
    package var group: UInt32
    package var state = State.queued
    /// The agent that works on it.
    package var agent: String?
    /// The trace of its message.
    package var trace: String?
    package var response: String?
    package var stop: TurnStop?
    package var problem: TurnProblem?
    /// What its agents have used, all of them together: so far, or in all.
    package var inputTokens: Int?
    package var outputTokens: Int?
    /// What that has cost in dollars, where the models have prices.
    package var cost: String?
    /// What is wanted otherwise than the bootstrap manifest has it.
    package var options = SpawnOptions()
    /// The deployed manifest that takes it; nil is the daemon's own.
    package var manifest: String?
    /// What that said when the goal was taken; nil where an older release has taken it, and once the goal is over.
    package var source: Source?
    /// A folder of the owner's that its agents work in; nil is a fresh one.
    package var workspace: String?
    /// How long it may be worked on.
    package var maxTime: TimeSpan?
    package var createdAt: Timestamp
    package var startedAt: Timestamp?
    package var endedAt: Timestamp?

    /// A manifest as it was once read.
    package struct Source: Sendable, Codable, Hashable {
        /// What messages call it.
        package var name: String
        package var text: String
        /// Its system prompt, which may have been in a file of its own.
        package var prompt: String
    }

    /// A goal in the queue.
    package init(id: String, text: String, owner: UInt32, group: UInt32, createdAt: Timestamp) {
        self.id = id
        self.text = text
        self.owner = owner
        self.group = group
        self.createdAt = createdAt
    }

    private enum CodingKeys: String, CodingKey {
        case id, text, owner, group, state, agent, trace, response, options, manifest, source, workspace
        case maxTime = "max_time"
        case stop = "stop_reason"
        case problem = "error"
        case inputTokens = "input_tokens"
        case outputTokens = "output_tokens"
        case cost = "cost_usd"
        case createdAt = "created_at"
        case startedAt = "started_at"
        case endedAt = "ended_at"
    }

    /// Takes in what its agents have used.
    mutating func take(_ spending: ModelSpending?) {
        guard let spending else { return }
        (inputTokens, outputTokens) = (spending.inputTokens, spending.outputTokens)
        cost = spending.microUSD > 0 ? dollars(spending.microUSD) : nil
    }

    /// When it ends, reached or not; nil before it is begun, and where it may take as long as it takes.
    var deadline: Timestamp? {
        guard let startedAt, let maxTime else { return nil }
        let (end, isBeyond) = startedAt.milliseconds.addingReportingOverflow(maxTime.milliseconds)
        return isBeyond || end > Self.lastYear ? nil : Timestamp(milliseconds: end)
    }

    /// The end of the year 9999, in milliseconds since 1970: later times cannot be written down, and nobody waits for them.
    private static let lastYear: Int64 = 253_402_300_799_999

    /// Whether nothing comes after this.
    package var isOver: Bool { state == .ended || state == .cancelled }
}
