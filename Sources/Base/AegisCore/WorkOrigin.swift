/// On whose behalf a task works. What it does is recorded in places that know the agent and no more: they find the rest here.
package struct WorkOrigin: Sendable, Hashable {
    /// The agent's id.
    package var agent: String
    /// The id of the one that made it; nil for one that a person made.
    package var parent: String?
    /// What belongs to one request, over all agents that have a part in it.
    package var trace: String
    /// The step of the agent's loop.
    package var step: Int

    /// Describes one.
    package init(agent: String, parent: String?, trace: String, step: Int) {
        self.agent = agent
        self.parent = parent
        self.trace = trace
        self.step = step
    }

    /// The current task's; calls of `BlockingPool` have that of whoever makes them.
    @TaskLocal package static var current: WorkOrigin?
}
