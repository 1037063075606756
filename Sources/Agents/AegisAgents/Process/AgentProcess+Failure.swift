internal import AegisCore
internal import AegisIO

/// What could not be saved: it is tried again until it can be.
extension AgentProcess {
    /// Ends a turn of which it was said that it failed: whoever was told so must not see it go on.
    func endFailed() throws {
        guard let failure, !isStopping else { return }
        let isUnderWay = session.turn != nil
        if let turn = session.turn ?? pausing, turn.trace == failure.trace {
            // What was begun and has no outcome is said to be unclear.
            if isUnderWay, !turn.isStopped { try log.record(.stopped) }
            // Supervision has had its turns with it: it must not be begun anew, whatever becomes of the daemon after this step.
            let isBegunAnew = !isUnderWay || manifest.restart.pause(after: .error, restarts: turn.restarts) != nil
            try log.record(.ended(isBegunAnew ? .cancelled : .error, failure.problem), synced: true)
            let result = result(of: turn, .error, failure.problem)
            if isUnderWay { tellEnded(result) }
            settle(result)
        }
        learned = nil
        crashes = 0
        // It was meant for that turn.
        isCancelling = false
        self.failure = nil
    }

    /// What a turn came to.
    func result(of turn: Session.Turn, _ stop: TurnStop, _ problem: TurnProblem?) -> TurnResult {
        var result = TurnResult(trace: turn.trace, stop: stop, problem: problem)
        result.response = session.lastText
        result.usage = turn.allUsage
        result.iterations = turn.allIterations
        return result
    }

    /// Removes saved messages that are not to be worked on: one trace, or all. Who sent one was told that nothing will come of it:
    /// it must not come back with the next daemon either.
    func forgetMail(_ trace: String?) {
        guard record.outlivesDaemon else { return }
        do throws(AegisError) { try services.store.forgetMail(of: id, trace: trace) } catch {
            services.logger.error("a message that was withdrawn stays", ("agent", id), ("error", error.message))
            guard let trace else { return }
            leftovers.insert(trace)
            goOnLater()
        }
    }

    /// Removes what could not be removed before.
    func forgetLeftovers() {
        for trace in leftovers where (try? services.store.forgetMail(of: id, trace: trace)) != nil {
            leftovers.remove(trace)
        }
    }

    /// Goes on in a while with what could not be saved.
    func goOnLater() {
        guard !isRetryDue else { return }
        isRetryDue = true
        services.scope.spawn("what \(id) has not saved") { [self, clock = services.clock] in
            do { try await clock.sleep(for: Self.failurePause) } catch { return }
            await goOn()
        }
    }

    private func goOn() {
        isRetryDue = false
        guard !isStopping else { return }
        forgetLeftovers()
        if !leftovers.isEmpty { goOnLater() }
        work()
    }

    private static let failurePause = Duration.seconds(5)
}
