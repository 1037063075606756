package import LinuxSys

extension FileStream {
    /// What the kernel has told about the other end of a socket.
    package enum Peer: UInt8, Sendable, Comparable {
        /// Nothing: it may send and receive.
        case open
        /// It sends no more (it may have closed altogether); bytes from before may still wait to be read.
        case ended
        /// The connection is gone in both directions.
        case lost
        package static func < (a: Peer, b: Peer) -> Bool { a.rawValue < b.rawValue }
    }

    /// The state of the other end, as far as the loop has heard; costs no system call.
    package var peer: Peer { Peer(rawValue: watched.peerEnding) ?? .lost }

    /// Whether nobody is at the other end any more.
    ///
    /// Who sends no more may still wait for an answer (a half-closed connection). Only the host that it is on knows, so of a
    /// client elsewhere that is found out once something is sent to it. Asks the kernel only of one that sends no more.
    package var isForsaken: Bool {
        switch peer {
        case .open: false
        case .lost: true
        case .ended: presence == .gone
        }
    }

    package var presence: PeerPresence {
        if isClosed || peer == .lost { return .gone }
        let found = try? withDescriptor("looking for the peer") { descriptor throws(Errno) in
            try descriptor.peerPresence()
        }
        return found ?? .unknown
    }

    /// Whether this side has closed it.
    package var isClosed: Bool { watched.isClosed }

    /// Waits for bytes and appends them, like `read`, with one system call where `read` often takes two.
    ///
    /// For a task that goes straight on to wait after it has used what came: after a read that left nothing behind it
    /// waits first instead of asking first.
    ///
    /// - Returns: how many came; 0 at the end of the stream.
    /// - Throws: `.timeout` after `interruptRead`, `.closed` after `close()`, `.cancelled`.
    package func readNext(into buffer: inout ByteBuffer, atMost limit: Int) async throws(IOError) -> Int {
        while true {
            if mayHaveMore, let count = try readNow(into: &buffer, atMost: limit) { return count }
            try await wait(.read, for: "reading")
            noteArrival()
        }
    }

    /// The same for a task whose stream is closed when the task is cancelled: it does not look at that itself.
    ///
    /// - Returns: how many came; 0 at the end of the stream.
    /// - Throws: as `readNext`, without `.cancelled`.
    package func readPlainly(into buffer: inout ByteBuffer, atMost limit: Int) async throws(IOError) -> Int {
        while true {
            if mayHaveMore, let count = try readNow(into: &buffer, atMost: limit) { return count }
            try Self.check(await watched.waitPlainly(.read))
            noteArrival()
        }
    }

    /// Waits until there may be bytes to read; at once when the last read may have left some behind. For tasks like
    /// those of `readPlainly`.
    ///
    /// - Throws: as `readPlainly`.
    package func waitForBytes() async throws(IOError) {
        if mayHaveMore { return }
        try Self.check(await watched.waitPlainly(.read))
        noteArrival()
    }

    /// Waits until bytes can be sent. For tasks like those of `readPlainly`.
    ///
    /// - Throws: `.closed`.
    package func waitPlainlyUntilWritable() async throws(IOError) {
        try Self.check(await watched.waitPlainly(.write))
    }

    private static func check(_ outcome: WatchedDescriptor.Outcome) throws(IOError) {
        switch outcome {
        case .ready: return
        case .closed: throw .closed
        case .cancelled: throw .cancelled
        case .timedOut: throw .timeout
        case .busy: throw .system(.busy, "waiting from two tasks at once")
        }
    }

    /// Waits without a task: calls `body` once, on the loop's thread or on that of whoever closes the stream.
    ///
    /// - Parameter body: told whether there may be bytes to read; else the stream was closed or the wait interrupted.
    package func whenReadable(_ body: @escaping @Sendable (Bool) -> Void) {
        if mayHaveMore { return body(true) }
        watched.whenReady(.read) { outcome in
            if outcome == .ready { self.noteArrival() }
            body(outcome == .ready)
        }
    }

    /// Waits until bytes can be sent.
    ///
    /// - Throws: `.closed`, `.cancelled`.
    package func waitUntilWritable() async throws(IOError) { try await wait(.write, for: "writing") }

    /// Ends a read that waits now with `.timeout`; does nothing when none waits.
    package func interruptRead() { watched.interrupt(.read) }

    /// Closes so that the peer sees a reset: the connection did not end well.
    package func reset() {
        try? withDescriptor("resetting") { descriptor throws(Errno) in try descriptor.setResetOnClose() }
        close()
    }

    /// Gives the connection to another loop; this stream is closed by it, and bytes in the kernel stay.
    ///
    /// - Returns: the same connection, watched by the other loop; itself when that is its loop already.
    /// - Throws: `.closed`, or what watching it there failed with.
    package func moved(to other: EventLoop) throws(IOError) -> FileStream {
        if other === loop { return self }
        guard let descriptor = watched.takeDescriptor() else { throw .closed }
        return try FileStream(descriptor, on: other)
    }

    /// Whether the peer's kernel has taken all that was sent; also when that cannot be said.
    package var isAcknowledged: Bool {
        let count = try? withDescriptor("looking at what was sent") { descriptor throws(Errno) in
            try descriptor.unacknowledged()
        }
        return (count ?? 0) == 0
    }

    /// Lets the kernel notice a peer that vanished without a word, within about two minutes.
    package func setKeepAlive() {
        try? withDescriptor("watching the peer") { descriptor throws(Errno) in
            try descriptor.setKeepAlive(idle: 60, interval: 15, count: 4)
        }
    }
}
