internal import Synchronization

/// The live agents by their ids. The directory alone changes it; everybody may look without waiting for what the directory does.
final class LiveAgents: Sendable {
    private let agents = Mutex<[String: AgentProcess]>([:])

    /// An agent by its id.
    subscript(id: String) -> AgentProcess? { agents.withLock { $0[id] } }

    /// All of them, in no order.
    var values: [AgentProcess] { agents.withLock { Array($0.values) } }

    /// How many there are.
    var count: Int { agents.withLock { $0.count } }

    /// Takes one in.
    func insert(_ process: AgentProcess) { agents.withLock { $0[process.id] = process } }

    /// Takes one out.
    ///
    /// - Returns: whether it was there.
    func remove(_ id: String) -> Bool { agents.withLock { $0.removeValue(forKey: id) } != nil }
}
