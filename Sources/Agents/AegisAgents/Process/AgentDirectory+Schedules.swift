internal import AegisCore
internal import AegisIO

extension AgentDirectory {
    /// Calls a scheduled agent when it is due, for as long as it lives. What is due while the last call still waits is left out.
    func keepSchedule(of process: AgentProcess) {
        guard case .scheduled(let schedule) = process.manifest.lifecycle else { return }
        let (now, clock, logger) = (services.now, services.clock, services.logger)
        schedules[process.id] = services.scope.spawn("schedule \(process.id)") { [self] in
            var moments = ScheduledMoments(of: schedule, now: now, clock: clock)
            // One that the last daemon left waiting is work as well.
            var trace = await process.scheduledTrace ?? ""
            while let due = await moments.next() {
                // It has its work before it already.
                if await process.waits(trace) { continue }
                let text = "It is \(moments.isLate(due) ? now() : due): do your scheduled work."
                do { trace = try await deliver(text, to: process, due: due).trace } catch {
                    logger.warning("a scheduled agent was not called", ("agent", process.id), ("error", "\(error)"))
                }
            }
        }
    }
}

/// The moments of a schedule, one after the other, each once it has come.
///
/// They are moments of the wall's time, and what waits is a clock that stands still while the machine is suspended and takes no notice
/// of a wall that is set: so the wall is looked at again at every full minute, which is the same one for all schedules of a daemon.
struct ScheduledMoments {
    private let schedule: CronSchedule
    private let now: @Sendable () -> Timestamp
    private let clock: any Clock<Duration>
    /// The last moment: the wall may lag behind the clock that waits, and none comes twice.
    private var last: Timestamp
    /// When the wall was looked at last.
    private var seen: Timestamp

    /// Begins now.
    init(of schedule: CronSchedule, now: @escaping @Sendable () -> Timestamp, clock: any Clock<Duration>) {
        (self.schedule, self.now, self.clock) = (schedule, now, clock)
        last = now()
        seen = last
    }

    /// Waits for the next one.
    ///
    /// - Returns: the moment; nil when there is none any more, or the waiting task was cancelled.
    mutating func next() async -> Timestamp? {
        while true {
            let time = now()
            // Set back by more than what clocks correct every day: the schedule is that of the new time.
            if seen.since(time) > Self.minute { last = time }
            seen = time
            guard let due = schedule.next(after: last) else { return nil }
            guard time < due else {
                // What has passed meanwhile is not made up for.
                last = max(due, time)
                return due
            }
            do { try await clock.sleep(for: min(due.since(time), Self.rest(of: time))) } catch { return nil }
        }
    }

    /// Whether a moment has passed so long ago that it is not the time any more.
    func isLate(_ due: Timestamp) -> Bool { now().since(due) > Self.minute }

    private static let minute = Duration.seconds(60)

    private static func rest(of time: Timestamp) -> Duration { .milliseconds(60_000 - time.milliseconds % 60_000) }
}
