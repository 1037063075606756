package import AegisAudit
internal import AegisJSON

extension AuditKind {
    /// A goal was taken: `goal`, `owner`.
    package static let goalSubmitted = AuditKind("goal_submitted")
    /// An agent works on a goal: `goal`, `owner`.
    package static let goalStarted = AuditKind("goal_started")
    /// A goal is over: `goal`, `owner`, `state`, `stop_reason`, `code`.
    package static let goalEnded = AuditKind("goal_ended")
    /// All of them.
    package static let ofGoals: [AuditKind] = [.goalSubmitted, .goalStarted, .goalEnded]
}

extension Goal {
    /// What the ledger is told of where it stands now.
    var event: AuditEvent {
        let kind: AuditKind =
            switch state {
            case .queued: .goalSubmitted
            case .running: .goalStarted
            case .ended, .cancelled: .goalEnded
            }
        var event = AuditEvent(
            kind, agent: agent, trace: trace, ("goal", .string(id)), ("owner", .number(owner)),
            ("state", .string(state.rawValue)))
        if let stop { event.fields.append(.init("stop_reason", .string(stop.rawValue))) }
        if let problem { event.fields.append(.init("code", .string(problem.code))) }
        return event
    }
}

extension GoalQueue {
    /// Tells the ledger where a goal stands; it stands there already.
    nonisolated func record(_ goal: Goal, _ audit: any AuditTrail) { _ = try? audit.record(goal.event) }
}
