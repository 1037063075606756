package import AegisAudit
internal import AegisCore
internal import AegisJSON

extension AuditKind {
    /// A turn that failed is begun anew in a moment: `attempt`, `of`, `pause_ms`, `code`.
    package static let agentRestarting = AuditKind("agent_restarting")
    /// A turn failed as often as its manifest allows: `restarts`, `code`.
    package static let agentGaveUp = AuditKind("agent_gave_up")
    /// All of them.
    package static let ofRestarts: [AuditKind] = [.agentRestarting, .agentGaveUp]
}

/// Supervision: what `restart` of the manifest says becomes of a turn that failed. The steps alone tell what is pending, so a
/// daemon that is killed in a pause changes nothing but its length.
extension AgentProcess {
    /// The pause before the last turn is begun anew; nil when it is not to be.
    var restartPause: Duration? { restartPause(session) }

    /// The turn that waits for it.
    var pausing: Session.Turn? { pausing(session) }

    nonisolated func pausing(_ session: Session) -> Session.Turn? {
        restartPause(session) == nil ? nil : session.last?.turn
    }

    nonisolated func restartPause(_ session: Session) -> Duration? {
        guard session.turn == nil, let last = session.last else { return nil }
        return manifest.restart.pause(after: last.stop, restarts: last.turn.restarts)
    }

    /// Waits, and begins anew. A task that is cancelled meanwhile leaves that to its next step.
    func restart(after pause: Duration) async throws {
        guard !Task.isCancelled else { return try giveUpRestart() }
        do { try await services.clock.sleep(for: pause) } catch { return }
        try log.record(.restarted())
    }

    /// Says that the turn which has just ended is begun anew, or that it will not be any more.
    ///
    /// - Returns: whether it is.
    func tellRestart(_ problem: TurnProblem?) -> Bool {
        guard let last = session.last else { return false }
        let code = problem?.code ?? last.stop.rawValue
        guard let pause = restartPause else {
            // It would have been, had it not been so often.
            if manifest.restart.pause(after: last.stop, restarts: -1) != nil {
                tell(
                    .agentGaveUp, [("restarts", .number(last.turn.restarts)), ("code", .string(code))],
                    trace: last.turn.trace)
            }
            return false
        }
        tellRestarting(last.turn.restarts + 1, pause, code, trace: last.turn.trace)
        return true
    }

    private func tellRestarting(_ attempt: Int, _ pause: Duration, _ code: String, trace: String?) {
        let milliseconds = pause.components.seconds * 1000 + pause.components.attoseconds / 1_000_000_000_000_000
        tell(
            .agentRestarting,
            [
                ("attempt", .number(attempt)), ("of", .number(manifest.restart.attempts)),
                ("pause_ms", .number(milliseconds)), ("code", .string(code)),
            ], trace: trace)
    }

    /// Waits after a step that could not be saved, as often as the manifest allows.
    ///
    /// - Returns: whether it is tried again.
    func recovers(_ error: AegisError) async -> Bool {
        guard !isStopping, let pause = manifest.restart.pause(after: nil, restarts: crashes) else { return false }
        crashes += 1
        tellRestarting(crashes, pause, error.code, trace: trace)
        isRecovering = true
        defer { isRecovering = false }
        // Where that is cut short, whoever cut it knows what becomes of the turn.
        try? await services.clock.sleep(for: pause)
        return true
    }
}
