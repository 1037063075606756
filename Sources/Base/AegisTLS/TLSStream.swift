package import AegisIO
internal import LinuxSys
internal import Synchronization

/// A stream inside TLS, over any other stream.
///
/// Nothing of it blocks: ciphertext is moved by the tasks that read and write. An end that the peer did not announce
/// (`close_notify`) is an error and no end of the stream: it may have been cut by somebody in between.
package final class TLSStream: ByteStream {
    private struct State: ~Copyable {
        var session: TLSSession
        var isReading = false
        var isWriting = false
        /// Nothing more may be written.
        var hasEnded = false
        /// What was to be sent and could not be sent without waiting; goes before everything else.
        var unsent = ByteBuffer()
        /// The other side is to see the end of the stream below when `unsent` is out.
        var endsBelow = false
    }

    private let below: any ByteStream
    private let state: Mutex<State>
    /// The server that the client asked for: what it said on the server's side, the host on the client's.
    package let serverName: String?
    /// What both agreed to speak inside; nil when nothing was offered.
    package let applicationProtocol: String?
    /// As in `TLSv1.3`.
    package let version: String

    /// Ciphertext that is read at once.
    private static var portion: Int { 64 << 10 }
    /// Plain bytes that are encrypted at once.
    private static var writePortion: Int { 64 << 10 }

    init(_ session: consuming TLSSession, over below: any ByteStream) {
        serverName = session.host ?? session.wantedName
        applicationProtocol = session.applicationProtocol
        version = session.version
        self.below = below
        state = Mutex(State(session: session))
    }

    deinit { close() }

    // MARK: Reading

    package func read(into buffer: inout ByteBuffer, atMost limit: Int) async throws(IOError) -> Int {
        precondition(limit > 0, "a read of nothing")
        guard state.withLock({ claim(&$0.isReading) }) else { throw .system(.busy, "reading from two tasks at once") }
        defer { state.withLock { $0.isReading = false } }
        var cipher = ByteBuffer()
        while true {
            if Task.isCancelled { throw .cancelled }
            let (step, count) = try take(into: &buffer, limit)
            switch step {
            case .done: return count
            case .ended: return 0
            case .wantsBytes, .wantsLeaf: break
            }
            try await flushIfIdle()
            let read = try await below.read(into: &cipher, atMost: Self.portion)
            try feed(&cipher, ended: read == 0)
        }
    }

    private func take(into buffer: inout ByteBuffer, _ limit: Int) throws(IOError) -> (TLSSession.Step, Int) {
        do throws(TLSError) {
            return try state.withLock { state throws(TLSError) in
                try state.session.read(into: &buffer, atMost: limit)
            }
        } catch {
            // The peer is told why, if that can be done without waiting.
            sendNow()
            throw Self.broken(error)
        }
    }

    private func feed(_ cipher: inout ByteBuffer, ended: Bool) throws(IOError) {
        do throws(TLSError) {
            try state.withLock { state throws(TLSError) in
                if ended { state.session.feedEnd() } else { try state.session.feed(&cipher) }
            }
        } catch { throw Self.broken(error) }
    }

    private static func broken(_ error: TLSError) -> IOError { IOError(.closed, error.message) }

    // MARK: Writing

    package func write(_ bytes: ArraySlice<UInt8>) async throws(IOError) {
        try claimWriting()
        defer { state.withLock { $0.isWriting = false } }
        var rest = bytes
        var cipher = ByteBuffer()
        while !rest.isEmpty {
            if Task.isCancelled { throw .cancelled }
            let piece = rest.prefix(Self.writePortion)
            rest = rest.dropFirst(piece.count)
            do throws(TLSError) {
                try state.withLock { state throws(TLSError) in
                    guard !state.hasEnded else { throw TLSError(.cut, "the stream was ended here") }
                    try state.session.write(piece)
                    Self.collect(&state, into: &cipher)
                }
            } catch { throw Self.broken(error) }
            try await sendAll(&cipher)
        }
    }

    private func claimWriting() throws(IOError) {
        guard state.withLock({ claim(&$0.isWriting) }) else { throw .system(.busy, "writing from two tasks at once") }
    }

    /// What waits to be sent, oldest first.
    private static func collect(_ state: inout State, into cipher: inout ByteBuffer) {
        if !state.unsent.isEmpty {
            cipher.append(state.unsent.readable)
            state.unsent.removeAll()
        }
        state.session.takeOutgoing(into: &cipher)
    }

    /// Sends ciphertext; a record that was sent in part only would break the session, so nothing else may follow then.
    private func sendAll(_ cipher: inout ByteBuffer) async throws(IOError) {
        guard !cipher.isEmpty else { return }
        do throws(IOError) { try await below.write(cipher.readable) } catch {
            state.withLock { $0.hasEnded = true }
            throw error
        }
        cipher.removeAll()
    }

    /// Before a task waits for the peer it sends what the session has to say, unless another task is writing.
    private func flushIfIdle() async throws(IOError) {
        var cipher = ByteBuffer()
        let (mine, endsBelow) = state.withLock { state -> (Bool, Bool) in
            guard !state.isWriting else { return (false, false) }
            Self.collect(&state, into: &cipher)
            guard !cipher.isEmpty else { return (false, false) }
            state.isWriting = true
            return (true, state.endsBelow)
        }
        guard mine else { return }
        defer { state.withLock { $0.isWriting = false } }
        try await sendAll(&cipher)
        if endsBelow { try below.closeWrite() }
    }

    // MARK: Ending

    /// Tells the peer that nothing more comes, and waits until that is sent.
    ///
    /// - Throws: `.closed`, `.cancelled`.
    package func end() async throws(IOError) {
        try claimWriting()
        defer { state.withLock { $0.isWriting = false } }
        var cipher = ByteBuffer()
        state.withLock { state in
            if !state.hasEnded { state.session.end() }
            state.hasEnded = true
            Self.collect(&state, into: &cipher)
        }
        try await sendAll(&cipher)
        try below.closeWrite()
    }

    /// Tells the peer that nothing more comes. What cannot be sent without waiting goes with the next `read` or `end`.
    package func closeWrite() throws(IOError) {
        let ended = state.withLock { state -> Bool in
            if !state.hasEnded { state.session.end() }
            state.hasEnded = true
            state.endsBelow = true
            return !state.isWriting
        }
        if ended, sendNow() { try below.closeWrite() }
    }

    /// Sends a few last bytes if that can be done without waiting; `close` is to follow.
    package func writeLast(_ bytes: ArraySlice<UInt8>) {
        state.withLock { state in
            guard !state.isWriting, !state.hasEnded else { return }
            try? state.session.write(bytes)
        }
        sendNow()
    }

    package func close() {
        state.withLock { state in
            if !state.hasEnded { state.session.end() }
            state.hasEnded = true
        }
        sendNow()
        below.close()
    }

    /// Closes so that the peer sees a reset: what was sent is not whole.
    package func reset() {
        state.withLock { $0.hasEnded = true }
        if let file = below as? FileStream { file.reset() } else { below.close() }
    }

    /// Sends what the session has to say if the stream below takes it at once.
    ///
    /// - Returns: whether nothing is left.
    @discardableResult
    private func sendNow() -> Bool {
        let file = below as? FileStream
        return state.withLock { state in
            guard !state.isWriting else { return false }
            var cipher = ByteBuffer()
            Self.collect(&state, into: &cipher)
            while !cipher.isEmpty, let sent = try? file?.writeNow(cipher.readable) { cipher.consume(sent) }
            state.unsent = cipher
            return cipher.isEmpty
        }
    }
}

/// Takes something for one task.
private func claim(_ taken: inout Bool) -> Bool {
    defer { taken = true }
    return !taken
}
