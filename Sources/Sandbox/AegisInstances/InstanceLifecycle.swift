// Long file: one state machine, read from top to bottom; cutting it would hide transitions from one another.
package import AegisBackends
package import AegisCore
package import AegisSandboxTypes

/// The life of one instance as a pure machine: events in, the next phase and effects out.
///
/// Nothing here does I/O or waits. Every effect that takes time reports back as an event that carries the attempt it
/// belongs to, so an answer that comes late (a boot that finished after the stop) is recognised and undone instead of
/// overwriting what happened meanwhile.
package struct InstanceLifecycle: Sendable, Equatable {
    /// Where the instance stands, finer than the state that users see.
    package enum Phase: Sendable, Equatable {
        case stopped
        /// The image, the workspace and the sandbox are being made.
        case booting
        /// The harness is up, the command was sent, no answer yet.
        case launching
        case running
        case freezing
        case paused
        case thawing
        /// A boot was cancelled; its outcome is awaited so that nothing of it is left.
        case aborting
        /// The processes were asked to end.
        case terminating
        /// The command has ended or must end, and so must everything else but the sandbox itself.
        case quiescing
        /// Nothing runs any more; the sandbox stays for its files until the instance is stopped or deleted.
        case lingering
        /// The sandbox is being killed.
        case killing
        /// The sandbox has ended; what it left on the host is being removed.
        case releasing
        /// The record is being removed.
        case removing
        case deleted
    }

    /// Why an instance is not running.
    package enum StopReason: String, Sendable, Equatable {
        case exited, stopped, killed, timeout, oom, lost, deleted
        case bootFailed = "boot-failed"
        case hostRestart = "host-restart"
        case clientGone = "client-gone"
    }

    /// Something that happened.
    package enum Event: Sendable, Equatable {
        case start
        case booted(attempt: UInt64)
        case bootFailed(attempt: UInt64, AegisError)
        case launched(attempt: UInt64)
        case launchFailed(attempt: UInt64, AegisError, exitCode: Int32)
        case commandExited(attempt: UInt64, code: Int32)
        case sandboxEnded(attempt: UInt64, Termination)
        /// Nothing runs in the sandbox any more.
        case quiesced(attempt: UInt64, oomKilled: Bool)
        case quiesceFailed(attempt: UInt64)
        case pause
        case frozen(attempt: UInt64)
        case freezeFailed(attempt: UInt64)
        case resume
        case thawed(attempt: UInt64)
        case stop(StopReason)
        /// As `stop`, without grace.
        case kill(StopReason)
        case restart
        case delete
        case released(attempt: UInt64)
        case removed
        /// A new daemon found the sandbox alive.
        case adopted(attempt: UInt64, paused: Bool, launched: Bool)
    }

    /// Something to do.
    package enum Effect: Sendable, Equatable {
        case boot(attempt: UInt64)
        case cancelBoot(attempt: UInt64)
        case launch(attempt: UInt64)
        case freeze(attempt: UInt64)
        case thaw(attempt: UInt64)
        /// SIGTERM to every process, SIGKILL after the grace, then the harness exits.
        case terminate(attempt: UInt64)
        /// End every process, at once or as `terminate` does, but not the sandbox.
        case quiesce(attempt: UInt64, graceful: Bool)
        case kill(attempt: UInt64)
        /// Let the keeper go and clean the host.
        case release(attempt: UInt64)
        case armTimeout(attempt: UInt64)
        case disarmTimeout
        /// Save the record.
        case save
        /// The instance has come to rest (stopped); the record says how.
        case settled
        case remove
    }

    /// How the last run ended.
    package struct Outcome: Sendable, Equatable {
        package var exitCode: Int32?
        package var reason: StopReason
        package var oomKilled = false
        package var error: AegisError?

        package init(exitCode: Int32? = nil, reason: StopReason, oomKilled: Bool = false, error: AegisError? = nil) {
            self.exitCode = exitCode
            self.reason = reason
            self.oomKilled = oomKilled
            self.error = error
        }
    }

    package private(set) var phase = Phase.stopped
    /// Counts boots; answers of earlier ones are stale.
    package private(set) var attempt: UInt64 = 0
    /// How the last run ended, known from `lingering` on.
    package private(set) var outcome: Outcome?
    /// Whether the sandbox outlives its command (decision D9); false for all but runs that bring artifacts home.
    private let lingers: Bool
    /// Why the stop under way was asked for.
    private var stopReason: StopReason?
    private var commandCode: Int32?
    private var launchError: AegisError?
    private var wantsRestart = false
    private var wantsDelete = false
    /// Whether the sandbox under `thawing` shall be terminated afterwards.
    private var terminateAfterThaw = false

    package init(outcome: Outcome? = nil, lingers: Bool = false) {
        self.outcome = outcome
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
        case .aborting, .terminating, .quiescing, .lingering, .killing, .releasing: .stopping
        }
    }

    /// Whether it is stopped for now, or for good: nothing is under way that leads elsewhere.
    package var isAtRest: Bool { phase == .stopped || phase == .removing || phase == .deleted }
    /// Whether the command's run is over and its outcome known, whatever is still there of the sandbox.
    package var isOver: Bool { isAtRest || phase == .lingering }

    /// Whether the command has ended by itself: nobody asked for its end, and it had begun. Its exit code is known.
    package var endedByItself: Bool { commandCode != nil && stopReason == nil && launchError == nil }

    /// Takes one event and says what to do.
    package mutating func handle(_ event: Event) -> [Effect] {
        guard phase != .deleted else { return [] }
        switch event {
        case .start: return start()
        case .stop(let reason): return stop(reason)
        case .kill(let reason): return kill(reason)
        case .restart: return restart()
        case .delete: return delete()
        case .pause: return pause()
        case .resume: return resume()
        case .removed:
            guard phase == .removing else { return [] }
            phase = .deleted
            return [.settled]
        case .adopted(let number, let paused, let launched):
            guard phase == .stopped else { return [] }
            attempt = number
            outcome = nil
            phase = launched ? (paused ? .paused : .running) : .launching
            return launched ? [.save, .armTimeout(attempt: number)] : [.save, .launch(attempt: number)]
        case .booted, .bootFailed, .launched, .launchFailed, .commandExited, .sandboxEnded, .quiesced, .quiesceFailed,
            .frozen, .freezeFailed, .thawed, .released:
            return answer(event)
        }
    }

    // MARK: What people ask for

    private mutating func start() -> [Effect] {
        switch phase {
        case .stopped:
            attempt += 1
            phase = .booting
            outcome = nil
            stopReason = nil
            commandCode = nil
            launchError = nil
            return [.save, .boot(attempt: attempt)]
        case .paused: return resume()
        case .aborting, .terminating, .quiescing, .lingering, .killing, .releasing:
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
        return goDown(.deleted, graceful: true)
    }

    private mutating func goDown(_ reason: StopReason, graceful: Bool) -> [Effect] {
        switch phase {
        case .booting:
            stopReason = reason
            phase = .aborting
            return [.cancelBoot(attempt: attempt), .save]
        case .launching, .running, .freezing:
            stopReason = reason
            if graceful && staysFor(reason) { return [.disarmTimeout] + quiesce(graceful: true) + [.save] }
            phase = graceful ? .terminating : .killing
            return [.disarmTimeout, graceful ? .terminate(attempt: attempt) : .kill(attempt: attempt), .save]
        case .paused, .thawing:
            stopReason = reason
            guard graceful else {
                phase = .killing
                return [.disarmTimeout, .kill(attempt: attempt), .save]
            }
            let thawing = phase == .thawing
            phase = .thawing
            terminateAfterThaw = true
            return thawing ? [.save] : [.disarmTimeout, .thaw(attempt: attempt), .save]
        case .quiescing where graceful:
            // Why the command ended stands already.
            guard reason != .timeout else { return [] }
            phase = .terminating
            return [.terminate(attempt: attempt), .save]
        case .terminating where !graceful, .quiescing, .lingering:
            phase = .killing
            return [.kill(attempt: attempt)]
        case .stopped, .aborting, .terminating, .killing, .releasing, .removing, .deleted: return []
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
        return [.freeze(attempt: attempt)]
    }

    private mutating func resume() -> [Effect] {
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
            outcome = conclude(termination)
            phase = .releasing
            return [.disarmTimeout, .release(attempt: number)]
        default: return []
        }
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
            return [.save]
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
