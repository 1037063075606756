/// What somebody who needs the instance does next, by where it stands.
package enum WakeStep: Sendable, Equatable {
    /// It runs.
    case use
    /// A start is under way: its end is awaited.
    case awaitStart
    /// It sleeps, or is about to: it is resumed, once that is allowed.
    case resume
    /// Somebody else resumes it.
    case awaitThaw
    /// It goes down: that comes first.
    case awaitEnd
    /// It is stopped: it is started, once that is allowed.
    case start
    /// A start was seen to its end, and did not last: it is not tried again by the same waiter.
    case ended
    /// It is gone for good.
    case gone
}

extension InstanceLifecycle {
    /// The next step of a waiter.
    ///
    /// - Parameter seenStart: whether it has begun or awaited a start before.
    /// - Returns: what to do; after anything but `use` it is asked again.
    package func wakeStep(seenStart: Bool) -> WakeStep {
        switch phase {
        case .running: .use
        case .booting, .launching: .awaitStart
        case .paused, .freezing: .resume
        case .thawing: isThawing ? .awaitThaw : .awaitEnd
        case .aborting, .terminating, .killing, .recording, .releasing: .awaitEnd
        // Its sandbox stays for its files only.
        case .quiescing, .lingering: .ended
        case .stopped: seenStart ? .ended : .start
        case .removing, .deleted: .gone
        }
    }

    /// Whether it is neither asleep nor on its way there or back.
    package var hasLeftSleep: Bool { phase != .freezing && phase != .paused && !isThawing }
}
