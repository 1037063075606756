internal import Synchronization

/// Gives calls of one provider their turns; see `ScheduleMachine` for who is next.
///
/// It has no task of its own: while something will happen by time alone (a minute's rate, a deadline), one of those that wait
/// sleeps until then for all of them.
package final class Scheduler: Sendable {
    fileprivate typealias ID = ScheduleMachine.ID

    /// What one that waits is told.
    fileprivate enum Signal: Sendable {
        case begin
        case refused(ScheduleRefusal)
        /// Sleep until then, and let the machine go on.
        case keepTime(until: Duration)
    }
    fileprivate struct Waiter {
        var continuation: CheckedContinuation<Signal?, Never>?
        var signal: Signal?
        /// Its turn has come, or never will.
        var isOver = false
    }
    fileprivate struct State {
        var machine: ScheduleMachine
        var waiters: [ID: Waiter] = [:]
        /// Who sleeps for all, and until when.
        var keeper: (id: ID, until: Duration)?
    }
    fileprivate typealias Resumptions = [(CheckedContinuation<Signal?, Never>, Signal?)]

    private let time: InferenceTime
    private let state: Mutex<State>

    /// Makes the queue of one provider.
    package init(_ policy: SchedulePolicy, time: InferenceTime) {
        self.time = time
        state = Mutex(State(machine: ScheduleMachine(policy, at: time.now)))
    }

    /// Waits for a turn.
    ///
    /// - Parameter ticket: whose call it is.
    /// - Returns: the turn; it ends when it is released or dropped.
    /// - Throws: why there is none. Cancelling the task throws `.cancelled`.
    package func acquire(_ ticket: ScheduleTicket) async throws(ScheduleRefusal) -> SchedulePermit {
        let id = try enter(ticket)
        var signal = await mailbox(id)
        while true {
            switch signal {
            case .begin?:
                state.withLock { $0.waiters[id] = nil }
                let permit = SchedulePermit(scheduler: self, id: id)
                if Task.isCancelled {
                    permit.release(used: 0)
                    throw .cancelled
                }
                return permit
            case .refused(let refusal)?:
                state.withLock { $0.waiters[id] = nil }
                throw refusal
            case .keepTime(let until)?:
                signal = await keepTime(id, until: until)
            case nil:
                // Nothing was said: the task was cancelled.
                if abandon(id) { throw .cancelled }
                signal = .begin
            }
        }
    }

    /// Lets nothing begin for a while: the provider has asked for it.
    package func hold(for duration: Duration) {
        step { machine, now in
            machine.hold(until: now + duration)
            return machine.advance(at: now)
        }
    }

    /// How many calls run, and how many wait.
    package var counts: (running: Int, waiting: Int) {
        state.withLock { ($0.machine.runningCount, $0.machine.waitingCount) }
    }

    fileprivate func release(_ id: UInt64, used: Int?) { step { $0.leave(id, used: used, at: $1) } }

    // MARK: Waiting

    private func enter(_ ticket: ScheduleTicket) throws(ScheduleRefusal) -> ID {
        let now = time.now
        let (result, resumptions) = state.withLock { state -> (Result<ID, ScheduleRefusal>, Resumptions) in
            do throws(ScheduleRefusal) {
                let (id, outcome) = try state.machine.enter(ticket, at: now)
                state.waiters[id] = Waiter()
                return (.success(id), state.apply(outcome, at: now))
            } catch {
                return (.failure(error), [])
            }
        }
        for (continuation, signal) in resumptions { continuation.resume(returning: signal) }
        return try result.get()
    }

    /// What this one is told next; nil when the task is cancelled first.
    private func mailbox(_ id: ID) async -> Signal? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let now: (Bool, Signal?) = state.withLock { state in
                    if let signal = state.waiters[id]?.signal {
                        state.waiters[id]?.signal = nil
                        return (true, signal)
                    }
                    if Task.isCancelled { return (true, nil) }
                    state.waiters[id]?.continuation = continuation
                    return (state.waiters[id] == nil, nil)
                }
                if now.0 { continuation.resume(returning: now.1) }
            }
        } onCancel: {
            let continuation = state.withLock { state in
                let continuation = state.waiters[id]?.continuation
                state.waiters[id]?.continuation = nil
                return continuation
            }
            continuation?.resume(returning: nil)
        }
    }

    /// Sleeps for all, unless something is said first; then takes what is said.
    private func keepTime(_ id: ID, until: Duration) async -> Signal? {
        let said = await withTaskGroup(of: Signal?.self) { group in
            group.addTask {
                try? await self.time.sleep(for: max(.zero, until - self.time.now))
                return nil
            }
            group.addTask { await self.mailbox(id) }
            // Whichever is first ends the other; what was said meanwhile is not lost.
            let first = await group.next() ?? nil
            group.cancelAll()
            let second = await group.next() ?? nil
            return first ?? second
        }
        if let said { return said }
        // Another one is found when this one has left the queue.
        if Task.isCancelled { return nil }
        state.withLock { if $0.keeper?.id == id { $0.keeper = nil } }
        step { $0.advance(at: $1) }
        return await mailbox(id)
    }

    /// Leaves the queue; false when its turn has come meanwhile, which is then given back.
    private func abandon(_ id: ID) -> Bool {
        let now = time.now
        let (hasLeft, resumptions) = state.withLock { state -> (Bool, Resumptions) in
            if state.keeper?.id == id { state.keeper = nil }
            let (wasWaiting, outcome) = state.machine.cancel(id, at: now)
            let wasRefused = if case .refused? = state.waiters[id]?.signal { true } else { false }
            if wasWaiting || wasRefused { state.waiters[id] = nil }
            return (wasWaiting || wasRefused, state.apply(outcome, at: now))
        }
        for (continuation, signal) in resumptions { continuation.resume(returning: signal) }
        return hasLeft
    }

    private func step(_ body: (inout ScheduleMachine, Duration) -> ScheduleMachine.Outcome) {
        let now = time.now
        let resumptions = state.withLock { $0.apply(body(&$0.machine, now), at: now) }
        for (continuation, signal) in resumptions { continuation.resume(returning: signal) }
    }
}

extension Scheduler.State {
    /// Says what has happened to those whom it concerns, and finds one that keeps the time if that is needed.
    fileprivate mutating func apply(_ outcome: ScheduleMachine.Outcome, at now: Duration) -> Scheduler.Resumptions {
        var resumptions: Scheduler.Resumptions = []
        for id in outcome.granted { tell(id, .begin, &resumptions) }
        for id in outcome.expired { tell(id, .refused(.expired), &resumptions) }
        if let keeper, outcome.granted.contains(keeper.id) || outcome.expired.contains(keeper.id) { self.keeper = nil }
        guard let until = machine.wakeTime(at: now) else { return resumptions }
        if let keeper, keeper.until <= until { return resumptions }
        let waiting = waiters.lazy.filter { !$0.value.isOver }.map(\.key)
        guard let id = keeper?.id ?? waiting.min() else { return resumptions }
        keeper = (id, until)
        tell(id, .keepTime(until: until), &resumptions)
        return resumptions
    }

    private mutating func tell(_ id: UInt64, _ signal: Scheduler.Signal, _ resumptions: inout Scheduler.Resumptions) {
        guard let waiter = waiters[id] else { return }
        if case .keepTime = signal {} else { waiters[id]?.isOver = true }
        if let continuation = waiter.continuation {
            waiters[id]?.continuation = nil
            resumptions.append((continuation, signal))
        } else {
            waiters[id]?.signal = signal
        }
    }
}

/// A turn at a provider, for one call of a model: it ends when it is released, or dropped.
package struct SchedulePermit: ~Copyable, Sendable {
    /// Nil once it is released.
    private var scheduler: Scheduler?
    private let id: UInt64

    fileprivate init(scheduler: Scheduler, id: UInt64) {
        self.scheduler = scheduler
        self.id = id
    }

    /// Ends the turn; `used` is how many tokens the call has taken, nil when that is not known, 0 when it was not made.
    package consuming func release(used: Int?) {
        scheduler?.release(id, used: used)
        scheduler = nil
    }

    deinit { scheduler?.release(id, used: nil) }
}
