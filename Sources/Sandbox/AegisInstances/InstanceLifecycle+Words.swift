package import AegisBackends
package import AegisCore

/// The words of the machine: where it stands, what it is told, what it asks for.
extension InstanceLifecycle {
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
        /// The sandbox has ended; how is being saved, while its keeper still knows it.
        case recording
        /// The end is saved; what the sandbox left on the host is being removed.
        case releasing
        /// The record is being removed.
        case removing
        case deleted
    }

    /// Why an instance is not running.
    package enum StopReason: String, Sendable, Equatable, Codable {
        case exited, stopped, killed, timeout, oom, lost, deleted
        /// Nobody used it for long.
        case idle
        case bootFailed = "boot-failed"
        case hostRestart = "host-restart"
        case clientGone = "client-gone"
        /// Its network did not refuse what it has to.
        case policy = "policy-failed"
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
        /// As `delete`, by the client that the instance lived for, which has its end: nobody waits for it any more.
        case leave
        /// How the sandbox ended is saved.
        case recorded(attempt: UInt64)
        case released(attempt: UInt64)
        case removed
        /// A new daemon found the sandbox alive, or its keeper.
        case adopted(Adoption)
        /// A new daemon found nothing of a sandbox; what was asked for before it came is gone on with.
        case recovered(Intent?)
    }

    /// The end of one run.
    package struct End: Sendable, Equatable {
        package var attempt: UInt64
        package var outcome: Outcome
    }

    /// What a new daemon knows of a sandbox that it found.
    package struct Adoption: Sendable, Equatable {
        package var attempt: UInt64
        package var isPaused: Bool
        package var isLaunched: Bool
        /// Whether something of its start may have to be done although the command runs.
        package var isStarting: Bool
        /// What the daemon before had been asked for and had not done.
        package var intent: Intent?
        /// How the sandbox ended, if the daemon before had saved that.
        package var outcome: Outcome?

        package init(
            attempt: UInt64, isPaused: Bool = false, isLaunched: Bool = true, isStarting: Bool = false,
            intent: Intent? = nil, outcome: Outcome? = nil
        ) {
            self.attempt = attempt
            self.isPaused = isPaused
            self.isLaunched = isLaunched
            self.isStarting = isStarting
            self.intent = intent
            self.outcome = outcome
        }
    }

    /// What was asked for and is not done yet: saved with the record, so that it outlives the daemon.
    package struct Intent: Sendable, Equatable, Codable {
        package enum Verb: String, Sendable, Codable { case start, stop, restart, delete }
        package var verb: Verb
        /// Why it goes down, if it does.
        package var reason: StopReason?
        /// Whether its processes get no grace.
        package var isForced: Bool?

        package init(_ verb: Verb, reason: StopReason? = nil, isForced: Bool? = nil) {
            self.verb = verb
            self.reason = reason
            self.isForced = isForced
        }
    }

    /// Something to do.
    package enum Effect: Sendable, Equatable {
        case boot(attempt: UInt64)
        case cancelBoot(attempt: UInt64)
        case launch(attempt: UInt64)
        /// The command runs; what its start has to do after that is to be done.
        case finishLaunch(attempt: UInt64)
        case freeze(attempt: UInt64)
        case thaw(attempt: UInt64)
        /// SIGTERM to every process, SIGKILL after the grace, then the harness exits.
        case terminate(attempt: UInt64)
        /// End every process, at once or as `terminate` does, but not the sandbox.
        case quiesce(attempt: UInt64, graceful: Bool)
        case kill(attempt: UInt64)
        /// Save how the sandbox ended, however often it takes: the keeper is let go only then.
        case record(attempt: UInt64)
        /// Let the keeper go and clean the host.
        case release(attempt: UInt64)
        case armTimeout(attempt: UInt64)
        /// Ends what waits for a time: the timeout, the grace of a stop.
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
}
