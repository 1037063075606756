internal import AegisSandboxTypes

/// The instances in which programs of agents run.
extension InstanceDirectory {
    /// All of them.
    package var ofAgents: [Instance] { all.filter { $0.agent != nil } }

    /// That of one agent; nil when it has none.
    package func instance(ofAgent id: String) -> Instance? { all.first { $0.agent?.agent == id } }
}
