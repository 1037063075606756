package import AegisCore
internal import AegisJSON
package import AegisStore
internal import AegisTools

/// The records of a backup, made those of a node where no agent is at work.
///
/// What agents did after the backup is not in it, and their workspaces are not either: going on would do things twice, or without
/// what they need. Agents, their sessions and memories stay; what was under way does not.
package enum RestoredAgents {
    /// Ends turns that were under way, goals that were not over, messages that waited, and requests for approval.
    ///
    /// - Parameters:
    ///   - database: the records, brought up to date.
    ///   - now: the time.
    /// - Throws: what SQLite says.
    package static func settle(_ database: Database, at now: Timestamp) throws(AegisError) {
        let sessions = SessionStore(database)
        for (id, _) in try sessions.records() {
            let session = Session(try sessions.steps(of: id).lazy.map(\.step))
            try sessions.forgetMail(of: id)
            guard let turn = session.turn else { continue }
            var place = SessionStore.Place(of: id)
            let step = SessionStore.Draft(.stopped, at: session.count, trace: turn.trace, time: now)
            try sessions.append([step], to: &place)
        }
        let goals = GoalStore(database)
        for var goal in try goals.all() where !goal.isOver {
            (goal.state, goal.stop, goal.endedAt) = (.cancelled, .cancelled, now)
            goal.problem = TurnProblem(
                code: "goal-restored",
                message:
                    "it comes from a backup: whether it was done after that is not known; give it again if it was not")
            try goals.save(goal)
        }
        try ApprovalQueue.settleRestored(database, at: now)
    }
}
