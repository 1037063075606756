// Long file: one state machine, read from top to bottom; cutting it would hide transitions from one another.
internal import AegisBackends
internal import AegisCore
package import AegisSandboxTypes

/// The life of one instance as a pure machine: events in, the next phase and effects out.
///
/// Nothing here does I/O or waits. Every effect that takes time reports back as an event that carries the attempt it
/// belongs to, so an answer that comes late (a boot that finished after the stop) is recognised and undone instead of
/// overwriting what happened meanwhile.
package struct InstanceLifecycle: Sendable, Equatable {
    package private(set) var phase = Phase.stopped
    /// Counts boots; answers of earlier ones are stale.
    package private(set) var attempt: UInt64 = 0
    /// How the last run ended, known from `lingering` on.
    package private(set) var outcome: Outcome?
    /// The run that ended last, also when the next one is on its way.
    package private(set) var lastEnd: End?
    /// Whether the sandbox outlives its command (decision D9); false for all but runs that bring artifacts home.
    private let lingers: Bool
    /// Why the stop under way was asked for.
    private var stopReason: StopReason?
    private var commandCode: Int32?
    private var launchError: AegisError?
    private var wantsRestart = false
    private var wantsDelete = false
    /// Whether nobody is owed the deletion: a daemon that comes after a crash gives the client its end once more.
    private var leaves = false
    /// Whether the way down is without grace.
    private var isForced = false
    /// The end that an earlier daemon had saved; it stands.
    private var savedOutcome: Outcome?
    /// Whether the sandbox under `thawing` shall be terminated afterwards.
    private var terminateAfterThaw = false
    /// Whether somebody needs the sandbox that is being frozen: the freeze is let finish and undone at once.
    private var thawAfterFreeze = false

    /// A stopped instance.
    ///
    /// - Parameters:
    ///   - outcome: how it ended last, as far as the record tells.
    ///   - attempt: how often it was started before.
    ///   - lingers: whether the sandbox outlives its command.
    package init(outcome: Outcome? = nil, attempt: UInt64 = 0, lingers: Bool = false) {
        self.outcome = outcome
        self.attempt = attempt
        self.lingers = lingers
    }

    /// The state that users see.
    package var state: InstanceState {
        switch phase {
        case .stopped, .removing, .deleted: .stopped
        case .booting, .launching: .starting
        case .running, .freezing: .running
        case .paused: .paused
        case .thawing: terminateAfterThaw ? .stopping : .paused
        case .aborting, .terminating, .quiescing, .lingering, .killing, .recording, .releasing: .stopping
        }
    }

    /// Whether it is to be deleted.
    package var isLeaving: Bool { wantsDelete }

    /// Whether it is on its way from paused to running.
    package var isThawing: Bool { phase == .thawing && !terminateAfterThaw }

    /// What was asked for and is not done yet.
    package var intent: Intent? {
        guard phase != .stopped, phase != .deleted else { return nil }
        if wantsDelete { return leaves ? nil : Intent(.delete, reason: stopReason, isForced: isForced) }
        if wantsRestart { return Intent(.restart) }
        if let stopReason { return Intent(.stop, reason: stopReason, isForced: isForced) }
        return phase == .booting ? Intent(.start) : nil
    }

    /// Whether it is stopped for now, or for good: nothing is under way that leads elsewhere.
    package var isAtRest: Bool { phase == .stopped || phase == .removing || phase == .deleted }
    /// Whether the command's run is over and its outcome known, whatever is still there of the sandbox.
    package var isOver: Bool { isAtRest || phase == .lingering }

    /// How a run ended; nil while it has not, or when it is too long ago.
    package func end(of number: UInt64) -> Outcome? {
        if attempt == number, isOver { return outcome }
        return lastEnd?.attempt == number ? lastEnd?.outcome : nil
    }

    /// Whether the command has ended by itself: nobody asked for its end, and it had begun. Its exit code is known.
    package var endedByItself: Bool { commandCode != nil && stopReason == nil && launchError == nil }

    /// Takes one event and says what to do. What is asked for is saved before anything is done about it.
    package mutating func handle(_ event: Event) -> [Effect] {
        guard phase != .deleted else { return [] }
        let before = intent
        let effects = react(to: event)
        guard intent != before, let intent, effects.first != .save else { return effects }
        // On the way to another run the end of this one comes first.
        if intent.verb == .start { return effects }
        return [.save] + effects.filter { $0 != .save }
    }

    private mutating func react(to event: Event) -> [Effect] {
        switch event {
        case .start: return start()
        case .stop(let reason): return stop(reason)
        case .kill(let reason): return kill(reason)
        case .restart: return restart()
        case .delete:
            leaves = false
            return delete()
        case .leave:
            leaves = leaves || !wantsDelete
            return delete()
        case .pause: return pause()
        case .resume: return resume()
        case .removed:
            guard phase == .removing else { return [] }
            phase = .deleted
            return [.settled]
        case .adopted(let found):
            guard phase == .stopped else { return [] }
            return adopt(found)
        case .recovered(let intent):
            guard phase == .stopped else { return [] }
            return carryOn(intent)
        case .booted, .bootFailed, .launched, .launchFailed, .commandExited, .sandboxEnded, .quiesced, .quiesceFailed,
            .frozen, .freezeFailed, .thawed, .recorded, .released:
            return answer(event)
        }
    }

    // MARK: What an earlier daemon left

    private mutating func adopt(_ found: Adoption) -> [Effect] {
        attempt = found.attempt
        outcome = nil
        savedOutcome = found.outcome
        guard found.outcome == nil else {
            // It has ended: only the keeper's word of it is awaited.
            phase = .killing
            return [.save] + carryOn(found.intent).filter { $0 != .save }
        }
        let isUp = found.isLaunched && !found.isStarting
        phase = isUp ? (found.isPaused ? .paused : .running) : .launching
        if let intent = found.intent, intent.verb != .start { return carryOn(intent) }
        if isUp { return [.save, .armTimeout(attempt: attempt)] }
        return [.save, found.isLaunched ? .finishLaunch(attempt: attempt) : .launch(attempt: attempt)]
    }

    private mutating func carryOn(_ intent: Intent?) -> [Effect] {
        guard let intent else { return [] }
        let isForced = intent.isForced ?? false
        switch intent.verb {
        case .start: return start()
        case .restart: return restart()
        case .stop:
            return isForced ? kill(intent.reason ?? .stopped) : stop(intent.reason ?? .stopped)
        case .delete:
            let effects = isForced ? kill(intent.reason ?? .deleted) : []
            return effects + delete().filter { !effects.contains($0) }
        }
    }

    // MARK: What people ask for

    private mutating func start() -> [Effect] {
        switch phase {
        case .stopped:
            attempt += 1
            phase = .booting
            outcome = nil
            savedOutcome = nil
            stopReason = nil
            commandCode = nil
            launchError = nil
            isForced = false
            return [.save, .boot(attempt: attempt)]
        case .paused, .freezing: return resume()
        case .aborting, .terminating, .quiescing, .lingering, .killing, .recording, .releasing:
            // Asked for while it is going down: it comes up again once it is down.
            if !wantsDelete { wantsRestart = true }
            return []
        default: return []
        }
    }

    private mutating func stop(_ reason: StopReason) -> [Effect] {
        wantsRestart = false
        return goDown(reason, graceful: true)
    }

    private mutating func kill(_ reason: StopReason) -> [Effect] {
        wantsRestart = false
        return goDown(reason, graceful: false)
    }

    private mutating func restart() -> [Effect] {
        guard !wantsDelete else { return [] }
        if phase == .stopped { return start() }
        wantsRestart = true
        return goDown(.stopped, graceful: true)
    }

    private mutating func delete() -> [Effect] {
        wantsRestart = false
        wantsDelete = true
        guard phase != .stopped else {
            phase = .removing
            return [.remove]
        }
        if phase == .recording, !leaves {
            // What is deleted needs no end that could be saved.
            phase = .releasing
            return [.release(attempt: attempt)]
        }
        return goDown(.deleted, graceful: true)
    }

    private mutating func goDown(_ reason: StopReason, graceful: Bool) -> [Effect] {
        if !graceful { isForced = true }
        switch phase {
        case .booting:
            stopReason = reason
            phase = .aborting
            return [.save, .cancelBoot(attempt: attempt)]
        case .launching, .running, .freezing:
            stopReason = reason
            if graceful && staysFor(reason) { return [.save, .disarmTimeout] + quiesce(graceful: true) }
            phase = graceful ? .terminating : .killing
            return [.save, .disarmTimeout, graceful ? .terminate(attempt: attempt) : .kill(attempt: attempt)]
        case .paused, .thawing:
            stopReason = reason
            guard graceful else {
                phase = .killing
                return [.save, .disarmTimeout, .kill(attempt: attempt)]
            }
            let thawing = phase == .thawing
            phase = .thawing
            terminateAfterThaw = true
            return thawing ? [.save] : [.save, .disarmTimeout, .thaw(attempt: attempt)]
        case .quiescing where graceful:
            // Why the command ended stands already.
            guard reason != .timeout else { return [] }
            phase = .terminating
            return [.save, .terminate(attempt: attempt)]
        case .terminating where !graceful, .quiescing, .lingering:
            phase = .killing
            return [.kill(attempt: attempt)]
        case .stopped, .aborting, .terminating, .killing, .recording, .releasing, .removing, .deleted: return []
        }
    }

    /// Whether the sandbox outlives its command's end by a stop: by the time-out only, others want it gone.
    private func staysFor(_ reason: StopReason) -> Bool { lingers && reason == .timeout }

    private mutating func quiesce(graceful: Bool) -> [Effect] {
        phase = .quiescing
        return [.quiesce(attempt: attempt, graceful: graceful)]
    }

    /// What follows when the command has ended by itself.
    private mutating func afterCommand() -> [Effect] {
        if lingers { return [.disarmTimeout] + quiesce(graceful: false) }
        phase = .killing
        return [.disarmTimeout, .kill(attempt: attempt)]
    }

    private mutating func pause() -> [Effect] {
        guard phase == .running else { return [] }
        phase = .freezing
        thawAfterFreeze = false
        return [.freeze(attempt: attempt)]
    }

    private mutating func resume() -> [Effect] {
        if phase == .freezing { thawAfterFreeze = true }
        guard phase == .paused else { return [] }
        phase = .thawing
        terminateAfterThaw = false
        return [.thaw(attempt: attempt)]
    }

    // MARK: What effects answer

    private mutating func answer(_ event: Event) -> [Effect] {
        switch event {
        case .booted(let number): booted(number)
        case .bootFailed(let number, let error): bootFailed(number, error)
        case .launched(let number): launched(number)
        case .launchFailed(let number, let error, let code): launchFailed(number, error, code)
        case .commandExited(let number, let code): commandExited(number, code)
        case .sandboxEnded(let number, let termination): sandboxEnded(number, termination)
        case .quiesced(let number, let oom): quiesced(number, oomKilled: oom)
        case .quiesceFailed(let number): quiesceFailed(number)
        case .frozen(let number): frozen(number)
        case .freezeFailed(let number): freezeFailed(number)
        case .thawed(let number): thawed(number)
        case .recorded(let number): recorded(number)
        case .released(let number): released(number)
        default: []
        }
    }

    private mutating func booted(_ number: UInt64) -> [Effect] {
        guard number == attempt else { return [] }
        switch phase {
        case .booting:
            phase = .launching
            return [.save, .launch(attempt: number)]
        case .aborting:
            // The boot won the race against its cancellation: take it down again.
            phase = .killing
            return [.kill(attempt: number)]
        default: return []
        }
    }

    private mutating func bootFailed(_ number: UInt64, _ error: AegisError) -> [Effect] {
        guard number == attempt else { return [] }
        switch phase {
        case .booting: return settle(Outcome(exitCode: nil, reason: .bootFailed, error: error))
        case .aborting: return settle(Outcome(exitCode: nil, reason: stopReason ?? .stopped))
        default: return []
        }
    }

    private mutating func launched(_ number: UInt64) -> [Effect] {
        guard number == attempt, phase == .launching else { return [] }
        phase = .running
        return [.save, .armTimeout(attempt: number)]
    }

    private mutating func launchFailed(_ number: UInt64, _ error: AegisError, _ code: Int32) -> [Effect] {
        guard number == attempt, phase == .launching else { return [] }
        commandCode = code
        launchError = error
        phase = .killing
        return [.kill(attempt: number)]
    }

    private mutating func commandExited(_ number: UInt64, _ code: Int32) -> [Effect] {
        guard number == attempt else { return [] }
        switch phase {
        case .launching, .running, .freezing:
            commandCode = code
            return afterCommand()
        case .paused, .thawing, .terminating, .quiescing, .lingering, .killing:
            commandCode = code
            return []
        default: return []
        }
    }

    private mutating func sandboxEnded(_ number: UInt64, _ termination: Termination) -> [Effect] {
        guard number == attempt else { return [] }
        switch phase {
        case .launching, .running, .freezing, .paused, .thawing, .terminating, .quiescing, .lingering, .killing:
            outcome = savedOutcome ?? conclude(termination)
            if wantsDelete, !leaves {
                phase = .releasing
                return [.disarmTimeout, .release(attempt: number)]
            }
            phase = .recording
            return [.disarmTimeout, .record(attempt: number)]
        default: return []
        }
    }

    private mutating func recorded(_ number: UInt64) -> [Effect] {
        guard number == attempt, phase == .recording else { return [] }
        phase = .releasing
        return [.release(attempt: number)]
    }

    private mutating func quiesced(_ number: UInt64, oomKilled: Bool) -> [Effect] {
        guard number == attempt, phase == .quiescing else { return [] }
        outcome = conclude(Termination(code: nil, oomKilled: oomKilled, requested: true))
        phase = .lingering
        return [.save]
    }

    private mutating func quiesceFailed(_ number: UInt64) -> [Effect] {
        guard number == attempt, phase == .quiescing else { return [] }
        phase = .killing
        return [.kill(attempt: number)]
    }

    /// The command's own end counts first, then what we asked for, then what the kernel or the keeper says.
    private func conclude(_ termination: Termination) -> Outcome {
        let oom = termination.oomKilled
        if let launchError {
            return Outcome(exitCode: commandCode, reason: .bootFailed, oomKilled: oom, error: launchError)
        }
        if stopReason == .timeout { return Outcome(exitCode: 124, reason: .timeout, oomKilled: oom) }
        if let stopReason {
            // A SIGKILL for the sandbox is one for the command; another code of the sandbox is not the command's.
            let code = commandCode ?? (termination.code == 137 ? 137 : nil)
            return Outcome(exitCode: code, reason: stopReason, oomKilled: oom)
        }
        if let commandCode {
            return Outcome(exitCode: commandCode, reason: oom && commandCode == 137 ? .oom : .exited, oomKilled: oom)
        }
        guard let code = termination.code else { return Outcome(exitCode: nil, reason: .lost, oomKilled: oom) }
        // The kernel's SIGKILL took the command along, whatever the runtime made of it.
        if oom { return Outcome(exitCode: 137, reason: .oom, oomKilled: true) }
        let why = termination.reason ?? "it ended with code \(code) before its command did"
        let error = AegisError.failed(
            "sandbox-died", "the sandbox was ended from outside, or broke: \(why)",
            hint: "see 'aegis logs' and the daemon's log")
        // The runtime's code says nothing about the command, whose own end nobody knows.
        return Outcome(exitCode: nil, reason: .killed, error: error)
    }

    private mutating func frozen(_ number: UInt64) -> [Effect] {
        guard number == attempt else { return [] }
        switch phase {
        case .freezing:
            phase = .paused
            return thawAfterFreeze ? resume() : [.save]
        case .terminating, .quiescing:
            // The stop came while the freezer was closing: open it, or the processes never see their SIGTERM.
            return [.thaw(attempt: number)]
        default: return []
        }
    }

    private mutating func freezeFailed(_ number: UInt64) -> [Effect] {
        guard number == attempt, phase == .freezing else { return [] }
        phase = .running
        return [.save]
    }

    private mutating func thawed(_ number: UInt64) -> [Effect] {
        guard number == attempt, phase == .thawing else { return [] }
        if terminateAfterThaw {
            terminateAfterThaw = false
            if let stopReason, staysFor(stopReason) { return quiesce(graceful: true) }
            phase = .terminating
            return [.terminate(attempt: number)]
        }
        if commandCode != nil { return afterCommand() }
        phase = .running
        return [.save]
    }

    private mutating func released(_ number: UInt64) -> [Effect] {
        guard number == attempt, phase == .releasing else { return [] }
        return settle(outcome ?? Outcome(exitCode: nil, reason: .lost))
    }

    private mutating func settle(_ result: Outcome) -> [Effect] {
        outcome = result
        lastEnd = End(attempt: attempt, outcome: result)
        terminateAfterThaw = false
        phase = .stopped
        if wantsDelete {
            phase = .removing
            return [.save, .settled, .remove]
        }
        if wantsRestart {
            wantsRestart = false
            return [.settled] + start()
        }
        return [.save, .settled]
    }
}
