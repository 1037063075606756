package import AegisCore
internal import AegisJSON

/// A live agent, as lists show it.
package struct AgentInfo: Sendable, Codable, Hashable {
    package var id: String
    package var name: String
    package var model: String
    package var state: ProcessState
    package var lifecycle: String
    package var parent: String?
    package var depth: Int
    package var owner: UInt32
    /// The trace of the turn that it works on.
    package var trace: String?
    /// How often its model was called in that turn.
    package var step: Int?
    /// Messages that wait for it.
    package var mail: Int
    /// How many grants it holds.
    package var capabilityCount: Int
    package var createdAt: Timestamp

    private enum CodingKeys: String, CodingKey {
        case id, name, model, state, lifecycle, parent, depth, owner, trace, step, mail
        case capabilityCount = "capability_count"
        case createdAt = "created_at"
    }
}

/// How many agents there may be, and how they may multiply.
package struct AgentLimits: Sendable, Hashable {
    /// Live agents of the node.
    package var live = 100
    /// How deep agents may spawn agents; what a person spawns has depth 0.
    package var depth = 5
    /// Children of one call of `spawn_agents`.
    package var batch = 3
    /// Stopped agents whose steps are kept to be looked at.
    package var remembered = 200
    /// The limits of a configuration that says nothing.
    package init() {}
}

/// Who wants an agent.
package enum Spawner: Sendable {
    /// A user of the node, through a socket; nobody's group where theirs is not known.
    case person(uid: UInt32, gid: UInt32 = 65_534)
    /// An agent, through its tools.
    case agent(AgentProcess)
}
