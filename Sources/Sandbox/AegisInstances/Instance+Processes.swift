internal import AegisChannel
internal import AegisCore
internal import AegisLogs
internal import AegisSandboxTypes
internal import AegisSessions
internal import Synchronization

/// The processes of a run, and where their output goes.
extension Instance {
    /// A fresh table with the relay of the command in it.
    func newProcesses(_ attempt: UInt64, stdoutFrom: UInt64, stderrFrom: UInt64) {
        let table = ProcessTable { [weak self] number, end in
            guard number == Channel.taskProcess else { return }
            self?.post(.commandExited(attempt: attempt, code: Int32(truncatingIfNeeded: end.code)))
        }
        processes = table
        table.add(
            relay(
                Channel.taskProcess, execID: nil, holds: stored.info.ephemeral, stdoutFrom: stdoutFrom,
                stderrFrom: stderrFrom))
    }

    func relay(
        _ number: UInt16, execID: String?, holds: Bool, stdoutFrom: UInt64 = 0, stderrFrom: UInt64 = 0
    ) -> ProcessRelay {
        ProcessRelay(
            number: number, journal: journal(execID), holdsForWatcher: holds,
            stdoutFrom: stdoutFrom, stderrFrom: stderrFrom
        ) { [weak self] kind, offset in
            self?.link.withLock { $0 }?.acknowledge(number, kind, upTo: offset)
        }
    }

    /// Where the output of a process of the current run is saved.
    func journal(_ execID: String?) -> LogJournal {
        LogJournal(
            log: log, process: LogProcess(run: log.run, execID: execID), logger: services.logger.with("instance", id))
    }

    /// Tells the daemon's log what happened to the instance's.
    func note(_ event: LogEvent?) { event.map { services.logger.with("instance", id).log($0) } }
}
