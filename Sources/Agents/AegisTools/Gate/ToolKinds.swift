package import AegisAudit

extension AuditKind {
    /// A call is about to have its effect: `tool`, `call_id`, `input_hash`, `input_preview`, `grant`, `effects`, `door`.
    package static let toolInvoked = AuditKind("tool_invoked")
    /// A call has ended: `tool`, `call_id`, `success`, `code`, `bytes`, `microseconds`.
    package static let toolResult = AuditKind("tool_result")
    /// A call, or a resource that it wanted, was refused: `tool`, `call_id`, `code`, `reason`.
    package static let toolRefused = AuditKind("tool_refused", .denial)
    /// A resumed run took a saved outcome, or cannot know it: `tool`, `call_id`, `outcome`.
    package static let toolResumed = AuditKind("tool_resumed")
    /// All of them.
    package static let ofTools: [AuditKind] = [.toolInvoked, .toolResult, .toolRefused, .toolResumed]
}
