internal import AegisCore
internal import LinuxSys

/// The writing half of a log. Synchronous: what it says is saved has been given to the kernel.
struct LogWriter: ~Copyable {
    let directory: LogDirectory
    let limits: LogLimits
    private let now: @Sendable () -> Timestamp
    private(set) var segments: [Segment]
    private(set) var streams: StreamTable
    private(set) var run: UInt32
    private(set) var position: UInt64
    var maskFactory: (@Sendable () -> (any LogMask)?)?
    private var file: FileDescriptor?
    private var lastTime: Int64
    /// Bytes lost since writing failed; nil while it works.
    private var lostWhileFailing: UInt64?
    /// Why output is not stored now; nil while it is.
    private(set) var obstacle: AegisError?
    private var event: LogEvent?
    private var head: [UInt8] = []
    /// Size of the newest segment before its first record of output.
    private var emptySize: UInt64
    private static let nothing: [UInt8] = []

    init(
        directory: LogDirectory, limits: LogLimits, recovered: RecoveredLog, now: @escaping @Sendable () -> Timestamp
    ) throws(Errno) {
        let file: FileDescriptor? =
            if let newest = recovered.segments.last {
                try directory.open(newest.sequence, writing: true)
            } else { nil }
        self.directory = directory
        self.limits = limits
        self.now = now
        segments = recovered.segments
        streams = recovered.streams
        run = recovered.run
        position = recovered.position
        lastTime = recovered.lastTime
        self.file = file
        emptySize = UInt64(SegmentHeader.length)
    }

    // MARK: What callers do

    mutating func append(_ bytes: Span<UInt8>, to key: LogKey, at offset: UInt64) -> LogSaved {
        var state = streams.take(key)
        defer { streams.put(key, state) }
        if !state.finished {
            // What a keeper sends again after a reconnection is in the log already.
            let skipped = offset < state.taken ? Int(min(UInt64(bytes.count), state.taken - offset)) : 0
            if offset > state.taken { skip(to: offset, key, &state) }
            if skipped < bytes.count { take(bytes.extracting(droppingFirst: skipped), key, &state) }
        }
        return LogSaved(offset: state.saved, event: takeEvent())
    }

    /// The stream has ended: what the mask held back is written, an open line is closed.
    mutating func finish(_ key: LogKey) -> LogSaved {
        var state = streams.take(key)
        defer { streams.put(key, state) }
        if !state.finished {
            release(key, &state)
            if tellLoss(key, &state, before: state.taken) {
                _ = write(.end, key, Self.nothing.span, raw: 0, offset: state.taken, column: state.column)
                state.stored = state.taken
                state.column = 0
            }
            state.finished = true
        } else {
            // The disk was full when it ended.
            _ = tellLoss(key, &state, before: state.taken)
        }
        return LogSaved(offset: state.saved, event: takeEvent())
    }

    mutating func forget(_ key: LogKey) -> LogEvent? {
        guard let state = streams[key] else { return nil }
        if !state.finished || state.lost > 0 { event = finish(key).event }
        _ = write(.forget, key, Self.nothing.span, raw: 0, offset: state.taken, column: 0)
        streams.forget(key)
        return takeEvent()
    }

    mutating func beginRun() -> (run: UInt32, event: LogEvent?) {
        var first: LogEvent?
        for (key, state) in streams.states.sorted(by: { $0.value.order < $1.value.order })
        where !state.finished || state.lost > 0 {
            let event = finish(key).event
            first = first ?? event
        }
        streams.removeAll()
        run += 1
        let key = LogKey(stream: .system, run: run, id: [])
        _ = write(.run, key, Self.nothing.span, raw: 0, offset: 0, column: 0)
        return (run, first ?? takeEvent())
    }

    mutating func closeFile() { file = nil }

    private mutating func takeEvent() -> LogEvent? {
        defer { event = nil }
        return event
    }

    // MARK: Streams

    /// The caller goes on further ahead: what lies between is lost.
    private mutating func skip(to offset: UInt64, _ key: LogKey, _ state: inout StreamState) {
        release(key, &state)
        state.lost += offset - state.taken
        state.taken = offset
    }

    private mutating func take(_ bytes: Span<UInt8>, _ key: LogKey, _ state: inout StreamState) {
        if !state.hasMask {
            state.hasMask = true
            state.mask = maskFactory?()
        }
        guard var mask = state.mask else {
            state.taken += UInt64(bytes.count)
            return store(bytes, raw: bytes.count, key, &state)
        }
        state.mask = nil
        var out: [UInt8] = []
        out.reserveCapacity(bytes.count + state.held)
        let held = mask.push(bytes, into: &out)
        let raw = state.held + bytes.count - held
        state.mask = mask
        state.taken += UInt64(bytes.count)
        state.held = held
        if raw > 0 || !out.isEmpty { store(out.span, raw: raw, key, &state) }
    }

    /// Writes what the mask holds back.
    private mutating func release(_ key: LogKey, _ state: inout StreamState) {
        guard state.held > 0, var mask = state.mask else { return }
        var out: [UInt8] = []
        mask.flush(into: &out)
        let raw = state.held
        state.mask = mask
        state.held = 0
        store(out.span, raw: raw, key, &state)
    }

    /// Writes output that ends at the stream's saved offset, in records of bounded length.
    private mutating func store(_ bytes: Span<UInt8>, raw: Int, _ key: LogKey, _ state: inout StreamState) {
        let before = (segment: segments.last, state: state)
        let left = tellLoss(key, &state, before: state.saved - UInt64(raw)) ? write(bytes, raw: raw, key, &state) : raw
        guard left > 0 else {
            if let lost = lostWhileFailing {
                lostWhileFailing = nil
                obstacle = nil
                event = .recovered(lostBytes: lost)
            }
            return
        }
        lostWhileFailing = (lostWhileFailing ?? 0) + UInt64(left)
        if left == raw, before.state.lost > 0, state.lost == 0, let segment = before.segment,
            segments.last?.sequence == segment.sequence
        {
            // A full disk may take the small record of the gap and refuse the output: one gap is told, not many.
            try? truncate(to: segment.size)
            state = before.state
        }
        state.lost += UInt64(left)
    }

    private mutating func truncate(to size: UInt64) throws(Errno) {
        segments[segments.count - 1].size = size
        guard let open = file.take() else { return }
        let result = Result { () throws(Errno) in try open.truncate(to: size) }
        file = consume open
        try result.get()
    }

    /// Writes output as records; how much of it (raw) could not be written.
    private mutating func write(_ bytes: Span<UInt8>, raw: Int, _ key: LogKey, _ state: inout StreamState) -> Int {
        var left = raw
        var at = 0
        repeat {
            let piece = bytes.extracting(at..<min(at + limits.recordBytes, bytes.count))
            at += piece.count
            let pieceRaw = at == bytes.count ? left : min(piece.count, left)
            let offset = state.saved - UInt64(left)
            guard write(.data, key, piece, raw: pieceRaw, offset: offset, column: state.column) else { return left }
            position += UInt64(pieceRaw)
            state.stored = offset + UInt64(pieceRaw)
            left -= pieceRaw
            state.column = LinePhase.column(after: piece, from: state.column)
        } while at < bytes.count
        return 0
    }

    /// Writes the record of a stream's lost output, if there is any; false when that fails too.
    private mutating func tellLoss(_ key: LogKey, _ state: inout StreamState, before end: UInt64) -> Bool {
        guard state.lost > 0 else { return true }
        var payload: [UInt8] = []
        payload.append(littleEndian: state.lost)
        // The offset is the one after the hole: a recovery goes on from there.
        guard
            write(
                .gap, key, payload.span, raw: 0, offset: end, column: state.column, stored: end - state.lost)
        else { return false }
        state.lost = 0
        state.stored = end
        state.column = 0
        return true
    }

    // MARK: Records

    // `stored` says where the stream stands before this record, for the table of a new segment.
    private mutating func write(
        _ kind: RecordKind, _ key: LogKey, _ payload: Span<UInt8>, raw: Int, offset: UInt64, column: Int,
        stored: UInt64? = nil
    ) -> Bool {
        streams.note(key, stored: stored ?? offset, column: column)
        lastTime = max(lastTime, now().milliseconds)
        let header = RecordHeader(
            kind: kind, key: key, stored: payload.count, raw: raw, time: lastTime, offset: offset, column: column)
        do throws(Errno) {
            try makeRoom(for: UInt64(header.total))
            // Taken out for the call, so that its memory is used again and again.
            var bytes: [UInt8] = []
            swap(&bytes, &head)
            defer { swap(&bytes, &head) }
            header.encode(payload: payload, into: &bytes)
            try put(bytes.span, payload, total: header.total)
        } catch {
            if lostWhileFailing == nil {
                let reason = Self.explain(error)
                lostWhileFailing = 0
                obstacle = reason
                event = .failing(reason)
            }
            return false
        }
        return true
    }

    /// Writes a record behind the last one; a part of it that was written is cut off again.
    private mutating func put(_ head: Span<UInt8>, _ payload: Span<UInt8>, total: Int) throws(Errno) {
        guard let open = file.take() else { throw .badDescriptor }
        let size = segments[segments.count - 1].size
        let trailer: [4 of UInt8] = [
            UInt8(truncatingIfNeeded: total), UInt8(truncatingIfNeeded: total >> 8),
            UInt8(truncatingIfNeeded: total >> 16), UInt8(truncatingIfNeeded: total >> 24),
        ]
        var failure: Errno?
        do throws(Errno) {
            let written = try open.write(head, payload, trailer.span, at: size)
            if written != total { failure = .noSpace }
        } catch { failure = error }
        if failure != nil { try? open.truncate(to: size) }
        file = consume open
        if let failure { throw failure }
        segments[segments.count - 1].size += UInt64(total)
    }

    private mutating func makeRoom(for bytes: UInt64) throws(Errno) {
        if file != nil, let size = segments.last?.size, size <= emptySize || size + bytes <= limits.segmentBytes {
            return
        }
        try rotate()
    }

    /// Begins a new segment, dropping the oldest first so that the bound holds at every moment.
    private mutating func rotate() throws(Errno) {
        while segments.count >= limits.segments { directory.remove(segments.removeFirst().sequence) }
        let sequence = (segments.last?.sequence ?? 0) + 1
        let header = SegmentHeader(sequence: sequence, position: position, madeAt: lastTime)
        var bytes = header.encode()
        for payload in streams.encoded(limit: 16 << 10) {
            let record = RecordHeader(
                kind: .streams, key: LogKey(stream: .system, run: run, id: []), stored: payload.count, raw: 0,
                time: lastTime, offset: 0, column: 0)
            record.encode(payload: payload.span, into: &head)
            bytes += head + payload
            bytes.append(littleEndian: UInt32(record.total))
        }
        let name = LogDirectory.name(sequence)
        let fresh = try directory.descriptor.open(
            name + ".new", [.readWrite, .create, .truncate, .noFollow], mode: 0o600)
        do throws(Errno) {
            guard try fresh.write(bytes[...]) == bytes.count else { throw .noSpace }
            try directory.descriptor.rename(name + ".new", as: name)
        } catch {
            try? directory.descriptor.removeFile(name + ".new")
            throw error
        }
        segments.append(
            Segment(sequence: sequence, position: position, madeAt: lastTime, size: UInt64(bytes.count)))
        emptySize = UInt64(bytes.count)
        file = consume fresh
    }

    private static func explain(_ error: Errno) -> AegisError {
        // 122 is EDQUOT.
        error == .noSpace || error.code == 122
            ? .failed(
                "log-disk-full", "no space left for the instance's log; its output is not stored any more",
                hint: "free disk space under AEGIS_HOME; the log goes on by itself")
            : .failed("log-write-failed", "the instance's log cannot be written: \(error)")
    }
}
