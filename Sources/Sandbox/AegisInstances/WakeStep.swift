package import AegisCore
internal import AegisSandboxTypes

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

/// Somebody who needs the instance, as a value: `Instance` does what it says, and tests play it in every order with others.
package struct Waker: Sendable, Equatable {
    /// A start that somebody waited for and that came to nothing is not tried again by the same waiter.
    private var seenStart = false

    /// One that has not looked yet.
    package init() {}

    /// What it does now; after anything but `use` it is asked again.
    package mutating func next(_ machine: InstanceLifecycle) -> WakeStep {
        let step = machine.wakeStep(seenStart: seenStart)
        if step == .awaitStart || step == .start { seenStart = true }
        return step
    }
}

/// What somebody waits for before it looks again.
package enum LifecycleWait: Sendable, Equatable {
    /// Something has come of the start of that number.
    case start(attempt: UInt64)
    /// It is neither asleep nor on its way there or back.
    case thaw
    /// The run of that number is over, and cleaned up after.
    case end(attempt: UInt64)

    /// Whether the wait is over. It is so in every life that leads there, also when the instance is started again meanwhile.
    package func isOver(_ machine: InstanceLifecycle) -> Bool {
        switch self {
        // A command that could not be started is still being cleaned up after: only then the reason is known.
        case .start(let attempt):
            machine.attempt != attempt || machine.isOver || machine.state == .running || machine.state == .paused
        case .thaw: machine.hasLeftSleep
        case .end(let attempt):
            machine.attempt != attempt || machine.phase == .stopped || machine.phase == .deleted
        }
    }
}

/// What came of a start that somebody has awaited.
package enum AwaitedStart: Sendable {
    /// It went well, or ended in a way that the next look tells.
    case done
    /// Somebody has restarted it: that start counts.
    case replaced
    case failed(AegisError)
    /// It was stopped or deleted while it started.
    case cancelled(InstanceLifecycle.StopReason)
}

extension InstanceLifecycle {
    /// What came of a start, once `LifecycleWait.start` is over.
    package func awaitedStart(_ number: UInt64) -> AwaitedStart {
        guard attempt == number else { return .replaced }
        if outcome?.reason == .bootFailed, let error = outcome?.error { return .failed(error) }
        if isAtRest, let reason = outcome?.reason, reason == .stopped || reason == .deleted {
            return .cancelled(reason)
        }
        return .done
    }

    /// Where it stands, as far as sleep is concerned.
    package var stage: WakeLedger.Stage {
        switch phase {
        case .running: .running
        case .paused: .paused
        default: .other
        }
    }
}

extension WakeLedger {
    /// Closes the ledger for a sleep that is due, if nobody holds at this very moment.
    ///
    /// - Returns: what the machine is told then; nil when it stays awake.
    package mutating func fallAsleep(_ due: Due, now: Duration) -> InstanceLifecycle.Event? {
        guard closeIfIdle(due, now: now) else { return nil }
        return due == .pause ? .pause : .stop(.idle)
    }
}
