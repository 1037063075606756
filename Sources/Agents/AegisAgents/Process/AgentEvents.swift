package import AegisAudit

extension AuditKind {
    /// An agent has come, with its grants.
    package static let agentSpawned = AuditKind("agent_spawned")
    /// An agent is gone.
    package static let agentStopped = AuditKind("agent_stopped")
    /// A message has reached an agent, and a turn begins.
    package static let messageReceived = AuditKind("agent_message_received")
    /// What a model said.
    package static let agentThought = AuditKind("agent_thought", .report)
    /// A turn has ended.
    package static let executionCompleted = AuditKind("agent_execution_completed")
    /// Old messages were replaced by a summary.
    package static let contextSummarized = AuditKind("context_summarized")
    /// There was no summary to be had.
    package static let contextSummarizationFailed = AuditKind("context_summarization_failed")
    /// Old messages were left out.
    package static let contextDropped = AuditKind("context_dropped")
}
