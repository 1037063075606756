package import AegisCore
internal import LinuxSys
internal import Synchronization

/// The durable log of one instance: every byte that its processes wrote, within a bound.
///
/// Writing is synchronous and never waits for readers; what `append` says is saved survives `kill -9` (decision D12), and
/// `savedOffset` is the same before and after one. Any number of readers follow at their own pace; whom rotation overtakes
/// is told how much was missed. Call it from any thread.
package final class InstanceLog: Sendable {
    private enum Phase { case live, ended, closed }
    private struct State: ~Copyable {
        var writer: LogWriter
        var phase = Phase.live
    }

    let directory: LogDirectory
    private let path: String
    private let state: Mutex<State>
    let changes = ChangeSignal()

    /// Opens the log in a directory, which is made if it is missing. Reads the newest segment (up to 8 MiB by default) and
    /// cuts off what a crash left half written; blocks on the disk.
    ///
    /// - Parameters:
    ///   - path: the log's own directory, `AEGIS_HOME/logs/<instance id>`.
    ///   - limits: how much is kept.
    ///   - now: the clock of the records.
    /// - Throws: `log-version` for a log of a newer Aegis, `log-unreadable` otherwise.
    package init(
        path: String, limits: LogLimits = .standard, now: @escaping @Sendable () -> Timestamp = { Timestamp.now() }
    ) throws(AegisError) {
        self.path = path
        do throws(Errno) { directory = try LogDirectory(path) } catch {
            throw .failed("log-unreadable", "the log directory '\(path)' cannot be used: \(error)")
        }
        let recovered = try RecoveredLog(directory)
        do throws(Errno) {
            let writer = try LogWriter(directory: directory, limits: limits, recovered: recovered, now: now)
            state = Mutex(State(writer: writer))
        } catch { throw .failed("log-unreadable", "the newest part of the log cannot be opened: \(error)") }
    }

    // MARK: Writing

    /// Sets what hides secrets in streams whose first output (in this daemon's life) is still to come; nil hides nothing.
    /// Set it before the first `append` of a run.
    package func setMask(_ factory: (@Sendable () -> (any LogMask)?)?) {
        state.withLock { $0.writer.maskFactory = factory }
    }

    /// The instance is started: gives the number of this run, which its processes carry. Streams of earlier runs are
    /// closed and forgotten; followers go on.
    package func beginRun() -> (run: UInt32, event: LogEvent?) {
        changing { state in
            state.phase = state.phase == .closed ? .closed : .live
            return state.writer.beginRun()
        }
    }

    /// The number of the last run, 0 before the first.
    package var run: UInt32 { state.withLock { $0.writer.run } }

    /// Takes output and saves it with one system call per 1 MiB.
    ///
    /// What was taken before is not stored twice; what is missing before `offset` is recorded as a gap. When the disk is
    /// full the output is lost (recorded as a gap once there is room) and the offset grows all the same: a full log disk
    /// never stops an instance.
    ///
    /// - Parameters:
    ///   - bytes: output of the process, as it came.
    ///   - process: whose.
    ///   - stream: `stdout` or `stderr`.
    ///   - offset: where in the stream the bytes begin.
    /// - Returns: the offset to acknowledge, and an event to tell once.
    package func append(_ bytes: Span<UInt8>, of process: LogProcess, _ stream: LogStream, at offset: UInt64)
        -> LogSaved
    {
        let key = LogKey(process, stream)
        let saved = state.withLock { state -> LogSaved in
            guard state.phase != .closed else { return LogSaved(offset: offset + UInt64(bytes.count)) }
            return state.writer.append(bytes, to: key, at: offset)
        }
        changes.signal()
        return saved
    }

    /// The stream has ended: an open line is complete, nothing more is taken.
    package func finish(_ process: LogProcess, _ stream: LogStream) -> LogSaved {
        let key = LogKey(process, stream)
        return changing { state in
            state.phase == .closed ? LogSaved(offset: 0) : state.writer.finish(key)
        }
    }

    /// Adds a line of Aegis's own.
    package func note(_ text: String) -> LogEvent? {
        let bytes = Array((text.hasSuffix("\n") ? text : text + "\n").utf8)
        return changing { state in
            guard state.phase != .closed else { return nil }
            let key = LogKey(stream: .system, run: state.writer.run, id: [])
            return state.writer.append(bytes.span, to: key, at: state.writer.streams[key]?.taken ?? 0).event
        }
    }

    /// The offset up to which a stream's output is saved, 0 for a stream that the log does not know.
    ///
    /// Exact after `kill -9`: a keeper that sends from here on makes the log complete, nothing lost and nothing doubled.
    package func savedOffset(_ process: LogProcess, _ stream: LogStream) -> UInt64 {
        state.withLock { $0.writer.streams[LogKey(process, stream)]?.saved ?? 0 }
    }

    /// The process's end was acknowledged everywhere: its offsets need not be kept.
    package func forget(_ process: LogProcess) -> LogEvent? {
        changing { state in
            guard state.phase != .closed else { return nil }
            let first = state.writer.forget(LogKey(process, .stdout))
            let second = state.writer.forget(LogKey(process, .stderr))
            return first ?? second
        }
    }

    /// Processes whose offsets the log keeps.
    package var processes: Set<LogProcess> {
        state.withLock { state in
            var found: Set<LogProcess> = []
            for key in state.writer.streams.states.keys where key.stream != .system {
                let id = key.id.isEmpty ? nil : String(decoding: key.id, as: UTF8.self)
                found.insert(LogProcess(run: key.run, execID: id))
            }
            return found
        }
    }

    // MARK: Ends

    /// The instance has ended: followers get the rest and end. `beginRun` makes it live again.
    package func markEnded() {
        changing { state in if state.phase == .live { state.phase = .ended } }
    }

    /// Ends followers and closes the file; nothing is written any more. Idempotent.
    package func close() {
        changing { state in
            state.phase = .closed
            state.writer.closeFile()
        }
    }

    /// Closes the log and removes it with all that it holds. Idempotent; blocks on the disk.
    ///
    /// - Throws: `log-not-removed` when the file system refuses.
    package func delete() throws(AegisError) {
        close()
        try Self.remove(path: path)
    }

    /// Removes the log of an instance that is gone.
    package static func remove(path: String) throws(AegisError) {
        do throws(Errno) { try Files.removeTree(path) } catch {
            throw .failed("log-not-removed", "the log '\(path)' cannot be removed: \(error)")
        }
    }

    private func changing<T>(_ body: (inout State) -> T) -> T {
        let result = state.withLock { body(&$0) }
        changes.signal()
        return result
    }

    // MARK: For readers

    /// What a reader finds at a place.
    enum Place: Equatable {
        /// Whole records up to this offset of the segment's file.
        case records(LogCursor, upTo: UInt64)
        /// Rotation or damage took so much output; go on at the cursor.
        case gap(LogCursor, bytes: UInt64)
        /// Everything was read; more may come unless `ended`.
        case end(LogCursor?, ended: Bool)
    }

    /// What lies at a place; nil = the log's beginning.
    func place(_ cursor: LogCursor?) -> Place {
        state.withLock { state in
            let segments = state.writer.segments
            let ended = state.phase != .live
            guard let first = segments.first else { return .end(nil, ended: ended) }
            guard var cursor else { return .records(LogCursor(startOf: first), upTo: first.size) }
            if cursor.sequence < first.sequence {
                let start = LogCursor(startOf: first)
                return .gap(start, bytes: start.position - min(start.position, cursor.position))
            }
            var index = segments.firstIndex { $0.sequence >= cursor.sequence } ?? segments.count - 1
            while segments[index].sequence != cursor.sequence || cursor.offset >= segments[index].size {
                if segments[index].sequence == cursor.sequence {
                    guard index + 1 < segments.count else { return .end(cursor, ended: ended) }
                    index += 1
                }
                let next = LogCursor(startOf: segments[index])
                if next.position > cursor.position {
                    return .gap(next, bytes: next.position - cursor.position)
                }
                cursor = next
            }
            return .records(cursor, upTo: segments[index].size)
        }
    }

    /// The segments as they are now, oldest first; the output in the log up to their end; streams with an open line.
    var snapshot: (segments: [Segment], position: UInt64, open: Set<LogKey>) {
        state.withLock { state in
            let open = state.writer.streams.states.filter { $0.value.column > 0 && !$0.value.finished }
            return (state.writer.segments, state.writer.position, Set(open.keys))
        }
    }
    /// Output in the log since its beginning, in bytes; what was dropped included.
    package var position: UInt64 { state.withLock { $0.writer.position } }
    /// Why output is lost at present; nil while it is stored. Ends with the next output that finds room.
    package var obstacle: AegisError? { state.withLock { $0.writer.obstacle } }
    /// Bytes on disk.
    package var storedBytes: UInt64 { state.withLock { $0.writer.segments.reduce(0) { $0 + $1.size } } }
}
