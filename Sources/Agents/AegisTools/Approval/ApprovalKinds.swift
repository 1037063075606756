package import AegisAudit

extension AuditKind {
    /// A call waits for a person: `approval`, `tool`, `call_id`, `input_hash`, `grant`, `resource`, `expires_at`, `door`.
    package static let approvalRequested = AuditKind("human_approval_requested")
    /// A person agreed: `approval`, `tool`, `call_id`, `uid`, `door`, `for_session`.
    package static let approvalGranted = AuditKind("human_approval_granted")
    /// A person refused: `approval`, `tool`, `call_id`, `uid`, `door`, `reason`.
    package static let approvalDenied = AuditKind("human_approval_denied", .denial)
    /// Nobody answered in time: `approval`, `tool`, `call_id`.
    package static let approvalExpired = AuditKind("human_approval_expired", .denial)
    /// The agent was stopped, or the call cancelled or changed: `approval`, `tool`, `call_id`, `reason`.
    package static let approvalWithdrawn = AuditKind("human_approval_withdrawn", .denial)
    /// All of them.
    package static let ofApprovals: [AuditKind] = [
        .approvalRequested, .approvalGranted, .approvalDenied, .approvalExpired, .approvalWithdrawn,
    ]
}
