package import AegisCore
internal import AegisJSON
package import AegisWire

/// How a process on a stream ended.
package struct StreamExit: Sendable, Equatable {
    /// As a shell tells it: the exit code, or 128 plus the signal.
    package var code: Int32
    /// The word for it, when the daemon gave one: `exited`, `timeout`, `oom`, ...
    package var reason: String?
    /// Why Aegis ended it or could not run it.
    package var error: AegisError?
    /// Makes an exit.
    package init(code: Int32, reason: String? = nil, error: AegisError? = nil) {
        self.code = code
        self.reason = reason
        self.error = error
    }
}

/// Where a stream of a process stands: the bytes before these offsets are settled.
package struct StreamOffsets: Sendable, Equatable {
    package var stdin: UInt64 = 0
    package var stdout: UInt64 = 0
    package var stderr: UInt64 = 0
    /// Makes offsets.
    package init(stdin: UInt64 = 0, stdout: UInt64 = 0, stderr: UInt64 = 0) {
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
    }
}

/// The client's side of aegis-stream/1 for one process, over as many connections as it takes.
///
/// Pure: bytes and frames go in, frames and events come out. It counts every byte, so that after a broken connection
/// output goes on at the byte after the last one received, and input at the byte that the daemon names.
package struct StreamClientState: Sendable {
    /// What a frame means for the caller.
    package enum Event: Sendable, Equatable {
        /// The daemon has said which process this is.
        case started
        /// Bytes to write; tell `consumed` when that is done.
        case output(StreamFrame.Kind, ArraySlice<UInt8>)
        /// Something to tell a waiting person.
        case notice(kind: String, text: String)
        /// More input may be sent.
        case room
        case exited(StreamExit)
        case failed(AegisError)
        case nothing
    }

    private struct Output: Sendable {
        /// Bytes of the process received so far.
        var received: UInt64 = 0
        var consumed: UInt64 = 0
        var window = CreditWindow.Receiver()
        /// Bytes at the start of this connection that were received on the one before.
        var repeated: UInt64 = 0
        /// Bytes received on earlier connections and not consumed yet; this connection's window does not know them.
        var carried = 0

        /// Counts consumed bytes; the credit to grant, when it is time.
        mutating func consume(_ count: Int) -> UInt32? {
            consumed += UInt64(count)
            let old = min(carried, count)
            carried -= old
            return count > old ? window.consumed(count - old) : nil
        }
        /// A new connection begins with a full window.
        mutating func reset() {
            carried += window.buffered
            window = CreditWindow.Receiver()
        }
    }
    private var stdout = Output()
    private var stderr = Output()
    private var credit = CreditWindow.Sender()
    /// Input that was taken from the caller and not acknowledged; its first byte has the offset `stdinBase`.
    private var unacknowledged: ArraySlice<UInt8> = []
    private var stdinBase: UInt64 = 0
    /// How much of `unacknowledged` was sent on this connection.
    private var sent = 0
    private var stdinEnded = false
    private var endSent = false
    private var connected = false
    /// Whether there was a hello, on this connection or an earlier one.
    package private(set) var hasStarted = false
    /// Whether the daemon said that the process has a terminal.
    package private(set) var hasTerminal = false
    /// Bytes of output that nobody can give us any more.
    package private(set) var lost: UInt64 = 0
    private var finished = false
    /// Credit and acknowledgements to send.
    private var control: [StreamFrame] = []
    /// Whether a live stream is joined in the middle: then the first hello sets the offsets.
    private var joinsLive: Bool

    /// Bytes of input that are kept for a resume: two windows.
    private static let retained = 2 * CreditWindow.size

    /// A stream at its start.
    ///
    /// - Parameter joinsLive: take output from wherever the daemon is, instead of from the first byte.
    package init(joinsLive: Bool = false) { self.joinsLive = joinsLive }

    /// What to ask for in the next request: the first byte of each stream that is not here yet.
    package var resume: StreamOffsets? {
        if joinsLive { return nil }
        return StreamOffsets(stdin: stdinBase, stdout: stdout.received, stderr: stderr.received)
    }

    /// How many bytes of input fit now.
    package var stdinRoom: Int { connected && !stdinEnded ? max(0, credit.available - unsent) : 0 }
    private var unsent: Int { unacknowledged.count - sent }
    /// Whether the process has ended and nothing more comes.
    package var isFinished: Bool { finished }

    // MARK: From the daemon

    /// Takes one frame.
    ///
    /// - Throws: when the daemon breaks the protocol.
    package mutating func receive(_ frame: StreamFrame) throws(StreamFrameError) -> Event {
        guard !finished else { throw .malformed("a \(frame.kind) frame came after the end") }
        switch frame.kind {
        case .stdout, .stderr: return try output(frame)
        case .hello: return try hello(frame)
        case .notice: return notice(frame)
        case .window:
            // A grant of nothing answers an empty frame.
            guard frame.flags.subject == .stdin, let bytes = frame.credit, bytes > 0 else { return .nothing }
            try credit.grant(bytes)
            forgetOldInput()
            return .room
        case .ack:
            if frame.flags.subject == .stdin, let offset = frame.offset { try acknowledged(offset) }
            return .nothing
        case .exit:
            finished = true
            return .exited(Self.exit(frame))
        case .error:
            finished = true
            return .failed(StreamJSON.error(frame.text ?? ""))
        case .stdin, .resize, .signal:
            throw .malformed("the daemon sent a \(frame.kind) frame")
        }
    }

    private mutating func output(_ frame: StreamFrame) throws(StreamFrameError) -> Event {
        let payload = frame.payload
        guard connected else { throw .malformed("output came before hello") }
        let isOut = frame.kind == .stdout
        var side = isOut ? stdout : stderr
        try side.window.received(payload.count)
        let known = Int(min(side.repeated, UInt64(payload.count)))
        side.repeated -= UInt64(known)
        side.received += UInt64(payload.count - known)
        if known > 0, let credit = side.window.consumed(known) { control.append(.window(credit, of: frame.kind)) }
        if isOut { stdout = side } else { stderr = side }
        if payload.count > known { return .output(frame.kind, payload.dropFirst(known)) }
        return .nothing
    }

    private mutating func hello(_ frame: StreamFrame) throws(StreamFrameError) -> Event {
        guard !connected else { throw .malformed("a second hello") }
        guard let text = frame.text, let json = try? JSONValue(parsing: text.utf8) else {
            throw .malformed("a hello that is no JSON")
        }
        connected = true
        hasStarted = true
        hasTerminal = json["tty"]?.flag ?? hasTerminal
        let offsets = StreamOffsets(
            stdin: json["stdin_offset"]?.unsigned ?? stdinBase,
            stdout: json["stdout_offset"]?.unsigned ?? stdout.received,
            stderr: json["stderr_offset"]?.unsigned ?? stderr.received)
        if joinsLive {
            joinsLive = false
            stdout.received = offsets.stdout
            stderr.received = offsets.stderr
            stdinBase = offsets.stdin
            stdout.consumed = stdout.received
            stderr.consumed = stderr.received
        }
        for (side, offset) in [(\Self.stdout, offsets.stdout), (\Self.stderr, offsets.stderr)] {
            let received = self[keyPath: side].received
            self[keyPath: side].repeated = received > offset ? received - offset : 0
            if offset > received {
                lost += offset - received
                self[keyPath: side].received = offset
            }
        }
        try resumeInput(at: offsets.stdin)
        return .started
    }

    /// The daemon has input up to `offset`; the rest is sent again.
    private mutating func resumeInput(at offset: UInt64) throws(StreamFrameError) {
        guard offset >= stdinBase, offset - stdinBase <= UInt64(unacknowledged.count) else {
            throw .malformed("input was to go on at byte \(offset), but \(stdinBase) was acknowledged")
        }
        unacknowledged = unacknowledged.dropFirst(Int(offset - stdinBase))
        stdinBase = offset
        sent = 0
        endSent = false
    }

    private mutating func acknowledged(_ offset: UInt64) throws(StreamFrameError) {
        // Of more than two windows the oldest is forgotten; its acknowledgement may still come.
        guard offset > stdinBase else { return }
        guard offset - stdinBase <= UInt64(sent) else {
            throw .malformed("byte \(offset) of the input was acknowledged before it was sent")
        }
        let count = Int(offset - stdinBase)
        unacknowledged = unacknowledged.dropFirst(count)
        stdinBase = offset
        sent -= count
    }

    /// What the daemon has taken is kept a while longer, for a daemon that comes back and has a little less; what is
    /// older than that is taken as safe, so that memory stays bounded when nothing is ever acknowledged.
    private mutating func forgetOldInput() {
        let taken = sent - (credit.capacity - credit.available)
        let old = min(taken, unacknowledged.count - Self.retained)
        guard old > 0 else { return }
        unacknowledged = unacknowledged.dropFirst(old)
        stdinBase += UInt64(old)
        sent -= old
        // A slice keeps the memory of what it has dropped.
        if unacknowledged.startIndex > 4 * Self.retained { unacknowledged = Array(unacknowledged)[...] }
    }

    private func notice(_ frame: StreamFrame) -> Event {
        guard let text = frame.text, let json = try? JSONValue(parsing: text.utf8), let words = json["text"]?.text
        else {
            return .nothing
        }
        return .notice(kind: json["kind"]?.text ?? "", text: words)
    }

    private static func exit(_ frame: StreamFrame) -> StreamExit {
        var exit = StreamExit(code: frame.exitStatus ?? 125)
        guard let text = frame.text, !text.isEmpty, let json = try? JSONValue(parsing: text.utf8) else { return exit }
        exit.reason = json["oom_killed"]?.flag == true ? "oom" : json["reason"]?.text
        if let error = json["error"], error != .null { exit.error = StreamJSON.error(error) }
        return exit
    }

    // MARK: To the daemon

    /// Counts bytes that were written for good.
    package mutating func consumed(_ kind: StreamFrame.Kind, _ count: Int) {
        let credit = kind == .stdout ? stdout.consume(count) : stderr.consume(count)
        guard let credit, connected, !finished else { return }
        control.append(.window(credit, of: kind))
        control.append(.ack((kind == .stdout ? stdout : stderr).consumed, of: kind))
    }

    /// Takes input from the caller, at most `stdinRoom` bytes.
    package mutating func input(_ bytes: ArraySlice<UInt8>) { unacknowledged += bytes }

    /// The caller's input has ended.
    package mutating func endInput() { stdinEnded = true }

    /// Frames that can go out now; ask again after every other call.
    package mutating func takeFrames() -> [StreamFrame] {
        guard connected, !finished else { return [] }
        var frames = control
        control = []
        let count = credit.take(atMost: unsent)
        if count > 0 {
            let start = unacknowledged.startIndex + sent
            frames.append(StreamFrame(.stdin, payload: Array(unacknowledged[start..<start + count])))
            sent += count
        }
        if stdinEnded, !endSent, unsent == 0 {
            frames.append(StreamFrame(.stdin, flags: .end))
            endSent = true
        }
        return frames
    }

    /// The connection is gone; the next one begins with full windows and a hello.
    package mutating func disconnected() {
        connected = false
        control = []
        credit = CreditWindow.Sender()
        stdout.reset()
        stderr.reset()
        sent = 0
    }
}

extension StreamFrameError {
    /// The daemon broke the protocol.
    fileprivate static func malformed(_ message: String) -> StreamFrameError { StreamFrameError(.malformed, message) }
}
