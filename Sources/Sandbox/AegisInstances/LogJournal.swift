internal import AegisCore
internal import AegisLogs
internal import AegisSessions

/// Saves the output of one process in the instance's log.
struct LogJournal: OutputJournal {
    let log: InstanceLog
    let process: LogProcess
    let logger: Logger

    func save(_ kind: OutputKind, offset: UInt64, bytes: ArraySlice<UInt8>) -> UInt64 {
        let saved = log.append(bytes.span, of: process, stream(kind), at: offset)
        report(saved.event)
        return saved.offset
    }

    func finish(_ kind: OutputKind) { report(log.finish(process, stream(kind)).event) }

    private func stream(_ kind: OutputKind) -> LogStream { kind == .stdout ? .stdout : .stderr }

    private func report(_ event: LogEvent?) { event.map { logger.log($0) } }
}

extension Logger {
    /// Tells what happened to a log's disk.
    func log(_ event: LogEvent) {
        switch event {
        case .failing(let error): self.error("a log cannot be written", ("error", error.message))
        case .recovered(let lost): warning("a log can be written again", ("lost_bytes", "\(lost)"))
        }
    }
}
