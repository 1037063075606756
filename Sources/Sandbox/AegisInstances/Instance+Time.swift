internal import AegisChannel
internal import AegisCore
internal import AegisIO
internal import AegisSandboxTypes
internal import AegisSessions

/// How long a command has run, and for how long it may.
extension Instance {
    /// How long a harness may take to answer a daemon that has taken it over; one that is paused does not.
    private static let catchUpPatience = Duration.seconds(30)

    /// Ends the command when its time is over. One that an earlier daemon started has used up a part of it.
    func armTimeout(_ attempt: UInt64) {
        let isTakenOver = commandStarted == nil
        let age = isTakenOver ? Duration.milliseconds(commandAge) : .zero
        commandStarted = commandStarted ?? uptime - age
        isCatchingUp = isTakenOver
        let end = stored.info.limits.timeout.map { uptime + max(.zero, $0.duration - age) }
        guard isTakenOver || end != nil else { return }
        let (clock, session) = (services.clock, isTakenOver ? session : nil)
        timeoutTask = services.scope.spawn("instance-timeout") { [weak self] in
            if let session { await self?.catchUp(with: session) }
            guard let end, let now = self?.uptime else { return }
            try? await clock.sleep(for: max(.zero, end - now))
            if !Task.isCancelled { self?.post(.stop(.timeout)) }
        }
    }

    /// For how long the command runs by the host's clock, in milliseconds.
    private var commandAge: Int64 {
        stored.info.startedAt.map { max(0, Timestamp.now().milliseconds - $0.milliseconds) } ?? 0
    }

    /// Waits until the session has taken all that the keeper had kept: the command may have ended while no daemon ran, and in its
    /// time. What a harness answers comes after that.
    private func catchUp(with session: HarnessSession) async {
        try? await withDeadline(Self.catchUpPatience, clock: services.clock) { try await session.health() }
        drain()
        // An end that has come by now has taken this task with it.
        if !Task.isCancelled { isCatchingUp = false }
    }
}
