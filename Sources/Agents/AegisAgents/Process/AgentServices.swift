package import AegisAudit
package import AegisCapabilities
package import AegisCore
package import AegisFiles
package import AegisIO
package import AegisTools

/// What agents need of the house: made once, by the composition root.
package struct AgentServices: Sendable {
    package var store: SessionStore
    package var models: any ModelDesk
    package var registry: ToolRegistry
    package var tools: ToolGate
    package var grants: GrantBook
    package var audit: any AuditTrail
    /// Who is asked for approval; nil where nobody can be.
    package var desk: (any ApprovalDesk)?
    /// The files that an agent may have to do with, before its grants are asked.
    package var files: @Sendable (AgentRecord) async -> FileScope?
    /// Where their programs run; nil where none can.
    package var sandboxes: (any AgentSandboxes)?
    /// Tools that may come into the registry yet; nil where none do.
    package var late: (any LateTools)?
    /// Tells of answers while they are written.
    package let live = LiveAnswers()
    /// Model calls of one turn of agents whose manifest does not say.
    package var iterations = 50
    /// Clears away what an agent that is gone has had.
    package var gone: @Sendable (AgentRecord) async -> Void
    /// Clears away what a goal's agent has left in its workspace, once the goal is forgotten.
    package var forgotten: @Sendable (String) -> Void
    /// Where agents' tasks live; its end interrupts them and loses nothing.
    package var scope: TaskScope
    /// The time of day.
    package var now: @Sendable () -> Timestamp
    package var clock: any Clock<Duration>
    package var logger: Logger

    /// Puts the services together.
    package init(
        store: SessionStore, models: any ModelDesk, registry: ToolRegistry, tools: ToolGate, grants: GrantBook,
        audit: any AuditTrail,
        desk: (any ApprovalDesk)? = nil, files: @escaping @Sendable (AgentRecord) async -> FileScope? = { _ in nil },
        sandboxes: (any AgentSandboxes)? = nil, late: (any LateTools)? = nil,
        gone: @escaping @Sendable (AgentRecord) async -> Void = { _ in },
        forgotten: @escaping @Sendable (String) -> Void = { _ in },
        scope: TaskScope, now: @escaping @Sendable () -> Timestamp, clock: any Clock<Duration>, logger: Logger
    ) {
        self.store = store
        self.models = models
        self.registry = registry
        self.tools = tools
        self.grants = grants
        self.audit = audit
        self.desk = desk
        self.files = files
        self.sandboxes = sandboxes
        self.late = late
        self.gone = gone
        self.forgotten = forgotten
        self.scope = scope
        self.now = now
        self.clock = clock
        self.logger = logger
    }
}
