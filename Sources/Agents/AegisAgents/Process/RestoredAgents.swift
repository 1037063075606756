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
        for (id, text) in try sessions.records() {
            let session = Session(try sessions.steps(of: id).lazy.map(\.step))
            try sessions.forgetMail(of: id)
            guard let (step, trace) = end(of: session, record: text) else { continue }
            var place = SessionStore.Place(of: id)
            try sessions.append([SessionStore.Draft(step, at: session.count, trace: trace, time: now)], to: &place)
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

    /// The step after which nothing of a session goes on.
    ///
    /// - Parameters:
    ///   - session: as it is in the backup.
    ///   - text: the record of its agent.
    /// - Returns: the step and the turn that it ends; nil where nothing is under way.
    private static func end(of session: Session, record text: String) -> (step: SessionStep, trace: String)? {
        // The daemon ends it: what was begun is told as unclear, in the ledger too.
        if let turn = session.turn { return (.stopped, turn.trace) }
        // One that failed and waits to be begun anew is over already, and so has to be called off. Which one waits its manifest says;
        // an agent whose manifest cannot be read is not brought back either.
        guard let last = session.last,
            let record = try? JSONValue(parsing: text.utf8).decode(AgentRecord.self),
            let manifest = try? record.readManifest(),
            manifest.restart.pause(after: last.stop, restarts: last.turn.restarts) != nil
        else { return nil }
        return (.ended(.cancelled, nil), last.turn.trace)
    }
}
